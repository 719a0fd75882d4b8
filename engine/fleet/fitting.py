"""Work of a batch by halves, where the device has no memory for all of it."""

import gc
from collections.abc import Callable, Sequence
from typing import Any, Protocol, Self, TypeVar

import torch

from liit.engine.fleet.running import TaskError
from liit.engine.run.progress import log


class Divisible(Protocol):
    """Samples of a batch, of which a slice is a batch too."""

    def __len__(self) -> int: ...

    def __getitem__(self, some: slice, /) -> Self: ...


Batch = TypeVar("Batch", bound=Divisible)


def fitting(work: Callable[[Batch], Sequence[Any]], batch: Batch, alone: Callable[[Batch], Sequence[Any]]) -> list[Any]:
    """What `work` makes of a batch, in order. One that is out of memory is halved, as often as it takes, and that is said: in
    batches of another size the last bits of a result may be others.

    alone: what stands for the work of a batch of one sample that does not fit; it may raise.

    Raises TaskError where none of several samples fits even alone: that is no fault of theirs.
    """
    left, found, misfits = [batch], list[Any](), 0
    while left:
        some = left.pop()
        try:
            found += work(some)
            continue
        except torch.OutOfMemoryError:
            pass  # only now is what the attempt held let go
        gc.collect()
        torch.cuda.empty_cache()
        if len(some) == 1:
            found += alone(some)
            misfits += 1
            continue
        if some is batch:
            log.warning(
                "a batch of %d samples does not fit in the device's memory and is halved, as any other such; the last bits of "
                "its results may differ from those of a device where it fits. Lower tokens_per_batch to have it planned so",
                len(batch),
            )
        half = len(some) // 2
        left += [some[half:], some[:half]]
    if misfits == len(batch) > 1:
        raise TaskError(
            f"none of {len(batch)} samples fits in the device's memory, even alone: it is too small for samples of this length, "
            "or something else has it; free it, give an actor more of a GPU (resources.gpus_per_actor), or lower model.max_length"
        )
    return found
