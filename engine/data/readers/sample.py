"""What a reader yields: a sample in the one form that the engine knows, or a row that is none, with its reason.

A reason reads `kind: detail`. The kind is the same for every row with the same fault, so that a report can count it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, NotRequired, TypedDict

from liit.engine.data.image_bytes import Inside

PLACEHOLDER = "<image>"


class Turn(TypedDict):
    role: str
    text: str
    context: NotRequired[bool]
    """True for an answer that is read and neither trained nor scored."""


class Image(TypedDict):
    path: str | None
    bytes: bytes | None
    place: NotRequired[Inside | None]
    """Of bytes in a larger file, `path`, as tables have it; a reader yields bytes that know it themselves (`Stored`)."""


class Sample(TypedDict):
    """A row of `tables.SAMPLE` as far as a reader knows it; key, arrival and length come at ingest."""

    id: str
    dataset: str
    task: str | None
    conversation: list[Turn]
    images: list[Image]
    references: list[str] | None
    metric: str | None


@dataclass(frozen=True)
class Bad:
    """A row of `tables.QUARANTINE`."""

    id: str
    dataset: str
    reason: str
    stage: str = "read"


@dataclass
class Tally:
    """How many rows something happened to, and the first two of them."""

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, sample_id: str) -> None:
        self.count += 1
        if len(self.examples) < 2:
            self.examples.append(sample_id)

    def join(self, later: "Tally") -> None:
        """Count those of the rows that follow."""
        self.count += later.count
        self.examples = [*self.examples, *later.examples][:2]

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) else ""
        return f"{self.count:,} ({', '.join(self.examples)}{more})"


def by_kind(bad: Iterable[Bad]) -> dict[str, Tally]:
    """The kinds of reasons, the most frequent first."""
    found: dict[str, Tally] = {}
    for one in bad:
        found.setdefault(one.reason.split(":")[0], Tally()).add(one.id)
    return dict(sorted(found.items(), key=lambda item: -item[1].count))


def empty(value: object) -> bool:
    """Whether a field says nothing: null, NaN, blank text, or a list or object of nothing else. Bytes always say something."""
    if value is None:
        return True
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, Real):
        return bool(value != value)
    if isinstance(value, Mapping):
        return all(map(empty, value.values()))
    return isinstance(value, list | tuple) and all(map(empty, value))


def text(value: object, what: str) -> str:
    """A text as it is. Raises ValueError for anything else, and for one that UTF-8 cannot write."""
    if value is None:
        raise ValueError(f"null field: {what}")
    if not isinstance(value, str):
        raise ValueError(f"wrong type: {what} must be text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"not Unicode: {what} holds a lone surrogate at character {error.start}") from error
    return value


def as_text(value: object, what: str) -> str | None:
    """A text or number as text, None for nothing. A whole number has no point, as pandas gives one to ids beside a gap."""
    if empty(value):
        return None
    if isinstance(value, bool) or not isinstance(value, Real | Decimal):
        return text(value, what)
    if isinstance(value, Integral):
        return str(int(value))
    return f"{value:.0f}" if value % 1 == 0 else str(value)


def as_bool(value: Any, what: str) -> bool:
    """True, 1 and 1.0, or False, 0 and 0.0. Raises ValueError for anything else."""
    if isinstance(value, bool | Real) and value in (0, 1):
        return bool(value)
    raise ValueError(f"loss weight: {what} is {value!r:.40}; only 0 and 1 (false and true) are known")
