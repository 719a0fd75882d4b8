"""A timestep as a TensorBoard event file of the run folder, written by this thread: `SummaryWriter` has one of its own, whose
errors nobody can catch."""

import time
from contextlib import closing
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.summary import scalar

from liit.engine.settings.config import Config


def to_tensorboard(
    root: Path, config: Config, t: int, figures: dict[str, float], curves: dict[str, list[float]]
) -> None:
    """Write timestep t; what was there of it is replaced."""
    folder = root / "tensorboard"
    before = list(folder.glob(f"*.t{t:02d}")) + list(folder.glob(f"*.t{t:02d}.live"))
    for path in before:
        path.unlink()
    points = [(name, value, t) for name, value in figures.items()]
    points += [(name, value, step) for name, curve in curves.items() for step, value in enumerate(curve, start=1)]
    folder.mkdir(exist_ok=True)
    with closing(EventsWriter(str(folder / "events"), f".t{t:02d}")) as file:
        for name, value, step in points:
            file.write_event(Event(wall_time=time.time(), step=step, summary=scalar(name, value)))
