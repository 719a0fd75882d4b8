"""Model expansion: a task is taught to an expert of its own, or to that of a task like it (He et al., arXiv 2311.16206).

An expert of its own starts from the weights of the expert whose task is most like the new one; all others stay as they are.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from liit.engine.holding.task_features import by_task, similarity, vectors_of
from liit.engine.models.experts import BASE, QUERIES, Experts
from liit.engine.run.files import read_table
from liit.engine.run.progress import log
from liit.engine.run.store import Clock
from liit.engine.settings.config import Config
from liit.engine.training.teaching import teach
from liit.selectors.routing import sums


def expand(
    chosen: pa.Table,
    names_n: np.ndarray,
    rows: Callable[[pa.ChunkedArray], Iterable[pa.Table]],
    t: int,
    previous: Path | None,
    config: Config,
    tasks: Sequence[Path],
    partial: Path,
    clock: Clock,
) -> None:
    """Train the experts of these samples, whose tasks are `names_n`; at `partial` appear all experts, with their keys.

    chosen: their ids. rows: gives the SAMPLE rows of some of them. previous: experts of the timestep before, None at the first
    one. tasks: what all timesteps look like, this one last.
    """
    rule = config.training.experts
    assert rule is not None
    about = {"model": config.model.bare(), "tasks": config.tasks.model_dump()}
    base = by_task(read_table(tasks[0]))
    first = Experts(partial, about, {BASE: tuple(base)}, {BASE: _sums(base, list(base))})
    before = Experts.load(previous) if previous else first
    alike, _ = similarity(tasks, partial, t, Counter(names_n.tolist()))
    plan: dict[tuple[str, str], list[str]] = {}
    for task in alike.index:
        row = {str(old): float(value) for old, value in alike.loc[task].items()}
        plan.setdefault(before.for_task(task, row, rule.threshold, rule.start == "base"), []).append(task)
    partial.mkdir(exist_ok=True)
    for other, folder in before.adapters().items():
        if other not in {name for name, _ in plan}:
            _link(Path(folder), partial / other)
    told, keys, looks = dict(before.tasks), dict(before.keys), by_task(read_table(tasks[-1]))
    for (name, start), of in plan.items():
        how = "goes on with expert" if name == start else f"expert {name}, new, starts from"
        log.info("t%d: %s: %s %s", t, ", ".join(of), how, start)
        parent = None if start == BASE else before.folder / start
        mine = chosen["id"].filter(pa.array(np.isin(names_n.astype(str), of)))
        if not (partial / name).exists():  # else it was taught before a kill, and the working folder is another's
            teach(rows(mine), len(mine), t, parent, config, partial, clock, output=partial / name)
        new, known = _sums(looks, of), before.keys.get(name)
        keys[name] = {modality: new[modality] + (known[modality] if known else 0) for modality in QUERIES}
        told[name] = tuple(dict.fromkeys((*before.tasks.get(name, ()), *of)))
    Experts(partial, about, told, keys, tuple(name for name, _ in plan)).save()


def _sums(looks: Mapping[str, pa.Table], of: Sequence[str]) -> dict[str, np.ndarray]:
    """(D,) for each modality: the sum of the unit queries of the samples of these tasks."""
    found = sums(vectors_of(pa.concat_tables([looks[task] for task in of])))
    return {modality: found[modality] for modality in QUERIES}


def _link(folder: Path, target: Path) -> None:
    """Hard links: an adapter is never written to again."""
    target.mkdir(exist_ok=True)
    for file in folder.iterdir():
        if not (target / file.name).exists():
            os.link(file, target / file.name)
