"""A finished profile read from disk, as the stages after scoring and the tools beside them do; no Ray, no torch.

Vectors are columns of fixed-size binary, the bytes of float16 numbers: a list column takes longer to write and to
read (docs/results/throughput.md). Legend: N usable samples, D dimensions.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.run.files import read_table
from liit.engine.run.tables import among, found_at, sort_by_key
from liit.selectors.directions import let_go
from liit.selectors.priority import smallest

NUMBER = np.dtype("<f2")
ROWS = 8192
"""Copied at a time."""


def read_profile(folder: Path, columns: Sequence[str]) -> pa.Table:
    """The usable rows of a profile, sorted by key: `id`, `key` and the named columns, none of them a vector."""
    table = read_table(folder, ["id", "key", "status", *dict.fromkeys(columns)])
    return table.filter(pc.equal(table["status"], "ok")).drop_columns(["status"]).sort_by("key")


def column_names(folder: Path) -> tuple[list[str], list[str]]:
    """The scores and the vectors that a profile has."""
    schema = pq.read_schema(min(folder.glob("*.parquet")))
    scores = [field.name for field in schema if pa.types.is_float32(field.type)]
    return scores, [field.name for field in schema if pa.types.is_fixed_size_binary(field.type)]


def read_scores(folder: Path, columns: Sequence[str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(N,) keys, ascending, and the named scores of the usable rows of a profile: as `read_profile`, without ids."""
    parts, names = sorted(folder.glob("*.parquet")), ["key", *dict.fromkeys(columns)]
    rows = sum(pq.read_metadata(part).num_rows for part in parts)
    found = {name: np.empty(rows, np.uint64 if name == "key" else np.float32) for name in names}
    end = 0
    for part in parts:
        table = pq.read_table(part, columns=[*names, "status"])
        table = table.filter(pc.equal(table["status"], "ok"))
        for name, column in found.items():
            column[end : end + len(table)] = table[name].to_numpy()
        end += len(table)
    order_N = np.argsort(found["key"][:end])
    for name in names:
        found[name] = found[name][:end][order_N]
    return found.pop("key"), found


def sampled_scores(
    folder: Path, columns: Sequence[str], count: int, *salt: int | str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """`read_scores` of so many samples by hash, of all where there are fewer; memory holds twice as many."""
    kept: list[pa.Table] = []
    for part in sorted(folder.glob("*.parquet")):
        table = pq.read_table(part, columns=["key", *columns, "status"])
        kept.append(table.filter(pc.equal(table["status"], "ok")))
        if sum(map(len, kept)) > 2 * count:
            kept = [_smallest(pa.concat_tables(kept), count, *salt)]
    table = sort_by_key(_smallest(pa.concat_tables(kept), count, *salt))
    return table["key"].to_numpy(), {name: table[name].to_numpy() for name in columns}


def _smallest(table: pa.Table, count: int, *salt: int | str) -> pa.Table:
    return table.take(pa.array(smallest(table["key"].to_numpy(), count, *salt)))


def arrivals(folder: Path, keys_N: np.ndarray) -> np.ndarray:
    """(N,) int32: the timestep at which each of these samples of a profile came, by the pool beside it; 0 where there is none.

    Raises ValueError where the pool lacks one of them.
    """
    path = folder.parent / "pool.parquet"
    if not path.is_file():
        return np.zeros(len(keys_N), np.int32)
    order_N = slice(None) if (keys_N[1:] > keys_N[:-1]).all() else np.argsort(keys_N)
    arrival_N = np.empty(len(keys_N), np.int32)
    arrival_N[order_N] = told_of(path, keys_N[order_N], arrival=np.int32)["arrival"]
    return arrival_N


def told_of(path: Path, keys_N: np.ndarray, **columns: type) -> dict[str, np.ndarray]:
    """(N,) what the columns of a table, numbers of these types, say of each sample; memory holds a chunk of it. Keys ascending.

    Raises ValueError where the table lacks one of the samples.
    """
    found: dict[str, np.ndarray] = {name: np.zeros(len(keys_N), kind) for name, kind in columns.items()}
    count = 0
    with pq.ParquetFile(path) as opened:
        for batch in opened.iter_batches(columns=["key", *columns]):
            at_n, mine = among(pa.Table.from_batches([batch]), keys_N)
            for name, values in found.items():
                values[at_n] = mine[name].to_numpy()
            count += len(mine)
    if count < len(keys_N):
        raise ValueError(f"{len(keys_N) - count} samples are not in {path}; they are not of the same timestep")
    return found


def read_vectors(folder: Path, name: str) -> np.ndarray:
    """(N, D) float16: a vector of the usable rows, sorted by key, in a file that is mapped and has no name.

    It lies beside the profile and goes when nothing holds the matrix any more; memory has only what is being looked at.
    """
    parts = sorted(folder.glob("*.parquet"))
    place = _places(parts)
    width = pq.read_schema(parts[0]).field(name).type.byte_width // NUMBER.itemsize
    count = int(place.max(initial=-1)) + 1
    if not count:
        return np.empty((0, width), NUMBER)
    matrix = _unnamed(folder, count, width)
    start = 0
    for part in parts:
        rows = unpacked(pq.read_table(part, columns=[name])[name])
        here = place[start : start + len(rows)]
        matrix[here[here >= 0]] = rows[here >= 0]
        start += len(rows)
        let_go(matrix)
    return matrix


def read_vectors_of(folder: Path, name: str, keys_n: np.ndarray) -> np.ndarray:
    """(n, D) float16: a vector of the samples with these keys, ascending, all of which the profile has; no others are held."""
    parts = sorted(folder.glob("*.parquet"))
    rows_nD = np.empty((len(keys_n), pq.read_schema(parts[0]).field(name).type.byte_width // NUMBER.itemsize), NUMBER)
    for part in parts:
        at = found_at(keys_n, pq.read_table(part, columns=["key"])["key"].to_numpy())
        if (at >= 0).any():
            rows_nD[at[at >= 0]] = unpacked(pq.read_table(part, columns=[name])[name])[at >= 0]
    return rows_nD


def _places(parts: Sequence[Path]) -> np.ndarray:
    """Of every row of the parts its place among the usable ones by key, -1 where it is none of them."""
    keys, usable = [], []
    for part in parts:
        table = pq.read_table(part, columns=["key", "status"])
        usable.append(pc.equal(table["status"], "ok").to_numpy())
        keys.append(table["key"].to_numpy()[usable[-1]])
    usable_M = np.concatenate(usable)
    place_M = np.full(len(usable_M), -1)
    order_N = np.argsort(np.concatenate(keys))
    place_N = np.empty_like(order_N)
    place_N[order_N] = np.arange(len(order_N))
    place_M[usable_M] = place_N
    return place_M


def taken(folder: Path, vectors_ND: np.ndarray, rows_n: np.ndarray) -> np.ndarray:
    """(n, D): some rows of vectors that `read_vectors` read from a profile, in such a file of their own."""
    if not len(rows_n):
        return vectors_ND[:0]
    matrix = _unnamed(folder, len(rows_n), vectors_ND.shape[1])
    for start in range(0, len(rows_n), ROWS):
        matrix[start : start + ROWS] = vectors_ND[rows_n[start : start + ROWS]]
        let_go(matrix)
        let_go(vectors_ND)
    return matrix


def _unnamed(folder: Path, rows: int, width: int) -> np.memmap:
    """A matrix in a file beside a profile, which goes with it."""
    with tempfile.TemporaryFile(dir=folder.parent if os.access(folder.parent, os.W_OK) else None) as file:
        os.posix_fallocate(
            file.fileno(), 0, rows * width * NUMBER.itemsize
        )  # a full disk is an error now, no crash later
        return np.memmap(file, NUMBER, "w+", shape=(rows, width))


def packed(rows_ND: np.ndarray) -> pa.Array:
    """Rows as a column of a profile."""
    content = np.ascontiguousarray(rows_ND, NUMBER)
    kind = pa.binary(content.shape[1] * NUMBER.itemsize)
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(content), [None, pa.py_buffer(content)])


def unpacked(column: pa.ChunkedArray) -> np.ndarray:
    """A column of a profile as rows, read-only."""
    array = column.combine_chunks()
    width = array.type.byte_width // NUMBER.itemsize
    rows = np.frombuffer(array.buffers()[1], NUMBER) if len(array) else np.empty(0, NUMBER)
    return rows.reshape(-1, width)[array.offset : array.offset + len(array)]
