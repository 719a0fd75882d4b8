"""A mark of every row that a release's files held when they were read: by it a file that lost rows is known for what it was.

A release whose files lost nothing but withdrawn rows is the same release: what was made of it stands.
"""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.data.readers.checks import content
from liit.engine.data.readers.formats import read
from liit.engine.data.readers.ids import apart_id
from liit.engine.data.readers.sample import Bad
from liit.engine.data.stream import contents_of
from liit.engine.data.withdrawing import Withdrawn
from liit.engine.run.deciding import finished
from liit.engine.run.files import appearing, read_json, read_table, write_json
from liit.engine.run.progress import log
from liit.engine.run.tables import key_of
from liit.engine.settings.sections import Pool
from liit.engine.settings.streams import Release

FOLDER = "rows"
ROWS = pa.schema([("row", pa.uint64()), ("id", pa.string())])
"""`row`: a hash of the id that it came with and all that is in it. `id`: of the sample that it is; null where it is none."""


def beside(release: Path) -> Path:
    """Where the rows of a release's files are."""
    return release.parents[1] / FOLDER / release.name


def write_source_rows(
    path: Path, samples: Iterable[tuple[npt.NDArray[np.uint64], pa.Array]], bad: Iterable[Bad]
) -> None:
    """Write a ROWS row for each row that was read. samples: a few rows at a time, as `Spooled.rows` has them."""
    none = [_mark_of_bad(one) for one in bad if one.stage == "read"]
    path.parent.mkdir(parents=True, exist_ok=True)
    with appearing(path) as temporary, pq.ParquetWriter(temporary, ROWS) as writer:
        writer.write_table(pa.table([none, pa.nulls(len(none), pa.string())], schema=ROWS))
        for marks, names in samples:
            writer.write_batch(pa.record_batch([pa.array(marks), names], schema=ROWS))


def lost(path: Path, release: Release) -> set[str] | None:
    """Ids of the samples whose rows the files hold no more; None where they hold other rows.

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
    return {name for mark in before if mark not in now for name in names[mark] if name is not None}


def _mark_of_bad(row: Bad) -> int:
    return key_of(f"bad {row.id} {row.reason}")


def contents_but_withdrawn(made: Path, release: Release, rules: Pool, acts: bool) -> dict[str, str]:
    """The contents of a release's files; those that the finished result `made` was read from, where the files have lost nothing
    since but withdrawn samples. acts: whether that may be written down, so that the files are not read again for it. Raises
    ValueError as `contents_of` does."""
    now, record = contents_of(release), finished(made)
    rows = beside(made)
    before: dict[str, str] = (record or {}).get("files", {})
    if not before or sorted(now.values()) == sorted(before.values()) or not rules.withdrawals or not rows.is_file():
        return now
    contents, lines = tuple(sorted(now.values())), rules.withdrawn_at(max(rules.withdrawals))
    known = rows.with_suffix(".json")
    found = read_json(known) if known.is_file() else []
    if list(contents) in found:
        return before
    if not _compared(made, release.model_dump_json(), contents, lines):
        return now
    if acts:
        write_json(known, [*found, list(contents)])
    return before


@lru_cache(maxsize=64)
def _compared(made: Path, release: str, contents: tuple[str, ...], lines: tuple[str, ...]) -> bool:
    source = Release.model_validate_json(release)
    gone = lost(beside(made), source)
    if gone is None:
        return False
    usable = gone & set(read_table(made, ["id"])["id"].to_pylist())  # what could not be used had no part in anything
    if not usable <= Withdrawn.of(lines).among([made]).keys():
        return False
    log.info("%s: its files have lost %d withdrawn samples, and are otherwise as they were", source.name, len(gone))
    return True
