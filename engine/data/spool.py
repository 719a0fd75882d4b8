"""Samples on disk as they are read, so that memory holds a few megabytes of them, whatever a release holds. N samples.

What is known of each stays in memory: three words for its id (`readers/ids.py`) and its size.
"""

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.data.readers.ids import Ids, Settled
from liit.engine.data.readers.sample import Sample, Tally
from liit.engine.fleet.planned import Task
from liit.engine.run.tables import SAMPLE, key_of

ROWS = 1024
CHECKED_TOGETHER = 64
BYTES = 32 << 20
"""Of samples in memory before they are written; also the size of a row group."""


class Spool:
    """A file of SAMPLE rows in the order in which they were added; ids as they came until `settle`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = pq.ParquetWriter(path, SAMPLE, use_dictionary=False, write_batch_size=16)
        self._rows: list[dict[str, object]] = []
        self._bytes = 0
        self._ids, self._sizes = Ids(), array("Q")

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, sample: Sample, content: int, arrival: int) -> None:
        """Append a sample; content: `checks.content` of it."""
        size = _size(sample)
        self._ids.add(sample["id"], content)
        self._sizes.append(size)
        self._rows.append({**sample, "key": key_of(sample["id"]), "arrival": arrival})
        self._bytes += size
        if len(self._rows) >= ROWS or self._bytes >= BYTES:
            self._flush()

    def settle(self) -> "Spooled":
        """All that was added, with the ids that it has from now on. Raises ValueError as `Ids.settled` does."""
        self._flush()
        self._writer.close()
        return Spooled(self._path, self._ids.settled(), np.array(self._sizes, np.int64))

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=SAMPLE))
            self._rows, self._bytes = [], 0


class Spooled:
    """What a spool held in the end: N rows, of which those that equal an earlier one do not count."""

    def __init__(self, path: Path, settled: Settled, size_N: npt.NDArray[np.int64]) -> None:
        self.path, self.settled, self.size_N = path, settled, size_N

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """Of the samples that count."""
        return self.settled.key_N[self.settled.stays_N]

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of the samples that count, about."""
        return self.size_N[self.settled.stays_N]

    def tasks(self) -> list[Task]:
        """One for each row group with samples that count, told what these are called now."""
        tasks, start = [], 0
        with pq.ParquetFile(self.path) as file:
            for group in range(file.num_row_groups):
                came = file.read_row_group(group, columns=["id"])["id"].combine_chunks()
                stays = self.settled.stays_N[start : start + len(came)]
                mask = pa.array(stays)
                keys = pa.array(self.settled.key_N[start : start + len(came)])
                what = {
                    "file": str(self.path),
                    "group": group,
                    "stays": mask,
                    "id": self.settled.ids(came, start).filter(mask),
                    "key": keys.filter(mask),
                }
                tasks += [Task(f"{group:06d}", int(stays.sum()), what)] if stays.any() else []
                start += len(came)
        return tasks

    def chunks(self) -> Iterator[pa.Table]:
        """The samples that count, a row group at a time."""
        with pq.ParquetFile(self.path) as file:
            start = 0
            for group in range(file.num_row_groups):
                table = file.read_row_group(group)
                stop = start + len(table)
                ids = self.settled.ids(table["id"].combine_chunks(), start)
                keys = pa.array(self.settled.key_N[start:stop])
                table = _with(_with(table, "id", ids), "key", keys)
                yield table.filter(pa.array(self.settled.stays_N[start:stop]))
                start = stop

    def rows(self) -> Iterator[tuple[int, str]]:
        """Of every row that was added, those that equal an earlier one too: its hash, and the id that it has now."""
        with pq.ParquetFile(self.path) as file:
            start = 0
            for group in range(file.num_row_groups):
                ids = self.settled.ids(file.read_row_group(group, columns=["id"])["id"].combine_chunks(), start)
                yield from zip(self.settled.row_N[start : start + len(ids)].tolist(), ids.to_pylist(), strict=True)
                start += len(ids)

    def told(self, start: int, stop: int) -> dict[str, Tally]:
        """Of the rows from `start` to `stop`: which equal an earlier one, and which got an id of their own."""
        marks = {
            "rows equal to an earlier one, one sample": ~self.settled.stays_N,
            "ids told apart": self.settled.apart_N,
        }
        found = {}
        for kind, mark_N in marks.items():
            at = start + np.flatnonzero(mark_N[start:stop])
            if len(at):
                found[kind] = Tally(len(at), self._came_as(at[:2].tolist()))
        return found

    def _came_as(self, rows: list[int]) -> list[str]:
        with pq.ParquetFile(self.path) as file:
            starts = np.cumsum([0, *(file.metadata.row_group(g).num_rows for g in range(file.num_row_groups))])
            groups = [int(np.searchsorted(starts, row, "right")) - 1 for row in rows]
            return [
                file.read_row_group(group, columns=["id"])["id"][row - int(starts[group])].as_py()
                for row, group in zip(rows, groups, strict=True)
            ]


def spooled_samples(
    file: str, group: int, stays: list[bool], **named: list[object]
) -> Iterator[list[dict[str, object]]]:
    """The samples of a row group of a spool that count, with their ids and keys: the batches of its task."""
    with pq.ParquetFile(file) as opened:
        table = opened.read_row_group(group).filter(pa.array(stays))
    for name, values in named.items():
        table = _with(table, name, pa.array(values, SAMPLE.field(name).type))
    for start in range(0, len(table), CHECKED_TOGETHER):
        yield table.slice(start, CHECKED_TOGETHER).to_pylist()


def _with(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(SAMPLE.get_field_index(name), SAMPLE.field(name), values)


def _size(sample: Sample) -> int:
    words = sum(len(turn["text"]) for turn in sample["conversation"])
    return words + sum(len(image["bytes"] or b"") for image in sample["images"]) + 200


def in_key_order(
    rows: Iterator[tuple[int, pa.Table, npt.NDArray[np.intp]]],
    length_n: pa.ChunkedArray,
    content_n: pa.ChunkedArray,
    writer: pq.ParquetWriter,
    most: int,
) -> None:
    """Write what `dealing.dealt` hands out, bucket after bucket sorted by key, with lengths and contents.

    most: rows of a part.
    """
    for _, table, at in rows:
        place = pa.array(at)
        table = _with(_with(table, "length", length_n.take(place)), "content", content_n.take(place))
        table = table.sort_by("key")
        mean = max(table.nbytes // max(len(table), 1), 1)
        writer.write_table(table, row_group_size=max(1, min(BYTES * 2 // mean, most)))


def by_key(keys_n: npt.NDArray[np.uint64], size_n: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """(n,) bucket of each sample: consecutive in the order of their keys, each of about `most` bytes."""
    order = np.argsort(keys_n)
    bucket_n = np.empty(len(keys_n), np.int64)
    bucket_n[order] = np.cumsum(size_n[order]) // most
    return bucket_n
