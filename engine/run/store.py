"""The run folder: a stage's result appears under its name by one rename, and says what made it.

Beside every result `x` stands `x.made.json` with what made it, thing by thing (`recipe.py`), the files that belong to it, and the
seconds it took, added up over resumes. Until it is whole, work lives in `x.partial` and names that begin so, its record in
`x.partial.json`; the same command continues there. A finished result is never overwritten: where another is to stand in its
place, the run as it was is in `superseded/` first (`superseding.py`).
`stages.jsonl` has a line for whenever a stage began, finished or failed: a log, which nothing depends on.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from liit.engine.run.deciding import Verdict, beginnings, begun, finished, note_of, partial_of, verdict, work_note_of
from liit.engine.run.files import read_json, remove, write_json
from liit.engine.run.progress import log
from liit.engine.run.recipe import Recipe
from liit.engine.run.rules import versions
from liit.engine.run.storage.locks import InUse, Lock
from liit.engine.run.superseding import complete, set_aside, supersede
from liit.engine.run.tables import give_back

FORGOTTEN = ".forgotten"
"""The end of a profile's name while it is removed; it stays where a process ended meanwhile."""


class StoreError(ValueError):
    """The run folder cannot be used; one line for the person who named it."""


@dataclass(frozen=True)
class Made:
    """A finished result: where it is, and the fingerprint that whatever is made from it carries on."""

    path: Path
    fingerprint: str
    fresh: bool = False
    """Whether this process made it."""
    stands: bool = False
    """Whether it was there, and goes on to hold what it holds; more may be added to it."""
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


class Reached(Exception):
    """The result that a run was to go as far as is there."""


Work = Callable[[Path, "Clock"], object]
"""Leaves a file or folder at the path it is given; a mapping that it returns is said in the record too."""


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

    acts = True
    """Whether work is done; a plan walks the same way and does none."""

    def __init__(self, root: str | Path, until: str | None = None) -> None:
        """until: the name of the result after which `make` raises Reached."""
        self.root = Path(root).resolve()
        self.until = until
        self._asked: dict[str, str] = {}
        self.sealed = False
        self.kept = False  # whether the run as it stood is in `superseded/`
        self._other_versions: set[str] = set()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self.root)
        except OSError as error:
            raise StoreError(f"output {root} cannot be written: {error.strerror}") from error
        except InUse as error:
            who = f" ({error})" if str(error) else ""
            raise StoreError(f"output {root} is in use by another run{who}; choose another --output") from error
        complete(self.root)

    def close(self) -> None:
        """Let another process use the folder."""
        self._lock.close()

    def make(
        self,
        name: str,
        work: Work,
        *,
        settings: Mapping[str, Any] | None = None,
        parents: tuple[Made, ...] = (),
        files: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
        more_parents: tuple[Made, ...] = (),
        beside: tuple[str, ...] = (),
        layout: Any = None,
        rows: Callable[[], int] | None = None,
    ) -> Made:
        """The result `name`, made by `work(partial, clock)` unless it is there and was made from the same.

        `work` leaves a file or folder at `partial`; what it found there from an earlier, interrupted call was made from the same.
        A result that was forgotten is made anew only when something is to be made from it.

        Args:
            settings, parents, files, more, more_parents, rows: as `Recipe` has them. Where `more` alone has changed, the result
                that is there is added to: `work` finds it at its name.
            beside: names of the files in the same folder that belong to the result.
            layout: what a result in the making depends on, and a whole one does not.
        """
        recipe = Recipe(
            name,
            settings or {},
            {self._name_of(parent): parent.fingerprint for parent in parents},
            files or {},
            more or {},
            {self._name_of(parent): parent.fingerprint for parent in more_parents},
            rows,
        )
        self._asked[name] = recipe.fingerprint

        def again() -> None:
            self._make(recipe, work, (*parents, *more_parents), beside, layout)

        decided = verdict(self.root, recipe)
        self._decided(decided, again)
        if name == self.until:
            raise Reached(name)
        stands = decided.state in ("kept", "extended")
        return Made(self.root / name, recipe.fingerprint, decided.state != "kept", stands, again)

    def _decided(self, decided: Verdict, again: Callable[[], None]) -> None:
        """Do what is to be done about a result."""
        result = self.root / decided.name
        if decided.state == "kept":
            record = finished(result) or {}
            if record.pop("whole", False):
                self._settle(result, record)
            self._say_versions(decided.name, record)
            return
        if decided.retells and not self.kept:
            self.kept = supersede(self.root, {}, {decided.name: decided.reasons})
        if decided.supersedes:
            for reason in decided.reasons:
                log.info("%s is made anew: %s", decided.name, reason)
            self._set_aside(decided.name, decided.reasons)
        again()

    def _set_aside(self, name: str, reasons: tuple[str, ...]) -> None:
        """The run as it stood is kept once, by the first result that another takes the place of.

        Raises StoreError where the plan of this run, which was said, does not have it."""
        if self.sealed:
            raise StoreError(
                f"{name} would be made anew ({'; '.join(reasons)}), which the plan did not say; run it again"
            )
        if self.kept:
            set_aside(self.root, [name])
        else:
            self.kept = supersede(self.root, {name: reasons})

    def _make(
        self, recipe: Recipe, work: Work, parents: tuple[Made, ...], beside: tuple[str, ...], layout: Any
    ) -> None:
        for parent in parents:
            parent.recall()
        final = self.root / recipe.name
        partial, note, known = partial_of(final), work_note_of(final), begun(final)
        if known.get("fingerprint") != recipe.fingerprint or known.get("layout") != layout:
            known = {}
            for left in beginnings(final):
                remove(left)
        final.parent.mkdir(parents=True, exist_ok=True)
        record = recipe.record() | {"beside": list(beside), "layout": layout, "versions": versions()}
        clock = Clock(note, record, before=float(known.get("seconds", 0.0)))
        clock.tick(0)
        self._note(recipe.name, "resumed" if clock.before else "began", clock)
        try:
            told = work(partial, clock)
        except Exception as error:
            self._note(recipe.name, "failed", clock, error=f"{type(error).__name__}: {error}")
            raise
        self._lock.check()
        clock.record |= {**(told if isinstance(told, Mapping) else {}), "whole": True}
        clock.tick(0)
        if partial.is_dir() or final.is_dir():
            remove(final)
        partial.replace(final)
        self._settle(final, read_json(note))
        self._note(recipe.name, "finished", clock)
        give_back(clock.seconds)

    def _settle(self, final: Path, record: dict[str, Any]) -> None:
        """Write down that a result is whole."""
        record.pop("whole", None)
        write_json(note_of(final), record)
        remove(work_note_of(final))

    def _name_of(self, parent: Made) -> str:
        """Within the folder; of one from elsewhere, as an adapter that a team already has, its whole path."""
        inside = parent.path.is_relative_to(self.root)
        return str(parent.path.relative_to(self.root) if inside else parent.path)

    def _say_versions(self, name: str, record: dict[str, Any]) -> None:
        """Once for each package of which another version made a result that is kept."""
        now = versions()
        for package, made_by in record.get("versions", {}).items():
            if now.get(package, made_by) != made_by and package not in self._other_versions:
                self._other_versions.add(package)
                log.warning("%s was made with %s %s and is kept; here is %s", name, package, made_by, now[package])

    def drop(self, name: str) -> bool:
        """Set a result aside that this run does not make; whether there was one. What was begun of it is removed."""
        result = self.root / name
        there = finished(result) is not None
        if there:
            self._set_aside(name, ("this run makes none",))
        for left in beginnings(result):
            remove(left)
        return there

    def forget(self, name: str) -> None:
        """Remove a large result and remember that it was made; nothing where it is not there."""
        note = note_of(self.root / name)
        if note.is_file() and (self.root / name).exists():
            write_json(note, read_json(note) | {"forgotten": True})
            gone = partial_of(self.root / name).with_suffix(FORGOTTEN)
            remove(gone)
            (self.root / name).rename(gone)  # at once, so that never a part of it is taken for all
            remove(gone)

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
        records = {name: finished(self.root / name) for name in sorted(self._asked)}
        return {name: float(record.get("seconds", 0.0)) for name, record in records.items() if record}
