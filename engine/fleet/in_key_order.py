"""Tables that are in the order of their keys, read and written a few thousand rows at a time. N keys, n rows of a chunk."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.fleet.parts import read_chunks
from liit.engine.run.files import appearing, read_table
from liit.engine.run.tables import among, is_by_key, sort_by_key
from liit.selectors.priority import Keys

ROWS = 1 << 16
"""Of a row group."""


def merged(tables: Sequence[Path], columns: list[str]) -> Iterator[pa.Table]:
    """The rows of all tables in the order of their keys; memory holds a chunk of each, and whole what is in another order."""
    streams = [_ascending(table, columns) for table in tables]
    waiting = [next(stream, None) for stream in streams]
    while there := [chunk for chunk in waiting if chunk is not None]:
        bound = min(chunk["key"][-1].as_py() for chunk in there)
        parts = []
        for number, chunk in enumerate(waiting):
            if chunk is None:
                continue
            count = int(np.searchsorted(chunk["key"].to_numpy(), np.uint64(bound), side="right"))
            parts.append(chunk.slice(0, count))
            waiting[number] = chunk.slice(count) if count < len(chunk) else next(streams[number], None)
        yield sort_by_key(pa.concat_tables(parts))


def written(path: Path, rows: Iterable[pa.Table], keys_N: Keys, schema: pa.Schema) -> None:
    """Write those rows that have one of these keys, ascending, to a Parquet file which appears whole."""
    with appearing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        kept: list[pa.Table] = [schema.empty_table()]
        for chunk in rows:
            kept.append(among(chunk, keys_N)[1])
            if sum(map(len, kept)) >= ROWS:
                writer.write_table(pa.concat_tables(kept))
                kept = []
        if kept:
            writer.write_table(pa.concat_tables(kept))


def _ascending(table: Path, columns: list[str]) -> Iterator[pa.Table]:
    if _is_ascending(table):
        yield from (chunk for chunk in read_chunks([table], columns) if len(chunk))
    elif len(whole := sort_by_key(read_table(table, columns))):
        yield whole


def _is_ascending(table: Path) -> bool:
    last = -1
    for chunk in read_chunks([table], ["key"]):
        if len(chunk):
            if not is_by_key(chunk) or chunk["key"][0].as_py() <= last:
                return False
            last = chunk["key"][-1].as_py()
    return True
