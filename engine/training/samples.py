"""The rows that a timestep trains on, as padded micro-batches; encoded when needed, kept where they are small."""

from pathlib import Path
from typing import Any

import torch

from liit.engine.data.readers.images import open_image
from liit.engine.data.rows import Rows
from liit.engine.models import encoding
from liit.engine.training.plan import MicroBatch

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

    def batch(self, part: MicroBatch) -> dict[str, torch.Tensor]:
        """`encoding.collate` of the rows, without response tokens on those of weight 0."""
        batch = encoding.collate([self._encoded(row) for row in part.rows], encoding.pad_id_of(self._processor))
        batch["response"] &= torch.tensor(part.weights, dtype=torch.bool)[:, None]  # (B, S)
        return batch

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
