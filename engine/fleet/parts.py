"""Parts of tables of samples: what a task of planned work is of, and what whoever runs it reads.

A table of SAMPLE rows is a Parquet file, or a folder of them; each of its row groups is a part. Samples stay where they are: the
driver hands out which part, and which of its rows; whoever gets it reads the part and makes the plan of its batches, the same
wherever that is. Legend: N planned samples, n rows of a part.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.fleet.batching import plan_groups
from liit.engine.fleet.planned import Task
from liit.engine.run.files import files_of
from liit.engine.run.tables import as_samples

MOST_ROWS, LEAST_ROWS, PARTS = 4096, 256, 64
ROWS_PER_CHUNK = 8192


def rows_of_a_part(count: int) -> int:
    """How many rows a part of a table has at most: some minutes of work where there are many, else enough for every actor."""
    return min(max(count // PARTS, LEAST_ROWS), MOST_ROWS)


@dataclass(frozen=True)
class Part:
    """A row group of a file, of the so many-th table."""

    file: Path
    group: int
    name: str


def parts_of(tables: Iterable[Path]) -> Iterator[Part]:
    """All parts of these tables in their order."""
    for number, table in enumerate(tables):
        count = 0
        for file in files_of(table):
            for group in range(pq.read_metadata(file).num_row_groups):
                yield Part(file, group, f"{number:02d}-{count:06d}")
                count += 1


def read_chunks(tables: Iterable[Path], columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of tables, a few thousand at a time, and never of two row groups: those are small where rows are large."""
    for table in tables:
        for file in files_of(table):
            with pq.ParquetFile(file) as opened:
                for group in range(opened.num_row_groups):
                    for batch in opened.iter_batches(ROWS_PER_CHUNK, row_groups=[group], columns=columns):
                        yield as_samples(pa.Table.from_batches([batch]))


def places(keys_n: np.ndarray, keys_N: np.ndarray, sorter: np.ndarray) -> np.ndarray:
    """(n,) position of each key among N of them, -1 where it is none; sorter: their `argsort`, made once for all parts."""
    if not len(keys_N):
        return np.full(len(keys_n), -1)
    at = sorter[np.minimum(np.searchsorted(keys_N, keys_n, sorter=sorter), len(keys_N) - 1)]
    return np.where(keys_N[at] == keys_n, at, -1)


def tasks_of(
    tables: Sequence[Path], keys_N: npt.NDArray[np.uint64], told: Mapping[str, pa.Array] | None = None
) -> list[Task]:
    """A task for every part that holds planned samples.

    Args:
        keys_N: of the planned samples; other rows of the tables have no part in this.
        told: further columns, N values each, that go with the samples.

    Raises:
        KeyError: a planned sample is in no table.
    """
    sorter, tasks, found = np.argsort(keys_N), [], 0
    open_file: tuple[Path, pq.ParquetFile] | None = None
    for part in parts_of(tables):
        if open_file is None or open_file[0] != part.file:
            open_file = part.file, pq.ParquetFile(part.file)
        keys_n = open_file[1].read_row_group(part.group, columns=["key"])["key"].to_numpy()
        at_n = places(keys_n, keys_N, sorter)
        mine_n = at_n >= 0
        if not mine_n.any():
            continue
        found += int(mine_n.sum())
        what = {
            "file": str(part.file),
            "group": part.group,
            "mask": np.packbits(mine_n).tobytes(),
            **{name: values.take(pa.array(at_n[mine_n])) for name, values in (told or {}).items()},
        }
        tasks.append(Task(part.name, int(mine_n.sum()), what))
    if found != len(keys_N):
        raise KeyError(_missing(tables, keys_N))
    return tasks


def _missing(tables: Sequence[Path], keys_N: npt.NDArray[np.uint64]) -> str:
    there = np.concatenate([chunk["key"].to_numpy() for chunk in read_chunks(tables, ["key"])] or [keys_N[:0]])
    missing = keys_N[~np.isin(keys_N, there)]
    return f"{len(missing)} planned samples are in no release, the first has key {missing[0] if len(missing) else None}"


@dataclass(frozen=True)
class Batches:
    """The planned batches of a part, by (length, key), the same for whoever makes them."""

    samples: int
    """Of a batch, at most."""
    tokens: int
    """Of a batch, padding included, at most."""
    by: tuple[str, ...] = ()
    """Columns of which a batch has one value each."""
    beyond: int = 0
    """Tokens that each sample may get beside its own."""

    def __call__(self, file: str, group: int, mask: bytes, **told: list[Any]) -> Iterator[list[dict[str, Any]]]:
        """The samples of each batch as mappings, sorted by key; memory holds the part as a table, and one batch so."""
        with pq.ParquetFile(file) as opened:
            table = as_samples(opened.read_row_group(group))
        mine_n = np.unpackbits(np.frombuffer(mask, np.uint8), count=len(table)).astype(bool)
        table = table.filter(pa.array(mine_n))
        for name, values in told.items():
            table = table.append_column(name, pa.array(values))
        keys_n, lengths_n = table["key"].to_numpy(), table["length"].to_numpy() + self.beyond
        columns = zip(*(table[name].to_pylist() for name in self.by), strict=True) if self.by else [()] * len(table)
        group_n = np.array(["/".join(map(str, one)) for one in columns])
        batch_n = plan_groups(group_n, keys_n, lengths_n, self.samples, self.tokens)
        order_n = np.lexsort((keys_n, batch_n))
        for rows in np.split(order_n, np.flatnonzero(np.diff(batch_n[order_n])) + 1):
            yield table.take(pa.array(rows)).to_pylist()
