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
from liit.engine.run.tables import as_samples, found_at

MOST_ROWS, LEAST_ROWS, PARTS = 4096, 256, 64
ROWS_PER_CHUNK = 8192


def rows_of_a_part(count: int) -> int:
    """How many rows a part of a table has at most: some minutes of work where there are many, else enough for every actor."""
    return min(max(count // PARTS, LEAST_ROWS), MOST_ROWS)


@dataclass(frozen=True)
class Part:
    """A row group of a file. name: no other part of the same tables has it."""

    file: Path
    group: int
    name: str


def parts_of(tables: Iterable[Path]) -> Iterator[tuple[Part, npt.NDArray[np.uint64]]]:
    """All parts of these tables in their order, each with the keys (n,) of its rows."""
    for number, table in enumerate(tables):
        count = 0
        for file in files_of(table):
            with pq.ParquetFile(file) as opened:
                for group in range(opened.num_row_groups):
                    keys_n = opened.read_row_group(group, columns=["key"])["key"].to_numpy()
                    yield Part(file.absolute(), group, f"{number:02d}-{count:06d}"), keys_n
                    count += 1


def read_chunks(tables: Iterable[Path], columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of tables, a few thousand at a time, and never of two row groups: those are small where rows are large."""
    for table in tables:
        for file in files_of(table):
            with pq.ParquetFile(file) as opened:
                for group in range(opened.num_row_groups):
                    for batch in opened.iter_batches(ROWS_PER_CHUNK, row_groups=[group], columns=columns):
                        yield as_samples(pa.Table.from_batches([batch]))


def tasks_of(
    tables: Sequence[Path], keys_N: npt.NDArray[np.uint64], told: Mapping[str, pa.Array | pa.ChunkedArray] | None = None
) -> list[Task]:
    """A task for every part that holds planned samples, in the order of the parts.

    Args:
        keys_N: of the planned samples; other rows of the tables have no part in this.
        told: further columns, N values each, that go with the samples.

    Raises:
        KeyError: a planned sample is in no table.
        ValueError: one is there twice.
    """
    order_N, found_N, tasks = np.argsort(keys_N), np.zeros(len(keys_N), bool), []
    ascending_N = keys_N[order_N]
    for part, keys_n in parts_of(tables):
        at_n = found_at(ascending_N, keys_n)
        mine_n = at_n >= 0
        if not mine_n.any():
            continue
        rows = order_N[at_n[mine_n]]
        found_N[rows] = True
        what = {
            "file": str(part.file),
            "group": part.group,
            "mask": np.packbits(mine_n).tobytes(),
            **{name: values.take(pa.array(rows)) for name, values in (told or {}).items()},
        }
        tasks.append(Task(part.name, len(rows), what))
    if not found_N.all():
        missing = keys_N[~found_N]
        raise KeyError(f"{len(missing)} planned samples are in no release, the first has key {missing[0]}")
    if twice := sum(task.rows for task in tasks) - len(keys_N):
        raise ValueError(f"{twice} planned samples are twice in {', '.join(map(str, tables))}")
    return tasks


def marked(mask: bytes, count: int) -> npt.NDArray[np.bool_]:
    """(count,) which rows a task's mask says."""
    return np.unpackbits(np.frombuffer(mask, np.uint8), count=count).astype(bool)


@dataclass(frozen=True)
class Batches:
    """The planned batches of a part, by (length, key), the same for whoever makes them."""

    samples: int | None
    """Of a batch, at most; None: as many as their tokens allow."""
    tokens: int
    """Of a batch, padding included, at most."""
    by: tuple[str, ...] = ()
    """Columns of text, of which a batch has one value each."""
    beyond: str | None = None
    """The column of the tokens that a sample may get beside its own."""

    def __call__(self, file: str, group: int, mask: bytes, **told: list[Any]) -> Iterator[list[dict[str, Any]]]:
        """The samples of each batch as mappings, sorted by key; memory holds the part as a table, and one batch so."""
        with pq.ParquetFile(file) as opened:
            table = as_samples(opened.read_row_group(group))
        table = table.filter(pa.array(marked(mask, len(table))))
        for name, values in told.items():
            table = table.append_column(name, pa.array(values))
        keys_n, lengths_n = table["key"].to_numpy(), table["length"].to_numpy()
        if self.beyond is not None:
            lengths_n = lengths_n + table[self.beyond].to_numpy()
        most = len(keys_n) if self.samples is None else self.samples
        batch_n = plan_groups(self._groups(table), keys_n, lengths_n, most, self.tokens)
        order_n = np.lexsort((keys_n, batch_n))
        starts = np.flatnonzero(np.diff(batch_n[order_n], prepend=-1))
        for rows in np.split(order_n, starts)[1:]:
            yield table.take(pa.array(rows)).to_pylist()

    def _groups(self, table: pa.Table) -> npt.NDArray[np.intp]:
        """(n,) alike for rows that may share a batch."""
        group_n = np.zeros(len(table), np.intp)
        for name in self.by:
            values, codes_n = np.unique(np.array(table[name].to_pylist(), dtype=str), return_inverse=True)
            group_n = group_n * len(values) + codes_n
        return group_n
