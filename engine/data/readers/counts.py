"""What a reader saw, took, repaired and passed over in one release, for people: said once, and printed by `liit check`."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from liit.engine.data.readers.sample import Tally, empty

SPARSE = 0.05
"""A column that says something in a smaller share of the rows is said to be nearly empty."""


@dataclass
class Counts:
    """Of one release, for the rows read so far."""

    rows: int = 0
    took: Counter[str] = field(default_factory=Counter)
    """Files by what they were taken for."""
    left_out: list[str] = field(default_factory=list)
    repaired: dict[str, Tally] = field(default_factory=dict)
    filled: Counter[str] = field(default_factory=Counter)
    """In how many rows each column says something."""
    turn_keys: Counter[str] = field(default_factory=Counter)
    """Keys of turns that are not read, by turns."""
    read: set[str] = field(default_factory=set)
    """Columns that are used, or refused where they say something."""

    def row(self, row: object, read: Collection[str]) -> None:
        self.rows += 1
        if isinstance(row, Mapping):
            self.read.update(key for key in row if key in read)
            self.filled.update(str(key) for key, value in row.items() if not empty(value))

    def join(self, later: "Counts") -> None:
        """Count those of the rows that follow."""
        self.rows += later.rows
        self.left_out += later.left_out
        for mine, theirs in ((self.took, later.took), (self.filled, later.filled), (self.turn_keys, later.turn_keys)):
            mine.update(theirs)
        for kind, tally in later.repaired.items():
            self.repaired.setdefault(kind, Tally()).join(tally)
        self.read |= later.read

    def told(self) -> dict[str, Any]:
        """As JSON holds it."""
        plain = {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}
        return plain | {
            "repaired": {kind: asdict(tally) for kind, tally in self.repaired.items()},
            "read": sorted(self.read),
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Counts":
        """From what `told` says."""
        counters = {name: Counter(told[name]) for name in ("took", "filled", "turn_keys")}
        repaired = {kind: Tally(**tally) for kind, tally in told["repaired"].items()}
        return cls(told["rows"], left_out=told["left_out"], repaired=repaired, read=set(told["read"]), **counters)

    def repair(self, kind: str, sample_id: str) -> None:
        self.repaired.setdefault(kind, Tally()).add(sample_id)

    def ignored(self) -> dict[str, int]:
        """Columns and keys of turns that say something and are not read, with how often."""
        return {key: n for key, n in (self.filled + self.turn_keys).items() if key not in self.read}

    def sparse(self) -> dict[str, int]:
        """Columns that are read and nearly always empty, with the rows in which they are not."""
        return {key: self.filled[key] for key in sorted(self.read) if self.filled[key] < SPARSE * self.rows}

    def taken_for(self) -> str:
        """What the files were taken for, in words."""
        return "; ".join(f"{n} {what.replace('file', 'files') if n > 1 else what}" for what, n in self.took.items())

    def lines(self) -> Iterator[str]:
        """What a person should know once, a line each."""
        yield from (f"left out: {one}" for one in self.left_out)
        yield from (f"{kind}: {tally}" for kind, tally in self.repaired.items())
        if ignored := self.ignored():
            named = ", ".join(f"{key} ({count:,})" for key, count in sorted(ignored.items()))
            yield f"not read: {named}"
