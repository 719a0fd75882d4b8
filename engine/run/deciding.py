"""What is to be done about a result: it is kept, made, gone on with, extended, or would be made anew, and why."""

import glob
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from liit.engine.run.files import read_json
from liit.engine.run.recipe import Recipe

State = Literal["kept", "to do", "goes on", "extended", "made anew", "set aside"]


@dataclass(frozen=True)
class Verdict:
    """Of one result. made anew and set aside: it is finished, and something else is to stand in its place, or nothing."""

    name: str
    state: State
    reasons: tuple[str, ...] = ()

    @property
    def to_do(self) -> bool:
        """Whether something is to be made."""
        return self.state not in ("kept", "set aside")

    @property
    def supersedes(self) -> bool:
        return self.state in ("made anew", "set aside")

    @property
    def retells(self) -> bool:
        """Whether it is extended, and says something otherwise than it did and not only more."""
        return self.state == "extended" and any(
            reason.startswith("judged.") and " (not set) → " not in reason for reason in self.reasons
        )


def note_of(result: Path) -> Path:
    """The record of a finished result."""
    return result.with_name(f"{result.name}.made.json")


def work_note_of(result: Path) -> Path:
    """The record of one in the making."""
    return result.with_name(f"{result.name}.partial.json")


def partial_of(result: Path) -> Path:
    return result.with_name(f"{result.name}.partial")


def beginnings(result: Path) -> Iterator[Path]:
    """All that is there of a result in the making."""
    return result.parent.glob(f"{glob.escape(result.name)}.partial*")


def finished(result: Path) -> dict[str, Any] | None:
    """The record of a finished result, of a forgotten one too; None where there is none."""
    note, work = note_of(result), work_note_of(result)
    if work.is_file() and result.exists() and not partial_of(result).exists():
        record: dict[str, Any] = read_json(work)
        if record.get("whole"):  # its process ended between the result's rename and its record's
            return record
    if note.is_file():
        record = read_json(note)
        if result.exists() or record.get("forgotten"):
            return record
    return None


def begun(result: Path) -> dict[str, Any]:
    """The record of a result in the making; empty where there is none. Earlier versions kept it under the finished one's name."""
    if work_note_of(result).is_file():
        record: dict[str, Any] = read_json(work_note_of(result))
        return record
    note = note_of(result)
    return read_json(note) if note.is_file() and not result.exists() and not read_json(note).get("forgotten") else {}


def verdict(root: Path, recipe: Recipe) -> Verdict:
    """What a run would do about a result in the folder `root`."""
    result = root / recipe.name
    record = finished(result)
    if record is None:
        on = begun(result).get("fingerprint") == recipe.fingerprint and any(beginnings(result))
        return Verdict(recipe.name, "goes on" if on else "to do")
    if record["fingerprint"] == recipe.fingerprint:
        return Verdict(recipe.name, "kept")
    reasons = recipe.differences(record)
    if record.get("forgotten"):
        return Verdict(recipe.name, "to do", reasons)
    extended = record.get("core") == recipe.core and bool(recipe.more or recipe.more_parents)
    return Verdict(recipe.name, "extended" if extended else "made anew", reasons)
