"""What a data set's answers are worth."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from liit.engine.answers.text import Asked


@dataclass(frozen=True)
class DatasetScore:
    """`value` of a data set and `values` of its answers, in percent; what could not be read; figures beside the value.

    `value` is the mean of `values`, but for BLEU, whose n-gram counts are pooled over the corpus.
    """

    value: float
    values: list[float]
    parse_failures: int
    extra: dict[str, float] = field(default_factory=dict)
    judgements: list[str | None] | None = None
    """What a judge wrote about each answer."""


def mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


@dataclass(frozen=True)
class Each:
    """A metric that judges answers one by one: `mark` from 0 to 1, None for an answer that cannot be read."""

    mark: Callable[[Asked, Any], float | None]
    settled: Callable[[float], float] | None = None
    """What becomes of a mark at the end."""
    extra: Callable[[Sequence[float]], dict[str, float]] | None = None
    """Figures from the marks as they were before."""

    def __call__(self, asked: Sequence[Asked], options: Any) -> DatasetScore:
        found = [self.mark(one, options) for one in asked]
        marks = [0.0 if mark is None else mark for mark in found]
        values = [100 * (self.settled(mark) if self.settled else mark) for mark in marks]
        failures = sum(mark is None for mark in found)
        return DatasetScore(mean(values), values, failures, self.extra(marks) if self.extra else {})
