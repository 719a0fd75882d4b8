"""Samples that somebody named and that cannot be chosen: how many, which, and why."""

from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from liit.engine.run.files import read_table
from liit.engine.run.progress import log

SHOWN = 3
"""Ids that a message names."""
UNKNOWN = "in no release until now"


def lacking(names: Collection[str], ids: pa.ChunkedArray) -> list[str]:
    """Those of the names that are not among the ids, in order."""
    asked = pa.array(sorted(names), pa.string())
    found: list[str] = asked.filter(pc.invert(pc.is_in(asked, ids.combine_chunks()))).to_pylist()
    return found


def say_missing(what: str, names: Collection[str], of: int, timestep: Path, releases: list[Path], *known: str) -> None:
    """One line that says how many cannot be chosen and why, with some ids of each reason; none where all can.

    what: who named them. of: how many were named. releases: those until the timestep. known: the reasons that matter, else all.
    """
    reasons = reasons_of(names, timestep, releases)
    said = {why: ids for why, ids in reasons.items() if not known or why in known}
    if said:
        parts = [f"{len(ids)} {why} ({shown(ids)})" for why, ids in said.items()]
        count = sum(map(len, said.values()))
        log.warning("%s: %d of %d samples are not there to be chosen: %s", what, count, of, "; ".join(parts))


def reasons_of(names: Collection[str], timestep: Path, releases: list[Path]) -> dict[str, list[str]]:
    """Why each of these samples is not among those that a timestep may choose: reason to ids in order."""
    left, found = set(names), dict[str, list[str]]()
    for why, ids in _gone(timestep, releases):
        mine = left & set(ids.filter(pc.is_in(ids, pa.array(sorted(left), pa.string()))).to_pylist())
        left -= mine
        if mine:
            found[why] = sorted({*found.get(why, ()), *mine})
        if not left:
            return found
    return found | {UNKNOWN: sorted(left)}


def shown(ids: list[str]) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(ids[:SHOWN]) + (f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else "")


def _gone(timestep: Path, releases: list[Path]) -> Iterator[tuple[str, pa.ChunkedArray]]:
    """Reasons with the ids that they are of, those first that say most."""
    steps = [timestep.with_name(f"t{t:02d}") for t in range(int(timestep.name[1:]) + 1)]
    for table in (step / "quarantine.parquet" for step in steps):
        if table.is_file():
            yield "quarantined", read_table(table, ["id"])["id"]
    for table in [*(step / "removed.parquet" for step in steps[:-1]), timestep / "copies.parquet"]:
        if table.is_file():
            rows = read_table(table, ["id", "reason"])
            for reason in pc.unique(rows["reason"]).to_pylist():
                yield f"removed as {reason}", rows["id"].filter(pc.equal(rows["reason"], reason))
    yield "not looked at by the strategy", read_table(timestep / "pool.parquet", ["id"])["id"]
    for release in releases:
        yield "not in the pool", read_table(release, ["id"])["id"]
