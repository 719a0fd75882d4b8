"""A run walked through without doing anything: what it would keep, make and make anew, result by result."""

import re
from collections.abc import Callable
from pathlib import Path

from liit.engine.run.deciding import Verdict, finished
from liit.engine.run.store import Store


def timestep_of(name: str) -> int:
    """Of a result by its name, `tNN/...`; 0 of what comes before all timesteps."""
    return int(name[1:3]) if name[1:3].isdigit() else 0


def _since(exam: str) -> int:
    """From the name of an evaluation set's table, `exam/<set>@tNN.parquet`."""
    found = re.search(r"@t(\d+)\.", exam)
    return int(found[1]) if found else 0


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

    @property
    def retelling(self) -> dict[str, tuple[str, ...]]:
        """The results that would say something otherwise than they do, such as answers by another metric, and why."""
        return {name: one.reasons for name, one in self.verdicts.items() if one.retells}

    @property
    def works(self) -> bool:
        """Whether anything is to be made; of an empty folder, all is."""
        return not self.verdicts or any(one.to_do for one in self.verdicts.values())

    @property
    def first_superseded(self) -> int:
        """The first timestep that would be made anew; 0 where what all of them go back to would."""
        return min(map(timestep_of, self.superseding), default=0)

    @property
    def blocking(self) -> list[str]:
        """Those of them that something depends on: the questions of a set that no pool was kept free of yet can be replaced."""
        pools = {
            name[:3] for name, one in self.verdicts.items() if name.endswith("/pool.parquet") and one.state == "kept"
        }
        return [name for name in self.superseding if not (name.startswith("exam/") and _since(name) >= len(pools))]
