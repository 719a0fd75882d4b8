"""A mark of every row that a release's files held when they were read: by it a file that lost rows is known for what it was."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from liit.engine.data.readers.checks import content
from liit.engine.data.readers.formats import read
from liit.engine.data.readers.ids import apart_id
from liit.engine.data.readers.sample import Bad
from liit.engine.run.files import read_table, write_table
from liit.engine.run.tables import key_of
from liit.engine.settings.streams import Release

FOLDER = "rows"
ROWS = pa.schema([("row", pa.uint64()), ("id", pa.string())])
"""`row`: a hash of the id that it came with and all that is in it. `id`: of the sample that it is; null where it is none."""


def beside(release: Path) -> Path:
    """Where the rows of a release's files are."""
    return release.parents[1] / FOLDER / release.name


def write_source_rows(path: Path, samples: Iterable[tuple[int, str]], bad: Iterable[Bad]) -> None:
    """Write a ROWS row for each row that was read."""
    rows = [*samples, *((_mark_of_bad(one), None) for one in bad if one.stage == "read")]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, pa.table([[mark for mark, _ in rows], [name for _, name in rows]], schema=ROWS))


def lost(path: Path, release: Release) -> set[str] | None:
    """Ids of the samples whose rows the files hold no more; None where they hold other rows, or lost one that was no sample.

    path: what `write_source_rows` wrote. Raises ValueError as `read` does.
    """
    reader = read(release)
    now = Counter(
        _mark_of_bad(row) if isinstance(row, Bad) else key_of(apart_id(row["id"], content(row, reader.folder)))
        for row in reader
    )
    table = read_table(path)
    before = Counter(table["row"].to_pylist())
    if now - before:
        return None
    names: dict[int, list[str | None]] = {}
    for mark, name in zip(table["row"].to_pylist(), table["id"].to_pylist(), strict=True):
        names.setdefault(mark, []).append(name)
    gone = {name for mark in before - now for name in names[mark]}
    return None if None in gone else {name for name in gone if name is not None}


def _mark_of_bad(row: Bad) -> int:
    return key_of(f"bad {row.id} {row.reason}")
