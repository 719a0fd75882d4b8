"""A run walked through without doing anything: what it would keep, make and make anew, result by result."""

from collections.abc import Callable, Collection
from pathlib import Path

from liit.engine.run.deciding import Verdict, finished, note_of
from liit.engine.run.files import read_json
from liit.engine.run.store import Store


class Plan(Store):
    """A store that makes nothing and writes nothing, and notes what each result that it is asked for would take."""

    acts = False

    def __init__(self, root: str | Path, until: str | None = None) -> None:
        self.root, self.until = Path(root).resolve(), until
        self.verdicts: dict[str, Verdict] = {}
        self._asked: dict[str, str] = {}

    def close(self) -> None:
        """Nothing is held."""

    def _decided(self, decided: Verdict, again: Callable[[], None]) -> None:
        self.verdicts[decided.name] = decided
        if decided.state != "kept":
            again()

    def _make(self, recipe, work, parents, beside, layout) -> None:  # type: ignore[no-untyped-def]
        """Of a forgotten result: it is needed, and made again."""
        for parent in parents:
            parent.recall()
        known = self.verdicts[recipe.name]
        if known.state == "kept":
            self.verdicts[recipe.name] = Verdict(recipe.name, "to do", ("it was not kept, and is needed",))

    def drop(self, name: str) -> bool:
        there = finished(self.root / name) is not None
        if there:
            self.verdicts[name] = Verdict(name, "set aside", ("this run makes none",))
        return there

    def forget(self, name: str) -> None:
        """Nothing: a plan has no need of room."""

    @property
    def superseding(self) -> dict[str, tuple[str, ...]]:
        """The finished results that would not stand any more, and why, in the order of the run."""
        return {name: one.reasons for name, one in self.verdicts.items() if one.supersedes}

    def seconds_of(self, names: Collection[str]) -> float:
        """What results took when they were made."""
        notes = (note_of(self.root / name) for name in names)
        return sum(float(read_json(note).get("seconds", 0.0)) for note in notes if note.is_file())
