"""The rows that a timestep trains on, as padded micro-batches; encoded when needed, kept where they are small."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch

from liit.engine.data.readers.images import open_image
from liit.engine.models import encoding
from liit.engine.run.tables import sort_by_key
from liit.engine.training.plan import MicroBatch

CACHE_BYTES = 512 << 20
"""Encodings kept for the next epoch, per worker."""


class TrainingSamples:
    """Rows in the order of their keys. Raises ValueError for a table without rows or with a repeated id."""

    def __init__(self, path: str, processor: Any, max_length: int) -> None:
        self._table = sort_by_key(pq.read_table(path))
        ids = self._table["id"].to_pylist()
        if not ids:
            raise ValueError(f"{path} has no rows: there is nothing to train on")
        if len(set(ids)) < len(ids):
            raise ValueError(f"{path} repeats {len(ids) - len(set(ids))} ids: a sample is trained on once per epoch")
        self._path, self._processor, self._max_length = path, processor, max_length
        self._cache: dict[int, encoding.Encoded] = {}
        self._cached_bytes = 0
        self.lengths_N = np.array([length or 0 for length in self._table["length"].to_pylist()], dtype=np.int64)
        self.images_N = np.array([bool(images) for images in self._table["images"].to_pylist()])

    def batch(self, part: MicroBatch) -> dict[str, torch.Tensor]:
        """`encoding.collate` of the rows, without response tokens on those of weight 0."""
        batch = encoding.collate([self._encoded(row) for row in part.rows], encoding.pad_id_of(self._processor))
        batch["response"] &= torch.tensor(part.weights, dtype=torch.bool)[:, None]  # (B, S)
        return batch

    def _encoded(self, row: int) -> encoding.Encoded:
        if row in self._cache:
            return self._cache[row]
        sample = self._table.slice(row, 1).to_pylist()[0]
        try:
            images = [open_image(image) for image in sample["images"] or []]
            encoded = encoding.encode(self._processor, sample["conversation"], images, self._max_length)
        except ValueError as error:
            raise ValueError(
                f"{Path(self._path).name}: sample {sample['id']!r} was good when selected: {error}"
            ) from error
        size = sum(tensor.nbytes for tensor in (encoded.input_ids, encoded.response, *encoded.extras.values()))
        if self._cached_bytes + size <= CACHE_BYTES:
            self._cache[row] = encoded
            self._cached_bytes += size
        return encoded
