"""The loss of a training while it goes on, for TensorBoard; `pages/tracking.py` replaces it when the timestep is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tensorboardX import SummaryWriter

from liit.engine.run.progress import log

FLUSH_SECONDS = 10


@contextmanager
def live_loss(root: Path, t: int, expert: str) -> Iterator[Callable[[int, float], None]]:
    """A function that TensorBoard shows the loss of a step by, while timestep t, or an expert of it, is trained.

    Where its files cannot be written that is said, and the training goes on without it.
    """
    name = f"training/loss_t{t:02d}" + (f"_{expert}" if expert else "")
    folder = root / "tensorboard"
    try:
        board = SummaryWriter(str(folder), flush_secs=FLUSH_SECONDS, filename_suffix=f".t{t:02d}.live")
    except OSError as error:
        log.warning("t%d: the loss is not in TensorBoard's files (%s): %s", t, folder, error)
        yield lambda step, loss: None
        return
    with board:
        yield lambda step, loss: board.add_scalar(name, loss, step)
