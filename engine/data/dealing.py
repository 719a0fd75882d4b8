"""Samples of a spool put in the order of their keys, by buckets on disk: memory holds one of them and a few bytes a sample."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.fleet.parts import places

Chunks = Callable[[], Iterable[pa.Table]]


def dealt(
    folder: Path, chunks: Chunks, keys_N: np.ndarray, bucket_N: np.ndarray
) -> Iterator[tuple[int, pa.Table, np.ndarray]]:
    """Bucket by bucket, dealt out on disk: its number, its samples in any order, and which planned sample each is."""
    sorter = np.argsort(keys_N)
    writers: dict[int, pq.ParquetWriter] = {}
    for chunk in chunks():
        rows = places(chunk["key"].to_numpy(), keys_N, sorter)
        mine = np.flatnonzero(rows >= 0)
        if not len(mine):
            continue
        mine = mine[np.argsort(bucket_N[rows[mine]], kind="stable")]
        chunk = chunk.take(mine).append_column("row", pa.array(rows[mine]))
        numbers, starts = np.unique(bucket_N[rows[mine]], return_index=True)
        for number, start, stop in zip(numbers.tolist(), starts, np.append(starts[1:], len(mine)), strict=True):
            part = chunk.slice(start, stop - start)
            if number not in writers:
                writers[number] = pq.ParquetWriter(folder / f"bucket-{number}", part.schema, compression="none")
            writers[number].write_table(part)
    for number, writer in sorted(writers.items()):
        writer.close()
        table = pq.read_table(folder / f"bucket-{number}")
        (folder / f"bucket-{number}").unlink()
        yield int(number), table.drop_columns(["row"]), table["row"].to_numpy()
