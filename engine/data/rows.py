"""Samples in a file of their own, of which each is read alone: memory holds what is looked at, no other's pictures."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from liit.engine.data.image_bytes import by_place, forget_decoded, with_bytes
from liit.engine.run.files import appearing
from liit.engine.run.tables import SAMPLE, slices

PICTURED = pa.field("pictured", pa.bool_())
"""Whether a sample has an image, known without reading one."""
ROWS_AT_A_TIME = 64
"""Their pictures may be read into memory."""
ROWS_TOGETHER, BYTES_TOGETHER = 1 << 16, 64 << 20
"""Rows, or bytes of what their tables hold of them, that are brought into the order of their pictures' places."""
DECODED = 16
"""Times `ROWS_AT_A_TIME` after which the row groups that were decoded are let go: the next pictures stand in others."""
BYTES_PER_BATCH = 256 << 10
"""Of samples that are read together; a larger one is alone."""


def write_rows(path: Path, chunks: Iterable[pa.Table]) -> None:
    """Write SAMPLE rows as an Arrow file, in any order."""
    try:
        _write(path, chunks)
    finally:
        forget_decoded()


def _write(path: Path, chunks: Iterable[pa.Table]) -> None:
    with appearing(path) as temporary, pa.ipc.new_file(str(temporary), SAMPLE.append(PICTURED)) as writer:
        for whole in _together(chunks):
            for number, part in enumerate(slices(by_place(whole), ROWS_AT_A_TIME), 1):
                chunk = with_bytes(part)
                pictured = pc.greater(pc.fill_null(pc.list_value_length(chunk["images"]), 0), 0)
                fits = max(1, BYTES_PER_BATCH * len(chunk) // max(chunk.nbytes, 1))
                writer.write_table(chunk.append_column(PICTURED, pictured), max_chunksize=fits)
                if number % DECODED == 0:
                    forget_decoded()


def _together(chunks: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in fewer tables: of so many rows or bytes, or a little more."""
    waiting, rows, size = list[pa.Table](), 0, 0
    for chunk in chunks:
        waiting.append(chunk)
        rows, size = rows + len(chunk), size + chunk.nbytes
        if rows >= ROWS_TOGETHER or size >= BYTES_TOGETHER:
            yield pa.concat_tables(waiting)
            waiting, rows, size = [], 0, 0
    if waiting:
        yield pa.concat_tables(waiting)


class Rows:
    """N SAMPLE rows in the order of their keys, whatever the file's. Raises ValueError for none, or for a repeated id."""

    def __init__(self, path: Path) -> None:
        light = pa.ipc.IpcReadOptions(included_fields=[SAMPLE.get_field_index(n) for n in KNOWN] + [len(SAMPLE)])
        with pa.OSFile(str(path)) as file:
            opened = pa.ipc.open_file(file, options=light)
            batches = [opened.get_batch(at) for at in range(opened.num_record_batches)]
        if not batches:
            raise ValueError(f"{path} has no rows: there is nothing to train on")
        known, counts = pa.Table.from_batches(batches), [len(batch) for batch in batches]
        if repeated := len(known) - pc.count_distinct(known["id"]).as_py():
            raise ValueError(f"{path} repeats {repeated} ids: a sample is trained on once per epoch")
        order = np.argsort(known["key"].to_numpy())
        batch_N = np.repeat(np.arange(len(counts)), counts)
        within_N = np.arange(len(known)) - np.repeat(np.cumsum([0, *counts[:-1]]), counts)
        self._batch_N, self._within_N = batch_N[order], within_N[order]
        self.lengths_N: npt.NDArray[np.int64] = known["length"].fill_null(0).to_numpy()[order].astype(np.int64)
        """Tokens."""
        self.pictured_N: npt.NDArray[np.bool_] = known["pictured"].to_numpy()[order]
        self._opened = pa.ipc.open_file(pa.OSFile(str(path)))

    def __len__(self) -> int:
        return len(self.lengths_N)

    def __getitem__(self, row: int) -> dict[str, Any]:
        batch = self._opened.get_batch(int(self._batch_N[row]))
        sample: dict[str, Any] = batch.slice(int(self._within_N[row]), 1).to_pylist()[0]
        return sample


KNOWN = ("id", "key", "length")
