"""Pseudo-tasks: clusters of gradients with names that last, so that what needs task labels needs none.

At t0 all samples are one task, what the base model was trained on. Later a cluster goes on with the name of the group whose
samples it holds, or gets one of its own: `t02-7`, cluster 7 of timestep 2.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from liit.engine.run.files import read_table, write_table
from liit.engine.run.progress import log
from liit.engine.run.tables import TASKS
from liit.selectors.matching import match


def name_tasks(t: int, pool: Path, clusters: Path | None, before: Path | None, least: float, partial: Path) -> None:
    """Write TASKS rows of a pool.

    clusters: of the pool, None at t0. before: the TASKS of the timestep before. least: overlap with which a name goes on.
    """
    if clusters is None or before is None:
        keys = read_table(pool, ["key"])["key"]
        write_table(partial, pa.table([keys, pa.array([task_of(t)] * len(keys), pa.string())], schema=TASKS))
        return
    table, known = read_table(clusters, ["key", "cluster"]), named(before)
    keys, labels = table["key"].to_pylist(), table["cluster"].to_pylist()
    shared = [at for at, key in enumerate(keys) if key in known]
    same = match([known[keys[at]] for at in shared], [labels[at] for at in shared], least)
    names = [str(same.get(label, f"{task_of(t)}-{label}")) for label in labels]
    write_table(partial, pa.table([table["key"], pa.array(names, pa.string())], schema=TASKS))
    kept = len(set(names) & set(known.values()))
    log.info("t%d: %d pseudo-tasks, %d of them known from before", t, len(set(names)), kept)


def task_of(t: int) -> str:
    """The name of a whole timestep's task."""
    return f"t{t:02d}"


def named(tasks: Path) -> dict[int, str]:
    """The task of every sample, by key."""
    table = read_table(tasks)
    return dict(zip(table["key"].to_pylist(), table["task"].to_pylist(), strict=True))


def names_of(keys_n: np.ndarray, t: int, tasks: Path | None) -> np.ndarray:
    """(n,) the task of each sample: that of its timestep where there are no pseudo-tasks."""
    if tasks is None:
        return np.full(len(keys_n), task_of(t), dtype=object)
    known: Mapping[int, str] = named(tasks)
    return np.array([known[key] for key in keys_n.tolist()], dtype=object)
