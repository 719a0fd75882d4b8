"""The rows that a timestep trains on, as padded micro-batches; encoded when needed, kept where they are small."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from liit.engine.data.readers.images import open_image
from liit.engine.data.rows import Rows
from liit.engine.models import encoding
from liit.engine.training.plan import MicroBatch, Plan

Batch = dict[str, Any]
"""Tensors by the names that a model's forward has for them, `response` (B, S) bool, and the lengths where it is not padded."""
LENGTHS = "sample_lengths"
"""Of a batch without padding (`side_by_side.py`): tokens of each sample, a tuple."""
CACHE_BYTES = 512 << 20
"""Encodings kept for the next epoch, per worker."""


class TrainingSamples:
    """Rows in the order of their keys. Raises ValueError as `Rows` does."""

    def __init__(self, path: str, processor: Any, max_length: int) -> None:
        self._rows = Rows(Path(path))
        self._path, self._processor, self._max_length = path, processor, max_length
        self._cache: dict[int, encoding.Encoded] = {}
        self._cached_bytes = 0
        self.lengths_N, self.images_N = self._rows.lengths_N, self._rows.pictured_N

    def batch(self, part: MicroBatch) -> Batch:
        """`encoding.collate` of the rows, without response tokens on those of weight 0."""
        batch = encoding.collate([self._encoded(row) for row in part.rows], encoding.pad_id_of(self._processor))
        batch["response"] &= torch.tensor(part.weights, dtype=torch.bool)[:, None]  # (B, S)
        return batch

    def examples(self) -> Batch | None:
        """The shortest and the longest sample without images and with, padded; None where there is no pair of them."""
        rows: set[int] = set()
        for mine in map(np.flatnonzero, (self.images_N, ~self.images_N)):
            rows |= {int(mine[at(self.lengths_N[mine])]) for at in (np.argmin, np.argmax) if len(mine)}
        return self.batch(MicroBatch(tuple(sorted(rows)), (1,) * len(rows))) if len(rows) > 1 else None

    def id_of(self, row: int) -> str:
        return str(self._rows[row]["id"])

    def _encoded(self, row: int) -> encoding.Encoded:
        if row in self._cache:
            return self._cache[row]
        sample = self._rows[row]
        try:
            images = [open_image(image) for image in sample["images"] or []]
            encoded = encoding.encode(self._processor, sample["conversation"], images, self._max_length)
        except ValueError as error:
            raise ValueError(
                f"{Path(self._path).name}: sample {sample['id']!r} was good when selected: {error}"
            ) from error
        if self._cached_bytes + encoded.nbytes <= CACHE_BYTES:
            self._cache[row] = encoded
            self._cached_bytes += encoded.nbytes
        return encoded


def read_ahead(
    samples: TrainingSamples, plan: Plan, first: int, laid: Callable[[Batch], Batch]
) -> Iterator[list[Batch]]:
    """This rank's micro-batches of every step from `first` on; the next step's are made while one is trained on."""
    rank, workers = torch.distributed.get_rank(), torch.distributed.get_world_size()

    def make(step: int) -> list[Batch]:
        return [laid(samples.batch(part)) for part in plan.share(step, rank, workers)]

    with ThreadPoolExecutor(max_workers=1) as ahead:
        coming = ahead.submit(make, first) if first < plan.steps else None
        for step in range(first, plan.steps):
            assert coming is not None
            batches = coming.result()
            if step + 1 < plan.steps:
                coming = ahead.submit(make, step + 1)
            yield batches
