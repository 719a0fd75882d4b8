"""Which samples the pool holds at a timestep: those that stayed, and those that have just arrived.

Samples are told apart by their keys: of each, memory holds a few numbers; ids are read where they are written. N samples.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from liit.engine.data.copies import words
from liit.engine.data.withdrawing import Withdrawn, removed
from liit.engine.fleet.in_key_order import merged, written
from liit.engine.fleet.parts import read_chunks
from liit.engine.run.files import read_table, write_table
from liit.engine.run.progress import log
from liit.engine.run.tables import POOL, REMOVED, SAMPLE, among, found_at, keys_of, sort_by_key
from liit.engine.settings.sections import Pool
from liit.selectors.duplicates import contamination, duplicates
from liit.selectors.priority import Keys


def grow(
    previous: Path | None, releases: list[Path], exams: list[Path], rules: Pool, partial: Path, t: int = 0
) -> None:
    """Write the POOL rows of a timestep, and beside them as `copies.parquet` (REMOVED rows) what is left out of it.

    The pool is what stayed of the previous one and the whole new release, without exact copies: of equal samples the
    first arrival stays. A copy of a sample that the model is examined on is left out too, or only reported.

    previous: the folder of the timestep before; None at the first one. releases: all until now, the new one last. exams: the
    samples of each evaluation set. t: the timestep; what is withdrawn by then is in no pool.
    """
    keys_N, arrival_N = _candidates(previous, releases[-1])
    withdrawn = removed(Withdrawn.of(rules.withdrawn_at(t)).among(releases))
    at_m = found_at(keys_N, keys_of(withdrawn["id"]))
    withdrawn, at_m = withdrawn.filter(pa.array(at_m >= 0)), at_m[at_m >= 0]
    if len(at_m):
        keys_N, arrival_N = np.delete(keys_N, at_m), np.delete(arrival_N, at_m)
    left = _left_out(keys_N, arrival_N, releases, exams, rules)
    if len(withdrawn):
        log.info("pool: %d samples are withdrawn", len(withdrawn))
    if len(left):
        log.info("pool: %d of %d samples are exact copies and left out", len(left), len(keys_N))
    write_table(partial.with_name("copies.parquet"), pa.concat_tables([withdrawn, left]))
    keys_N = keys_N[~np.isin(keys_N, keys_of(left["id"]))] if len(left) else keys_N
    tables = [releases[-1]] if previous is None else [previous / "pool.parquet", releases[-1]]
    written(partial, merged(tables, POOL.names), keys_N, POOL)


def _candidates(previous: Path | None, release: Path) -> tuple[Keys, npt.NDArray[np.int32]]:
    """Keys, ascending, and arrivals of what stayed of the pool before, and of a release."""
    chunks = [] if previous is None else [remaining(previous)]
    chunks += read_chunks([release], ["key", "arrival"])
    keys_N = np.concatenate([chunk["key"].to_numpy() for chunk in chunks])
    arrival_N = np.concatenate([chunk["arrival"].to_numpy() for chunk in chunks])
    del chunks
    order_N = np.argsort(keys_N)
    arrival_N = arrival_N[order_N]
    return keys_N[order_N], arrival_N


def _left_out(
    keys_N: Keys, arrival_N: npt.NDArray[np.int32], releases: list[Path], exams: list[Path], rules: Pool
) -> pa.Table:
    """REMOVED rows of what a pool is kept free of: copies of evaluation samples first, and of each sample one row."""
    contents_N2 = _contents(releases, keys_N)
    none = (np.empty(0, np.int64), pa.nulls(0, pa.string()))
    examined = _examined(contents_N2, exams) if exams else none
    if len(examined[0]):
        fate = "leave the pool" if rules.contamination == "remove" else "stay, as pool.contamination says"
        log.info("contamination: %d samples are copies of evaluation samples; they %s", len(examined[0]), fate)
    if rules.contamination != "remove":
        examined = none
    copies, stay = np.empty((2, 0), np.int64)
    if rules.duplicates == "remove":
        stays_N = duplicates(contents_N2, arrival_N, keys_N)
        copies = np.setdiff1d(np.flatnonzero(stays_N >= 0), examined[0])
        stay = stays_N[copies]
    del contents_N2
    gone = np.concatenate([examined[0], copies])
    names = ids_of(releases, keys_N[np.concatenate([gone, stay])])
    reasons = pa.array(["contamination"] * len(examined[0]) + ["duplicate"] * len(copies), pa.string())
    like = pa.concat_arrays([examined[1], names[len(gone) :].combine_chunks()])
    return pa.table([names[: len(gone)], reasons, like], schema=REMOVED)


def _contents(releases: list[Path], keys_N: Keys) -> np.ndarray:
    """(N, 2) uint64: the hash of each sample's pixels and words. Raises KeyError where a sample is in no release."""
    return _filled(np.empty((len(keys_N), 2), np.uint64), releases, keys_N, "content", words)


def _filled(
    values_N: npt.NDArray[Any],
    releases: list[Path],
    keys_N: Keys,
    column: str,
    read: Callable[[pa.ChunkedArray], npt.NDArray[Any]],
) -> npt.NDArray[Any]:
    """`values_N` with what a column says of each sample; keys ascending. Raises KeyError where a sample is in no release."""
    found = 0
    for chunk in read_chunks(releases, ["key", column]):
        at_n, mine = among(chunk, keys_N)
        values_N[at_n] = read(mine[column])
        found += len(mine)
    _refuse_missing(releases, keys_N, found)
    return values_N


def _examined(contents_N2: np.ndarray, exams: list[Path]) -> tuple[npt.NDArray[np.int64], pa.Array]:
    """Which samples are copies of evaluation samples, and the ids of those."""
    examined = pa.concat_tables([read_table(exam, ["id", "content"]) for exam in exams])
    like_N = contamination(contents_N2, words(examined["content"]))
    gone = np.flatnonzero(like_N >= 0)
    return gone, examined["id"].take(pa.array(like_N[gone])).combine_chunks()


def remaining(timestep: Path) -> pa.Table:
    """Key and arrival of what goes on after a timestep: not removed, not quarantined while it was scored."""
    pool = read_table(timestep / "pool.parquet", ["key", "arrival"])
    gone = np.concatenate([_keys(timestep / "removed.parquet"), _keys(timestep / "quarantine.parquet", "score")])
    return pool.filter(pa.array(found_at(np.sort(gone), pool["key"].to_numpy()) < 0))


def _keys(path: Path, stage: str | None = None) -> Keys:
    """Of a table with ids; stage: of a quarantine's rows that this stage found. Another row may have had the id of a good
    sample."""
    if not path.is_file():
        return np.empty(0, np.uint64)
    if stage is None:
        return np.concatenate([np.empty(0, np.uint64), *(keys_of(c["id"]) for c in read_chunks([path], ["id"]))])
    table = read_table(path, ["id", "stage"])
    return keys_of(table.filter(pc.equal(table["stage"], stage))["id"])


def ids_of(tables: Sequence[Path], keys_n: Keys) -> pa.ChunkedArray:
    """(n,) the ids of samples in the order of the keys given, from tables with `id` and `key`.

    Raises KeyError where a sample is in no table.
    """
    own, place_n = np.unique(keys_n, return_inverse=True)
    parts, rows = [pa.array([], pa.string())], [np.empty(0, np.int64)]
    for chunk in read_chunks(tables, ["id", "key"]) if len(own) else ():
        at_n, mine = among(chunk, own)
        parts += mine["id"].chunks
        rows.append(at_n)
    rows_n = np.concatenate(rows)
    _refuse_missing(tables, own, len(rows_n))
    return pa.chunked_array([pa.concat_arrays(parts).take(pa.array(np.argsort(rows_n)[place_n]))], pa.string())


def lengths(releases: list[Path], keys_N: Keys) -> npt.NDArray[np.int32]:
    """(N,) tokens of each sample; keys ascending. Raises KeyError as `ids_of` does."""
    return _filled(np.empty(len(keys_N), np.int32), releases, keys_N, "length", pa.ChunkedArray.to_numpy)


def coded(releases: list[Path], keys_N: Keys, column: str) -> tuple[npt.NDArray[np.int32], list[str]]:
    """(N,) which name a column of text says of each sample, -1 where none, and these names; keys ascending.

    Raises KeyError as `ids_of` does.
    """
    place: dict[str, int] = {}

    def read(values: pa.ChunkedArray) -> npt.NDArray[np.int32]:
        names = pc.unique(values).drop_null()
        own_u = np.array([*(place.setdefault(name, len(place)) for name in names.to_pylist()), -1], np.int32)
        found: npt.NDArray[np.int32] = own_u[pc.fill_null(pc.index_in(values, names), -1).to_numpy()]
        return found

    return _filled(np.empty(len(keys_N), np.int32), releases, keys_N, column, read), list(place)


def tasks(releases: list[Path], ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """The task that each of these samples names, null where it names none, in the order of their keys.

    Raises KeyError as `samples` does.
    """
    keys_N, found = np.sort(keys_of(ids)), [SAMPLE.empty_table().select(["key", "task"])]
    for chunk in read_chunks(releases, ["key", "task"]):
        found.append(among(chunk, keys_N)[1])
    table = sort_by_key(pa.concat_tables(found))
    _refuse_missing(releases, keys_N, len(table), ids)
    return table["task"]


def samples(releases: list[Path], ids: pa.ChunkedArray) -> pa.Table:
    """The SAMPLE rows with these ids, sorted by key; memory holds them and one part of a release.

    Raises KeyError naming an id that no release has.
    """
    return sort_by_key(pa.concat_tables([SAMPLE.empty_table(), *streamed(releases, ids)]))


def streamed(releases: list[Path], ids: pa.ChunkedArray) -> Iterator[pa.Table]:
    """The same rows as the releases have them, a part at a time; the error comes at the end."""
    keys_n, found = np.sort(keys_of(ids)), 0
    for chunk in read_chunks(releases):
        _, mine = among(chunk, keys_n)
        found += len(mine)
        yield mine
    _refuse_missing(releases, keys_n, found, ids)


def _refuse_missing(tables: Sequence[Path], keys_N: Keys, found: int, ids: pa.ChunkedArray | None = None) -> None:
    """Raises KeyError where fewer were found than were asked for; ids: of these samples, where they are known."""
    if found == len(keys_N):
        return
    there = np.concatenate([keys_N[:0], *(chunk["key"].to_numpy() for chunk in read_chunks(tables, ["key"]))])
    missing = keys_N[~np.isin(keys_N, there)]
    first = f"the first has key {missing[0]}" if len(missing) else "a key stands there twice"
    if ids is not None and len(missing):
        first = f"the first is {ids.filter(pa.array(np.isin(keys_of(ids), missing)))[0]}"
    raise KeyError(f"{len(missing)} samples are in no release, {first}")
