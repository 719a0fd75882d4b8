"""Which samples the pool holds at a timestep: those that stayed, and those that have just arrived."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from liit.engine.store import read_table, write_table
from liit.engine.tables import POOL, QUARANTINE, REMOVED, sort_by_key


def grow(previous: Path | None, release: Path, partial: Path) -> None:
    """Write the POOL rows of a timestep: the previous pool without what left it there, and the whole new release.

    previous: the folder of the timestep before; None at the first one.
    """
    new = read_table(release, POOL.names)
    old = remaining(previous) if previous is not None else POOL.empty_table()
    write_table(partial, sort_by_key(pa.concat_tables([old, new])))


def remaining(timestep: Path) -> pa.Table:
    """POOL rows that go on after a timestep: not removed, not quarantined while it was scored."""
    pool = read_table(timestep / "pool.parquet")
    gone = pa.concat_arrays(
        [*_ids(timestep / "removed.parquet", REMOVED), *_ids(timestep / "quarantine.parquet", QUARANTINE)]
    )
    return pool.filter(pc.invert(pc.is_in(pool["id"], gone)))


def _ids(path: Path, schema: pa.Schema) -> list[pa.Array]:
    table = read_table(path, ["id"]) if path.is_file() else schema.empty_table()
    return [chunk.cast(pa.string()) for chunk in table["id"].chunks] or [pa.array([], pa.string())]


def described(releases: list[Path], pool: Path) -> pa.Table:
    """id, key, dataset and length of every sample of a pool, sorted by key. Raises KeyError as `samples` does."""
    return _of(releases, read_table(pool, ["id"])["id"], ["id", "key", "dataset", "length"])


def samples(releases: list[Path], ids: pa.ChunkedArray) -> pa.Table:
    """The SAMPLE rows with these ids, sorted by key. Raises KeyError naming an id that no release has."""
    return _of(releases, ids, None)


def _of(releases: list[Path], ids: pa.ChunkedArray, columns: list[str] | None) -> pa.Table:
    tables = (read_table(release, columns) for release in releases)
    found = [table.filter(pc.is_in(table["id"], ids.combine_chunks())) for table in tables]
    table = sort_by_key(pa.concat_tables(found))
    if len(table) != len(ids):
        missing = ids.filter(pc.invert(pc.is_in(ids, table["id"].combine_chunks())))
        raise KeyError(f"{len(missing)} samples are in no release, the first is {missing[0]}")
    return table
