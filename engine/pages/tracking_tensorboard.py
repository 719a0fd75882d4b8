"""A timestep as a TensorBoard event file of the run folder."""

from contextlib import closing
from pathlib import Path

from liit.engine.settings.config import Config
from liit.engine.training.live_loss import event_file, point


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
    with closing(event_file(folder, f".t{t:02d}")) as file:
        for name, value, step in points:
            file.write_event(point(name, step, value))
