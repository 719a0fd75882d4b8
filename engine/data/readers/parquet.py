"""Parquet with one sample a row; images as paths, as bytes, or as structs of both. Streamed, a few megabytes at a time."""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.run.storage.places import Place, opened

SUFFIXES = (".parquet",)

BATCH_BYTES = 32 << 20
"""Of decoded rows in memory at a time, about."""
MOST_ROWS = 1024
_BUFFER = 1 << 20
"""Read ahead of a column. Without it the reader would hold a whole row group, and that may be the whole file."""


def rows(file: Place, raw: bool = False) -> Iterator[object]:
    """The samples as they stand in the file. A row that is not Unicode comes as a ValueError, and the rest follows.

    Memory is bounded by BATCH_BYTES or one page of a column, however large row groups and the file are. Raises ValueError naming
    the file if it is missing, is not Parquet or is damaged.
    """
    try:
        with opened(file) as source, pq.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False) as table:
            start = 0
            for group in range(table.num_row_groups):
                for batch in table.iter_batches(_rows_at_a_time(table, group), row_groups=[group], use_threads=False):
                    yield from plain(batch, start)
                    start += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read as Parquet: {getattr(error, 'strerror', None) or error}") from error


def count(file: Place) -> int:
    """Rows of a file, without reading them. Raises ValueError as `rows` does."""
    try:
        with opened(file) as source:
            return int(pq.read_metadata(source).num_rows)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read as Parquet: {getattr(error, 'strerror', None) or error}") from error


def _rows_at_a_time(table: pq.ParquetFile, group: int) -> int:
    about = table.metadata.row_group(group)
    per_row = about.total_byte_size // max(about.num_rows, 1)
    return int(min(max(BATCH_BYTES // max(per_row, 1), 1), MOST_ROWS))


def plain(batch: pa.RecordBatch, start: int) -> list[object]:
    """The rows of a batch as objects; `start` is the number of its first row."""
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:
        return [_row(batch, index, start) for index in range(batch.num_rows)]


def _row(batch: pa.RecordBatch, index: int, start: int) -> object:
    try:
        return batch.slice(index, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        return ValueError(f"not Unicode: row {start + index}: {error.reason}")
