"""A release whose files lost rows that are withdrawn is the same release: what was made of it stands."""

from functools import lru_cache
from pathlib import Path

from liit.engine.data import source_rows
from liit.engine.data.stream import contents_of
from liit.engine.data.withdrawing import Withdrawn
from liit.engine.run.deciding import finished
from liit.engine.run.files import read_json, write_json
from liit.engine.run.progress import log
from liit.engine.settings.sections import Pool
from liit.engine.settings.streams import Release


def contents_but_withdrawn(made: Path, release: Release, rules: Pool, acts: bool) -> dict[str, str]:
    """The contents of a release's files; those that the finished result `made` was read from, where the files have lost nothing
    since but withdrawn samples. acts: whether that may be written down, so that the files are not read again for it. Raises
    ValueError as `contents_of` does."""
    now, record = contents_of(release), finished(made)
    rows = source_rows.beside(made)
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
    gone = source_rows.lost(source_rows.beside(made), source)
    if gone is None:
        return False
    withdrawn = Withdrawn.of(lines).among([made])
    if not gone <= withdrawn.keys():
        return False
    log.info("%s: its files have lost %d withdrawn samples, and are otherwise as they were", source.name, len(gone))
    return True
