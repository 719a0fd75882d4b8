"""Samples on disk as they are read, until it is known what they are called: memory holds a few megabytes of them. N rows.

What is known of each is a few words: three for its id (`readers/ids.py`) and its size.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from liit.engine.data.image_bytes import referred
from liit.engine.data.readers.ids import apart_id, named, settled
from liit.engine.data.readers.sample import Sample, Tally
from liit.engine.fleet.parts import marked
from liit.engine.fleet.planned import Task
from liit.engine.run.tables import SAMPLE, key_of, slices

SPOOLED = pa.schema([*SAMPLE, ("word", pa.uint64()), ("apart", pa.uint64()), ("size", pa.uint64())])
"""`word`: `checks.content` of a sample. `apart`: the key of the id that says so. `size`: bytes, about.

Ids and keys as they came."""
ROWS = 256
BYTES = 32 << 20
"""Of samples in memory before they are written."""
BYTES_OF_A_PART = 128 << 20
CHECKED_TOGETHER = 64


class Spool:
    """A file of SPOOLED rows, in the order in which they are added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writer = pa.ipc.new_file(str(path), SPOOLED)
        self._rows: list[dict[str, object]] = []
        self._bytes = self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, sample: Sample, content: int, arrival: int) -> None:
        """Append a sample; content: `checks.content` of it."""
        size, name = _size(sample), sample["id"]
        told = {"key": key_of(name), "apart": key_of(apart_id(name, content)), "word": content, "size": size}
        images = [referred(image) for image in sample["images"]]
        self._rows.append({**sample, **told, "images": images, "arrival": arrival})
        self._bytes += size
        self._count += 1
        if len(self._rows) >= ROWS or self._bytes >= BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def settle(self) -> "Spooled":
        """All that was added, with the ids that it has from now on. Raises ValueError as `ids.settled` does."""
        self.close()
        return Spooled([self.path])

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=SPOOLED))
            self._rows, self._bytes = [], 0


class _Batch(NamedTuple):
    """Rows that were written together."""

    file: Path
    number: int
    start: int
    rows: int
    size: int


class Spooled:
    """What spools held in the end: N rows, of which those that equal an earlier one do not count.

    Raises ValueError as `ids.settled` does.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self._batches: list[_Batch] = []
        words: dict[str, list[npt.NDArray[np.uint64]]] = {"key": [], "apart": [], "word": []}
        start = 0
        for file in files:
            opened = _opened(file, [*words, "size"])
            for number in range(opened.num_record_batches):
                batch = opened.get_batch(number)
                for name, arrays in words.items():
                    arrays.append(batch[name].to_numpy().copy())
                self._batches.append(_Batch(file, number, start, len(batch), pc.sum(batch["size"]).as_py()))
                start += len(batch)
        self.settled = settled(*(np.concatenate([np.empty(0, np.uint64), *words.pop(name)]) for name in list(words)))

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """Of the samples that count."""
        return self.settled.key_N[self.settled.stays_N]

    def tasks(self, most: int, folder: Path | None = None) -> list[Task]:
        """One for each run of at most so many samples that count, told what is to become of them.

        folder: where a part of the release is written of each.
        """
        runs: list[list[_Batch]] = []
        rows = size = 0
        for batch in self._batches:
            mine = self._staying(batch)
            fits = rows + mine <= most and size + batch.size <= BYTES_OF_A_PART
            if not (runs and fits and runs[-1][-1].file == batch.file):
                runs.append([])
                rows = size = 0
            runs[-1].append(batch)
            rows, size = rows + mine, size + batch.size
        kept = [run for run in runs if any(map(self._staying, run))]
        return [self._task(number, run, folder) for number, run in enumerate(kept)]

    def _task(self, number: int, run: list[_Batch], folder: Path | None) -> Task:
        name, rows = f"{number:06d}", slice(run[0].start, run[-1].start + run[-1].rows)
        stays, apart = self.settled.stays_N[rows], self.settled.apart_N[rows]
        what = {
            "file": str(run[0].file),
            "first": run[0].number,
            "stop": run[-1].number + 1,
            "stays": np.packbits(stays).tobytes(),
            "apart": np.packbits(apart).tobytes(),
            "part": "" if folder is None else str(folder / f"part-{name}.parquet"),
        }
        return Task(name, int(stays.sum()), what)

    def _staying(self, batch: _Batch) -> int:
        return int(self.settled.stays_N[batch.start : batch.start + batch.rows].sum())

    def chunks(self) -> Iterator[pa.Table]:
        """The SAMPLE rows that count, as many at a time as were written together."""
        for rows, batch in self._read():
            yield _named(pa.Table.from_batches([batch]), self.settled.stays_N[rows], self.settled.apart_N[rows])

    def rows(self) -> Iterator[tuple[npt.NDArray[np.uint64], pa.Array]]:
        """Of every row, those that equal an earlier one too, a few at a time: its hash, and the id that it has now."""
        for rows, batch in self._read(["id"]):
            yield self.settled.row_N[rows], self.settled.ids(batch["id"], rows.start)

    def _read(self, columns: Sequence[str] | None = None) -> Iterator[tuple[slice, pa.RecordBatch]]:
        """Every batch, and which of the N rows it holds; a file is opened once."""
        for file, batches in groupby(self._batches, key=lambda batch: batch.file):
            opened = _opened(file, columns)
            for batch in batches:
                yield slice(batch.start, batch.start + batch.rows), opened.get_batch(batch.number)

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
                found[kind] = Tally(len(at), [self._came_as(row) for row in at[:2].tolist()])
        return found

    def _came_as(self, row: int) -> str:
        batch = next(one for one in self._batches if one.start <= row < one.start + one.rows)
        return str(_opened(batch.file, ["id"]).get_batch(batch.number)["id"][row - batch.start].as_py())


def spooled_samples(
    file: str, first: int, stop: int, stays: bytes, apart: bytes, part: str
) -> Iterator[tuple[str, pa.Table]]:
    """The batches of a task: the part that they go to, and SAMPLE rows that count, with their ids and keys."""
    opened = _opened(Path(file))
    table = pa.Table.from_batches([opened.get_batch(number) for number in range(first, stop)])
    table = _named(table, *(marked(mark, len(table)) for mark in (stays, apart)))
    for rows in slices(table, CHECKED_TOGETHER):
        yield part, rows


def put(table: pa.Table, **columns: Any) -> pa.Table:
    """SAMPLE rows with these columns in place of their own."""
    for name, values in columns.items():
        table = table.set_column(SAMPLE.get_field_index(name), SAMPLE.field(name), values)
    return table


def _named(table: pa.Table, stays_n: npt.NDArray[np.bool_], apart_n: npt.NDArray[np.bool_]) -> pa.Table:
    """Of SPOOLED rows the SAMPLE rows that count, called as they are from now on."""
    keys = pc.if_else(pa.array(apart_n), table["apart"], table["key"])
    ids = named(table["id"], table["word"].to_numpy(), apart_n)
    return put(table.select(SAMPLE.names), id=ids, key=keys).filter(pa.array(stays_n))


def _opened(file: Path, columns: Sequence[str] | None = None) -> pa.RecordBatchFileReader:
    fields = None if columns is None else [SPOOLED.get_field_index(name) for name in columns]
    return pa.ipc.open_file(pa.OSFile(str(file)), options=pa.ipc.IpcReadOptions(included_fields=fields))


def _size(sample: Sample) -> int:
    words = sum(len(turn["text"]) for turn in sample["conversation"])
    return words + sum(len(image["bytes"] or b"") for image in sample["images"]) + 200
