"""The loss of a training while it goes on, for TensorBoard; `pages/tracking.py` replaces it when the timestep is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tensorboardX import SummaryWriter

FLUSH_SECONDS = 10


@contextmanager
def live_loss(root: Path, t: int, expert: str) -> Iterator[Callable[[int, float], None]]:
    """A function that TensorBoard shows the loss of a step by, while timestep t, or an expert of it, is trained."""
    name = f"training/loss_t{t:02d}" + (f"_{expert}" if expert else "")
    with SummaryWriter(str(root / "tensorboard"), flush_secs=FLUSH_SECONDS, filename_suffix=f".t{t:02d}.live") as board:
        yield lambda step, loss: board.add_scalar(name, loss, step)
