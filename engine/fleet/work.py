"""Work files: the samples of planned tasks, one Parquet row a task, written without ever holding all of them.

Samples come in chunks, in any order, and leave in the order of their batches: they are first dealt into buckets of whole tasks on
disk, then each bucket is sorted alone. A driver's memory is a bucket and a few bytes per sample, whatever the pool holds.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.run.tables import as_samples

Chunks = Callable[[], Iterable[pa.Table]]
ROWS_PER_BUCKET = 8192
BYTES_PER_BUCKET = 256 << 20
"""Of samples that the driver holds in memory while it sorts them."""
ROWS_PER_CHUNK = 8192


def read_chunks(files: Iterable[Path], columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of Parquet files, a few thousand at a time, and never of two row groups: those are small where rows are large."""
    for file in files:
        with pq.ParquetFile(file) as opened:
            for group in range(opened.num_row_groups):
                for batch in opened.iter_batches(ROWS_PER_CHUNK, row_groups=[group], columns=columns):
                    yield as_samples(pa.Table.from_batches([batch]))


def rows_that_fit(files: Sequence[Path], size: int = BYTES_PER_BUCKET) -> int:
    """How many rows of Parquet files so many bytes hold, about, by what their footers say; at most ROWS_PER_BUCKET."""
    footers = [pq.read_metadata(file) for file in files]
    whole = sum(footer.row_group(group).total_byte_size for footer in footers for group in range(footer.num_row_groups))
    rows = sum(footer.num_rows for footer in footers)
    return max(1, min(ROWS_PER_BUCKET, size * rows // max(whole, 1)))


def write_work(
    folder: Path,
    chunks: Chunks,
    keys_N: np.ndarray,
    batch_N: np.ndarray,
    task_N: np.ndarray,
    rows_per_bucket: int | None = None,
) -> None:
    """Write rows `task`, `batches` (each a list of whole samples, sorted by key) for the planned samples into `folder`.

    Args:
        chunks: tables with a uint64 column `key`; rows whose key is not planned are passed over.
        keys_N: keys of the planned samples, with their batch and the task that the batch belongs to.
        rows_per_bucket: about how many samples are held in memory; ROWS_PER_BUCKET where it is not said.

    Raises:
        KeyError: a planned sample is in no chunk.
    """
    order = np.lexsort((keys_N, batch_N))
    bucket_N = np.empty(len(keys_N), np.int64)
    bucket_N[order] = _buckets(task_N[order], rows_per_bucket or ROWS_PER_BUCKET)
    found = np.zeros(len(keys_N), bool)
    for number, table, rows in dealt(folder, chunks, keys_N, bucket_N):
        found[rows] = True
        sort = np.lexsort((keys_N[rows], batch_N[rows]))
        _write_bucket(folder / f"work-{number:06d}.parquet", table.take(sort), batch_N[rows[sort]], task_N[rows[sort]])
    if not found.all():
        raise KeyError(f"{(~found).sum()} planned samples are in no release, the first has key {keys_N[~found][0]}")


def _buckets(task_N: np.ndarray, rows: int) -> np.ndarray:
    """A bucket for each row: whole tasks in order, a new one where the last is full."""
    starts = np.flatnonzero(np.r_[True, np.diff(task_N) != 0])
    bucket_of_task = starts // rows
    return np.repeat(bucket_of_task, np.diff(np.r_[starts, len(task_N)]))


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


def places(keys_n: np.ndarray, keys_N: np.ndarray, sorter: np.ndarray) -> np.ndarray:
    """(n,) position of each key among N of them, -1 where it is none; sorter: their `argsort`, made once for all chunks."""
    if not len(keys_N):
        return np.full(len(keys_n), -1)
    at = sorter[np.minimum(np.searchsorted(keys_N, keys_n, sorter=sorter), len(keys_N) - 1)]
    return np.where(keys_N[at] == keys_n, at, -1)


def _write_bucket(path: Path, table: pa.Table, batch_N: np.ndarray, task_N: np.ndarray) -> None:
    samples = table.combine_chunks().to_struct_array()
    if isinstance(samples, pa.ChunkedArray):
        samples = samples.combine_chunks()
    starts = np.flatnonzero(np.r_[True, np.diff(batch_N) != 0])
    batches = pa.ListArray.from_arrays(pa.array(np.r_[starts, len(batch_N)], pa.int32()), samples)
    tasks = np.flatnonzero(np.r_[True, np.diff(task_N[starts]) != 0])
    lists = pa.ListArray.from_arrays(pa.array(np.r_[tasks, len(starts)], pa.int32()), batches)
    rows = pa.table({"task": pa.array(task_N[starts][tasks], pa.int64()), "batches": lists})
    pq.write_table(rows, path, row_group_size=1, compression="none", use_dictionary=False)
