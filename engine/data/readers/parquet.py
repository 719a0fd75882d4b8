"""Parquet with one sample a row; images as paths, as bytes, or as structs of both. Streamed batch by batch."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.data.readers.checks import CONVERSATION_KEYS, KEYS

SUFFIXES = (".parquet",)

_BATCH = 64
"""Rows in memory at a time; with their images they may be a few MB each."""


def rows(file: Path, raw: bool = False) -> Iterator[object]:
    """The samples as they stand in the file. A row that is not Unicode comes as a ValueError, and the rest follows.

    Raises ValueError naming the file if it is missing, is not Parquet, is damaged or has no column with conversations.
    """
    try:
        with pq.ParquetFile(file) as table:
            names = table.schema_arrow.names
            if not raw and not set(names) & set(CONVERSATION_KEYS):
                raise ValueError(f"{file} has columns {', '.join(names)}, but none of {', '.join(CONVERSATION_KEYS)}")
            start = 0
            for batch in table.iter_batches(_BATCH, columns=[name for name in names if raw or name in KEYS]):
                yield from _plain(batch, start)
                start += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read as Parquet: {error}") from error


def _plain(batch: pa.RecordBatch, start: int) -> list[object]:
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:
        return [_row(batch, index, start) for index in range(batch.num_rows)]


def _row(batch: pa.RecordBatch, index: int, start: int) -> object:
    try:
        return batch.slice(index, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        return ValueError(f"not Unicode: row {start + index}: {error.reason}")
