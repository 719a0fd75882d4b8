"""A timestep as a TensorBoard event file of the run folder."""

from pathlib import Path

from tensorboardX import SummaryWriter

from liit.engine.settings.config import Config


def to_tensorboard(
    root: Path, config: Config, t: int, figures: dict[str, float], curves: dict[str, list[float]]
) -> None:
    """Write timestep t; what was there of it is replaced."""
    folder = root / "tensorboard"
    before = list(folder.glob(f"*.t{t:02d}")) + list(folder.glob(f"*.t{t:02d}.live"))
    for path in before:
        path.unlink()
    with SummaryWriter(str(folder), filename_suffix=f".t{t:02d}") as board:
        for name, value in figures.items():
            board.add_scalar(name, value, t)
        for name, curve in curves.items():
            for step, value in enumerate(curve, start=1):
                board.add_scalar(name, value, step)
