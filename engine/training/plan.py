"""Which sample is in which optimizer step, on which rank, in which micro-batch, and at which learning rate.

Arithmetic only: nothing here knows torch or Ray. Rows are numbered in the order of their keys. Legend: N rows.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class MicroBatch:
    """Rows of one forward of one rank; a row of weight 0 fills up and must not count."""

    rows: tuple[int, ...]
    weights: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """Every row once per epoch, in a seeded order that does not depend on the number of workers.

    lengths: (N,) tokens per row. images: (N,) bool, whether a row has an image. An optimizer step is the next
    `batch_size` rows of the epoch's permutation; the last step of an epoch takes what is left.
    """

    lengths_N: NDArray[np.int64]
    images_N: NDArray[np.bool_]
    seed: int
    epochs: int
    batch_size: int
    micro_batch_size: int
    micro_batch_tokens: int = 2**63 - 1
    """Of one rank's micro-batch, padding included; a row that is longer is alone."""

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.lengths_N) / self.batch_size)

    @property
    def steps(self) -> int:
        return self.steps_per_epoch * self.epochs

    def batch(self, step: int) -> NDArray[np.int64]:
        """Rows of an optimizer step over all ranks."""
        epoch, position = divmod(step, self.steps_per_epoch)
        start = position * self.batch_size
        return _permutation(len(self.lengths_N), self.seed, epoch)[start : start + self.batch_size]

    def share(self, step: int, rank: int, workers: int) -> list[MicroBatch]:
        """What one rank does in a step: as many micro-batches as every other rank.

        Rows of like length go together, the longest first, as many as the budget of tokens holds of the longest among them,
        and are dealt out in turn: ranks pad and wait little. A rank that would have nothing to do repeats a row at weight 0.
        Where one rank has images and another has none, the latter repeats one with an image: ranks must pass the same modules,
        or their collectives wait for each other for ever.
        """
        rows = self.batch(step)
        rows = rows[np.lexsort((rows, -self.lengths_N[rows]))]
        parts, start = [], 0
        while start < len(rows):
            fit = self.micro_batch_tokens // max(1, int(self.lengths_N[rows[start]]))
            stop = start + workers * max(1, min(fit, self.micro_batch_size))
            parts.append(self._part(rows[start:stop], rank, workers))
            start = stop
        return parts

    def _part(self, rows: NDArray[np.int64], rank: int, workers: int) -> MicroBatch:
        own = rows[rank::workers]
        seen = rows[self.images_N[rows]]
        if len(seen) and not self.images_N[own].any():
            filler = seen[-1:]
        else:
            filler = rows[-1:] if len(own) == 0 else rows[:0]
        return MicroBatch(
            tuple(int(row) for row in (*own, *filler)),
            (1,) * len(own) + (0,) * len(filler),
        )


@lru_cache(maxsize=2)
def _permutation(n: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(n)


def rate(step: int, steps: int, schedule: Literal["cosine", "linear", "constant"], warmup: float) -> float:
    """Share of the peak learning rate at a step: a linear rise over the first `warmup` of the steps, then the schedule.

    The first step of the rise is not zero and the last step of the fall is not either: no step is wasted.
    """
    rise = math.ceil(warmup * steps)
    if step < rise:
        return (step + 1) / rise
    done = (step - rise) / max(1, steps - rise)
    match schedule:
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * done))
        case "linear":
            return 1 - done
        case "constant":
            return 1.0


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """Seed of the dropout masks of one rank in one step, the same whenever that step is done again."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0] >> np.uint64(1))
