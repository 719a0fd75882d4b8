"""The run folder: a stage's result appears under its name by one rename, and says what made it.

Beside every result `x` stands `x.made.json` with the fingerprint of what made it (settings, parents, model) and the seconds
it took, added up over resumes. Until it is whole, work lives in `x.partial` and names that begin so; the same command
continues there, and one with other settings removes them first.
`stages.jsonl` has a line for whenever a stage began, finished or failed: a log, which nothing depends on.
"""

import fcntl
import glob
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from liit.engine.run.files import read_json, remove, write_json
from liit.engine.run.fingerprints import fingerprint
from liit.engine.run.progress import log
from liit.engine.run.rules import RULES, changed_since, rules_of, versions


class StoreError(ValueError):
    """The run folder cannot be used; one line for the person who named it."""


@dataclass(frozen=True)
class Made:
    """A finished result: where it is, and the fingerprint that whatever is made from it carries on."""

    path: Path
    fingerprint: str
    fresh: bool = False
    """Whether this process made it."""
    again: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    """Makes it anew, where it was forgotten."""

    def recall(self) -> None:
        """Bring back a forgotten result, that something is to be made from after all."""
        if not self.path.exists() and self.again is not None:
            self.again()


def path_of(made: Made | None) -> Path | None:
    return None if made is None else made.path


def there(made: Made | None) -> tuple[Made, ...]:
    return () if made is None else (made,)


@dataclass
class Clock:
    """Seconds of work on one stage, written down as they pass, so that a kill loses none but the last moments."""

    path: Path
    record: dict[str, Any]
    before: float = 0.0
    started: float = field(default_factory=time.monotonic)
    written: float = 0.0

    @property
    def seconds(self) -> float:
        """Of work so far, over all resumes."""
        return self.before + time.monotonic() - self.started

    def tick(self, every_s: float = 2.0) -> None:
        """Note the time so far; called as often as one likes."""
        now = time.monotonic()
        if now - self.written >= every_s:
            self.written = now
            write_json(self.path, self.record | {"seconds": round(self.seconds, 3)})


class Store:
    """One run folder. Raises StoreError when it cannot be created or written, or another process is using it."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).resolve()
        self._asked: dict[str, str] = {}
        self._other_versions: set[str] = set()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = (self.root / ".lock").open("a")
        except OSError as error:
            raise StoreError(f"output {root} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreError(f"output {root} is in use by another run; choose another --output") from error

    def close(self) -> None:
        """Let another process use the folder."""
        self._lock.close()

    def make(
        self,
        name: str,
        work: Callable[[Path, Clock], object],
        *,
        settings: Any = None,
        parents: tuple[Made, ...] = (),
    ) -> Made:
        """The result `name`, made by `work(partial, clock)` unless it is there and was made from the same.

        `work` leaves a file or folder at `partial`; what it found there from an earlier, interrupted call had the same
        fingerprint. Anything made from other settings or parents is removed first. A result that was forgotten is made anew only
        when something is to be made from it.
        """
        final, note = self.root / name, self.root / f"{name}.made.json"
        mark = fingerprint(RULES, name, settings, [parent.fingerprint for parent in parents])
        self._asked[name] = mark
        known = read_json(note) if note.is_file() else {}

        def again() -> None:
            self._make(name, work, mark, parents)

        done = known.get("fingerprint") == mark and (final.exists() or known.get("forgotten", False))
        if not done:
            again()
        else:
            self._say_versions(name, known)
        return Made(final, mark, fresh=not done, again=again)

    def _make(self, name: str, work: Callable[[Path, Clock], object], mark: str, parents: tuple[Made, ...]) -> None:
        for parent in parents:
            parent.recall()
        final, note = self.root / name, self.root / f"{name}.made.json"
        partial = final.with_name(final.name + ".partial")
        known = read_json(note) if note.is_file() else {}
        if known.get("fingerprint") != mark:
            if known and (old := rules_of(known)) != RULES:
                log.info("%s is made anew: it is of rules %d, and since then %s", name, old, changed_since(old))
            known = {}
            note.unlink(missing_ok=True)
            for left in final.parent.glob(f"{glob.escape(partial.name)}*"):
                remove(left)
        remove(final)
        final.parent.mkdir(parents=True, exist_ok=True)
        made = [self._named(parent.path) for parent in parents]
        record = {"fingerprint": mark, "parents": made, "rules": RULES, "versions": versions()}
        clock = Clock(note, record, before=float(known.get("seconds", 0.0)))
        clock.tick(0)
        self._note(name, "resumed" if clock.before else "began", clock)
        try:
            work(partial, clock)
        except Exception as error:
            self._note(name, "failed", clock, error=f"{type(error).__name__}: {error}")
            raise
        clock.tick(0)
        partial.rename(final)
        self._note(name, "finished", clock)

    def _named(self, path: Path) -> str:
        """A parent within the folder; one from elsewhere, as an adapter that a team already has, by its whole path."""
        return str(path.relative_to(self.root) if path.is_relative_to(self.root) else path)

    def _say_versions(self, name: str, record: dict[str, Any]) -> None:
        """Once for each package of which another version made a result that is kept."""
        now = versions()
        for package, made_by in record.get("versions", {}).items():
            if now.get(package, made_by) != made_by and package not in self._other_versions:
                self._other_versions.add(package)
                log.warning("%s was made with %s %s and is kept; here is %s", name, package, made_by, now[package])

    def drop(self, name: str) -> bool:
        """Remove a result that this run does not make, and its beginnings; whether there was one."""
        note, final = self.root / f"{name}.made.json", self.root / name
        there = note.is_file()
        note.unlink(missing_ok=True)
        for left in (final, *final.parent.glob(f"{glob.escape(final.name)}.partial*")):
            remove(left)
        return there

    def forget(self, name: str) -> None:
        """Remove a large result and remember that it was made; nothing where it is not there."""
        note = self.root / f"{name}.made.json"
        if note.is_file() and (self.root / name).exists():
            write_json(note, read_json(note) | {"forgotten": True})
            remove(self.root / name)

    def _note(self, name: str, event: str, clock: Clock, **more: str) -> None:
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "result": name,
            "event": event,
            "seconds": round(clock.seconds, 3),
            "fingerprint": clock.record["fingerprint"],
        }
        with (self.root / "stages.jsonl").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line | more, ensure_ascii=False) + "\n")

    def marks(self) -> dict[str, str]:
        """Fingerprint of every result that this process asked for, by its name."""
        return dict(self._asked)

    def seconds(self) -> dict[str, float]:
        """Seconds of every result that this process asked for, by its name, over all resumes."""
        notes = {name: self.root / f"{name}.made.json" for name in sorted(self._asked)}
        return {name: float(read_json(note).get("seconds", 0.0)) for name, note in notes.items() if note.is_file()}
