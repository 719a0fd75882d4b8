"""Which samples the pool holds at a timestep: those that stayed, and those that have just arrived."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from liit.engine.data.copies import words
from liit.engine.data.withdrawing import Withdrawn, removed
from liit.engine.fleet.parts import read_chunks
from liit.engine.run.files import read_table, write_table
from liit.engine.run.progress import log
from liit.engine.run.tables import POOL, QUARANTINE, REMOVED, SAMPLE, sort_by_key
from liit.engine.settings.sections import Pool
from liit.selectors.duplicates import contamination, duplicates


def grow(
    previous: Path | None, releases: list[Path], exams: list[Path], rules: Pool, partial: Path, t: int = 0
) -> None:
    """Write the POOL rows of a timestep, and beside them as `copies.parquet` (REMOVED rows) what is left out of it.

    The pool is what stayed of the previous one and the whole new release, without exact copies: of equal samples the
    first arrival stays. A copy of a sample that the model is examined on is left out too, or only reported.

    previous: the folder of the timestep before; None at the first one. releases: all until now, the new one last. exams: the
    samples of each evaluation set. t: the timestep; what is withdrawn by then is in no pool.
    """
    new = read_table(releases[-1], POOL.names)
    old = remaining(previous) if previous is not None else POOL.empty_table()
    table = sort_by_key(pa.concat_tables([old, new]))
    withdrawn = removed(Withdrawn.of(rules.withdrawn_at(t)).among(releases, table["id"]))
    table = _without(table, withdrawn)
    contents = words(_of(releases, table["id"], ["id", "key", "content"])["content"])
    copies = [_copies(table, contents)] if rules.duplicates == "remove" else []
    if exams:
        examined = pa.concat_tables([read_table(exam, ["id", "content"]) for exam in exams])
        found = _examined(table, contents, examined["id"], words(examined["content"]))
        copies += [found] if rules.contamination == "remove" else []
        if len(found):
            fate = "leave the pool" if rules.contamination == "remove" else "stay, as pool.contamination says"
            log.info("contamination: %d samples are copies of evaluation samples; they %s", len(found), fate)
    left = pa.concat_tables([REMOVED.empty_table(), *reversed(copies)])
    left = left.filter(first_of(left["id"]))
    if len(withdrawn):
        log.info("pool: %d samples are withdrawn", len(withdrawn))
    if len(left):
        log.info("pool: %d of %d samples are exact copies and left out", len(left), len(table))
    write_table(partial.with_name("copies.parquet"), pa.concat_tables([withdrawn, left]))
    write_table(partial, _without(table, left))


def _without(table: pa.Table, left: pa.Table) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table["id"], left["id"].combine_chunks())))


def _copies(table: pa.Table, contents: np.ndarray) -> pa.Table:
    stays = duplicates(contents, table["arrival"].to_numpy(), table["key"].to_numpy())
    gone = np.flatnonzero(stays >= 0)
    return _removed(table["id"].take(gone), "duplicate", table["id"].take(stays[gone]))


def _examined(table: pa.Table, contents: np.ndarray, ids: pa.ChunkedArray, examined: np.ndarray) -> pa.Table:
    like = contamination(contents, examined)
    gone = np.flatnonzero(like >= 0)
    return _removed(table["id"].take(gone), "contamination", ids.take(like[gone]))


def _removed(ids: pa.ChunkedArray, reason: str, like: pa.ChunkedArray) -> pa.Table:
    return pa.table([ids, pa.array([reason] * len(ids), pa.string()), like], schema=REMOVED)


def first_of(ids: pa.ChunkedArray) -> pa.Array:
    """Which rows are the first of their id."""
    first = np.zeros(len(ids), bool)
    first[np.unique(np.asarray(ids.to_pylist(), dtype=object).astype(str), return_index=True)[1]] = True
    return pa.array(first)


def remaining(timestep: Path) -> pa.Table:
    """POOL rows that go on after a timestep: not removed, not quarantined while it was scored."""
    pool = read_table(timestep / "pool.parquet")
    gone = pa.concat_arrays([*_ids(timestep / "removed.parquet"), *_ids(timestep / "quarantine.parquet", "score")])
    return pool.filter(pc.invert(pc.is_in(pool["id"], gone)))


def _ids(path: Path, stage: str | None = None) -> list[pa.Array]:
    """Of a table; stage: of a quarantine's rows that this stage found. Another row may have had the id of a good sample."""
    table = read_table(path) if path.is_file() else QUARANTINE.empty_table()
    if stage is not None:
        table = table.filter(pc.equal(table["stage"], stage))
    return [chunk.cast(pa.string()) for chunk in table["id"].chunks] or [pa.array([], pa.string())]


def described(releases: list[Path], pool: Path, arrival: int | None = None) -> pa.Table:
    """id, key, dataset and length of every sample of a pool, or of those that came at one timestep, sorted by key.

    Raises KeyError as `samples` does.
    """
    table = read_table(pool, ["id", "arrival"])
    if arrival is not None:
        table = table.filter(pc.equal(table["arrival"], arrival))
    return _of(releases, table["id"], ["id", "key", "dataset", "length"])


def tasks(releases: list[Path], ids: pa.ChunkedArray) -> pa.ChunkedArray:
    """The task that each of these samples names, null where it names none, in the order of their keys.

    Raises KeyError as `samples` does.
    """
    return _of(releases, ids, ["id", "key", "task"])["task"]


def samples(releases: list[Path], ids: pa.ChunkedArray) -> pa.Table:
    """The SAMPLE rows with these ids, sorted by key; memory holds them and one part of a release.

    Raises KeyError naming an id that no release has.
    """
    return sort_by_key(pa.concat_tables([SAMPLE.empty_table(), *streamed(releases, ids)]))


def streamed(releases: list[Path], ids: pa.ChunkedArray) -> Iterator[pa.Table]:
    """The same rows as the releases have them, a part at a time; the error comes at the end."""
    wanted, found = ids.combine_chunks(), []
    for chunk in read_chunks(releases):
        mine = chunk.filter(pc.is_in(chunk["id"], wanted))
        found.append(mine["id"])
        yield mine
    _refuse_missing(ids, pa.chunked_array([part for ids in found for part in ids.chunks], pa.string()))


def _of(releases: list[Path], ids: pa.ChunkedArray, columns: list[str]) -> pa.Table:
    wanted = ids.combine_chunks()
    tables = (read_table(release, columns) for release in releases)
    return _whole([table.filter(pc.is_in(table["id"], wanted)) for table in tables], ids)


def _whole(found: list[pa.Table], ids: pa.ChunkedArray) -> pa.Table:
    """All of them, sorted by key. Raises KeyError where one is missing."""
    table = sort_by_key(pa.concat_tables(found))
    _refuse_missing(ids, table["id"])
    return table


def _refuse_missing(ids: pa.ChunkedArray, found: pa.ChunkedArray) -> None:
    if len(found) != len(ids):
        missing = ids.filter(pc.invert(pc.is_in(ids, found.combine_chunks())))
        raise KeyError(f"{len(missing)} samples are in no release, the first is {missing[0]}")
