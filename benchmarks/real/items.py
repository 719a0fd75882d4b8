"""One question with its answer, and what it is about: the parts that a stream is composed of."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Item:
    """A question of a task. Items with one source say things of one and the same thing, so they are all learned from or none."""

    task: str
    source: str
    question: str
    answer: str
    """What is taught, and the reference where there are no others."""
    references: tuple[str, ...] = ()
    """Answers that count."""
    metric: str | None = None
    """By which this one is judged. None: by its evaluation set's."""
    others: tuple[str, ...] = ()
    """Wrong answers of its own, such as the other options. Empty: answers of other items of its task are wrong for it."""


def rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of JSON lines."""
    with file.open(encoding="utf-8") as stream:
        for line in stream:
            if line.strip():
                yield json.loads(line)


def listed(text: str) -> list[str]:
    """The options that a row has in one text, a line each, without their letters; none where that is not their form."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    letters = [f"{chr(ord('A') + position)}. " for position in range(len(lines))]
    if not all(line.startswith(letter) for line, letter in zip(lines, letters, strict=True)):
        return []
    return [line[len(letter) :].strip() for line, letter in zip(lines, letters, strict=True)]


def chosen(options: list[str], right: str, whole: bool) -> tuple[str, str, tuple[str, ...]]:
    """The options a line each, the right one as it is answered, and the wrong ones as they would be.

    whole: an answer is the letter and the option's text; else the letter alone.
    """
    lettered = [f"{chr(ord('A') + position)}. {option}" for position, option in enumerate(options)]
    answers = lettered if whole else [line[0] for line in lettered]
    place = options.index(right)
    return "\n".join(lettered), answers[place], tuple(answers[:place] + answers[place + 1 :])
