"""Parquet with one sample a row; images as paths, as bytes, or as structs of both. Streamed, a few megabytes at a time."""

from collections.abc import Iterator
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.data.image_bytes import READ_AGAIN, located
from liit.engine.run.storage.places import Place, absolute, opened

SUFFIXES = (".parquet",)

BATCH_BYTES = 32 << 20
"""Of decoded rows in memory at a time, about."""
MOST_ROWS = 1024
PIECE = 256 << 20
"""Of decoded rows that are read together, about, where row groups allow it."""
_BUFFER = 1 << 20
"""Read ahead of a column. Without it the reader would hold a whole row group, and that may be the whole file."""


def rows(file: Place, piece: tuple[int, int] | None = None) -> Iterator[object]:
    """The samples as they stand in the file. A row that is not Unicode comes as a ValueError, and the rest follows.

    Bytes know their row, where they can be read from it again.

    piece: the row groups to read, from the first to before the second number; None for all.

    Memory is bounded by BATCH_BYTES or one page of a column, however large row groups and the file are. Raises ValueError naming
    the file if it is missing, is not Parquet or is damaged.
    """
    try:
        with opened(file) as source, pq.ParquetFile(source, buffer_size=_BUFFER, pre_buffer=False) as table:
            first, stop = piece or (0, table.num_row_groups)
            start = sum(table.metadata.row_group(group).num_rows for group in range(first))
            stored, path = _of_bytes(table.schema_arrow), str(absolute(str(file)))
            for group in range(first, stop):
                again = table.metadata.row_group(group).total_byte_size <= READ_AGAIN
                for batch in table.iter_batches(_rows_at_a_time(table, group), row_groups=[group], use_threads=False):
                    for number, row in enumerate(plain(batch, start), start):
                        if isinstance(row, dict) and again:
                            row |= {name: located(row[name], path, number, (name,)) for name in stored}
                        yield row
                    start += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read as Parquet: {getattr(error, 'strerror', None) or error}") from error


def pieces(file: Place) -> list[tuple[int, int] | None]:
    """Runs of row groups of about PIECE bytes, by the footer alone. Raises ValueError as `rows` does."""
    about = _footer(file)
    cuts, held = [0], 0
    for group in range(about.num_row_groups):
        size = about.row_group(group).total_byte_size
        if held and held + size > PIECE:
            cuts.append(group)
            held = 0
        held += size
    return list(pairwise([*cuts, about.num_row_groups])) if len(cuts) > 1 else [None]


def count(file: Place) -> int:
    """Rows of a file, without reading them. Raises ValueError as `rows` does."""
    return int(_footer(file).num_rows)


def _footer(file: Place) -> pq.FileMetaData:
    try:
        with opened(file) as source:
            return pq.read_metadata(source)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} cannot be read as Parquet: {getattr(error, 'strerror', None) or error}") from error


def _rows_at_a_time(table: pq.ParquetFile, group: int) -> int:
    about = table.metadata.row_group(group)
    per_row = about.total_byte_size // max(about.num_rows, 1)
    return int(min(max(BATCH_BYTES // max(per_row, 1), 1), MOST_ROWS))


def _of_bytes(schema: pa.Schema) -> list[str]:
    """Columns in which bytes stand, at whatever depth."""
    return [field.name for field in schema if _holds_bytes(field.type)]


def _holds_bytes(of: pa.DataType) -> bool:
    nested = [of.field(at).type for at in range(of.num_fields)] if not pa.types.is_map(of) else []
    return pa.types.is_binary(of) or pa.types.is_large_binary(of) or any(map(_holds_bytes, nested))


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
