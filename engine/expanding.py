"""Model expansion: a timestep is taught to an expert of its own, or to that of a task like it (He et al., arXiv 2311.16206).

An expert of its own starts from the weights of the expert whose task is most like the new one; all others stay as they are.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from liit.engine.config import Config
from liit.engine.experts import BASE, QUERIES, Experts
from liit.engine.progress import log
from liit.engine.store import Clock
from liit.engine.task_features import similarity, vectors_of
from liit.engine.teaching import teach
from liit.selectors.routing import sums


def expand(
    chosen: pa.Table,
    t: int,
    previous: Path | None,
    config: Config,
    tasks: Sequence[Path],
    partial: Path,
    clock: Clock,
) -> None:
    """Train one expert on these SAMPLE rows; at `partial` appear all experts, with their keys.

    previous: the experts of the timestep before, None at the first one. tasks: what all timesteps look like, this one last.
    """
    rule = config.training.experts
    assert rule is not None
    about = {"model": config.model.model_dump(), "tasks": config.tasks.model_dump()}
    first = Experts(partial, about, {BASE: ("t00",)}, {BASE: _sums(tasks[0])})
    before = Experts.load(previous) if previous else first
    name, start = before.for_task(similarity(tasks, partial, t).tolist(), rule.threshold, t)
    log.info("t%d: %s %s", t, "goes on with expert" if name == start else "a new expert that starts from", start)
    partial.mkdir(exist_ok=True)
    for other, folder in before.adapters().items():
        if other != name:
            _link(Path(folder), partial / other)
    parent = None if start == BASE else before.folder / start
    teach(chosen, t, parent, config, partial, clock, output=partial / name)
    mine, known = _sums(tasks[-1]), before.keys.get(name)
    keys = {modality: mine[modality] + (known[modality] if known else 0) for modality in QUERIES}
    told = (*before.tasks.get(name, ()), f"t{t:02d}")
    Experts(partial, about, {**before.tasks, name: told}, {**before.keys, name: keys}).save()


def _sums(task: Path) -> dict[str, np.ndarray]:
    found = sums(vectors_of(task))
    return {modality: found[modality] for modality in QUERIES}


def _link(folder: Path, target: Path) -> None:
    """Hard links: an adapter is never written to again."""
    target.mkdir(exist_ok=True)
    for file in folder.iterdir():
        if not (target / file.name).exists():
            os.link(file, target / file.name)
