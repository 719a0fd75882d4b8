"""Metrics of the user's own: a function of one answer, by `module:function` or as an installed entry point.

    def same_length(answer, references, tolerance=0):
        return float(any(abs(len(answer) - len(reference)) <= tolerance for reference in references))

An evaluation set names it (`metric: my_metrics:same_length`, `options: {tolerance: 2}`), or an installed package does, in the
entry point group `liit.metrics`. It returns a number from 0 to 1, or None for an answer that it cannot read; for a reference that
it cannot compare with it raises ValueError, and that sample is refused before anything is answered.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from liit.engine.answers.text import Asked
from liit.engine.settings.extensions import function_at

Function = Callable[..., Any]


@lru_cache(maxsize=64)
def load(place: str) -> Function:
    """The function. Raises ValueError, one line, where there is none."""
    return function_at(place, f"metric {place!r}")


def mark_of(place: str) -> Callable[[Asked, Mapping[str, Any]], float | None]:
    """The function as a metric of ours. It raises ValueError where the function returns something else than 0 to 1 or None."""
    function = load(place)

    def mark(asked: Asked, options: Mapping[str, Any]) -> float | None:
        try:
            value = function(asked.answer, list(asked.references), **options)
        except TypeError as error:
            raise ValueError(f"metric {place}: {error}") from error
        if value is None:
            return None
        try:
            number = float(value)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"metric {place} returned {type(value).__name__}; it must return a number or None"
            ) from error
        if not 0 <= number <= 1:
            raise ValueError(
                f"metric {place} returned {number}; it must return 0 to 1, or None for an unreadable answer"
            )
        return number

    return mark
