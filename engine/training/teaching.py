"""A timestep's training as a stage: the selected samples laid out for Ray Train, the adapter taken over from it."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import pyarrow as pa

from liit.engine.data.rows import write_rows
from liit.engine.fleet.connect import connect
from liit.engine.run.files import remove
from liit.engine.run.fingerprints import fingerprint
from liit.engine.run.progress import Bar
from liit.engine.run.store import Clock
from liit.engine.settings.config import Config
from liit.engine.training.finite import NotFinite
from liit.engine.training.job import TrainJob
from liit.engine.training.live_loss import live_loss
from liit.engine.training.ray_train import train


def teach(
    chosen: Iterable[pa.Table],
    count: int,
    t: int,
    parent: Path | None,
    config: Config,
    partial: Path,
    clock: Clock,
    importances: Sequence[tuple[str, float]] = (),
    output: Path | None = None,
) -> None:
    """Train on exactly these SAMPLE rows, `count` of them; the adapter appears at `partial`, or at `output` below it.

    parent: the adapter to continue, None for a fresh LoRA. importances: as `TrainJob` has them. The working folder beside
    `partial` holds the rows and Ray Train's checkpoints, from which a killed run continues; it goes when the adapter is there.
    Raises ValueError where nothing was selected, and NotFinite, one line, where a loss or gradient is no number.
    """
    if not count:
        raise ValueError(f"t{t}: nothing was selected, so there is nothing to train on; is the pool empty?")
    work, expert = partial.with_name("adapter.work"), "" if output is None else output.name
    work.mkdir(parents=True, exist_ok=True)
    rows = work / "samples.arrow"
    write_rows(rows, chosen)
    training, resources = config.training, config.resources
    job = TrainJob(
        model=config.model,
        training=training,
        seed=config.seed + t,
        samples=str(rows),
        parent=None if parent is None else str(parent),
        output=str(output or partial),
        name=_named(t, clock.record, expert),
        storage=str(work),
        cpus=resources.cpus_per_worker,
        gpus=resources.gpus_per_worker,
        importances=tuple(importances),
    )
    connect(resources)
    steps = training.epochs * ceil(count / training.batch_size)
    label = f"t{t} train on {count} samples"
    with Bar(label, steps, "steps") as bar, live_loss(partial.parents[1], t, expert) as show:

        def follow(step: int, total: int, loss: float) -> None:
            bar.move_to(step, f"loss {loss:.3f}")
            show(step, loss)
            clock.tick()

        try:
            train(job, follow)
        except NotFinite as error:
            raise NotFinite(f"t{t}{f' {expert}' if expert else ''}: {error}") from None
    remove(work)


def _named(t: int, record: Mapping[str, Any], expert: str) -> str:
    """Of a training: what it makes, and how it is laid out; one of the same name goes on where it was stopped."""
    parts = (f"t{t:02d}", record["fingerprint"], fingerprint(record["layout"])[:6], expert)
    return "-".join(part for part in parts if part)
