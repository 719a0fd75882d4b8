"""What of an answer is said, and when two texts say the same."""

import re
import unicodedata
from typing import NamedTuple

from liit.engine.settings.metric_options import Reading


class Asked(NamedTuple):
    """One answer and what it is judged by."""

    answer: str
    references: list[str]
    question: str = ""


_OTHERWISE = ("<super>", "<sub>", "<fraction>")


def plain(text: str) -> str:
    """Full-width letters, ligatures and other compatibility forms as what they stand for (NFKC).

    Superscripts, subscripts and fractions stay as they are, since their NFKC form says something else: 10² is not 102.
    """
    if text.isascii():
        return text
    composed = unicodedata.normalize("NFC", text)
    forms = (
        char if unicodedata.decomposition(char).startswith(_OTHERWISE) else unicodedata.normalize("NFKC", char)
        for char in composed
    )
    return unicodedata.normalize("NFC", "".join(forms))


def spoken(answer: str, pattern: str | None = None) -> str:
    """What an answer says after it has thought (`</think>`), and of that what `pattern` picks; empty where nothing is left."""
    said = answer.rpartition("</think>")[2]
    said = "" if "<think>" in said else said
    if pattern is None:
        return said
    found = list(re.finditer(pattern, said))
    return (found[-1][1] or "") if found else ""


_QUOTES = " \"'`“”‘’「」『』《》"
_STOPS = ".,;:!?。、"
_PAIRS = {"(": ")", "[": "]"}


def bare(text: str) -> str:
    """Case, width, spaces, outer punctuation and outer brackets removed. A leading point stays: .5 is not 5."""
    folded = " ".join(plain(text).casefold().split())
    left, before = folded, ""
    while left != before:
        before = left
        left = left.rstrip(_STOPS + _QUOTES).lstrip(_QUOTES)
        close = _PAIRS.get(left[:1])
        if close and left.endswith(close) and not set(left[1:-1]) & {left[0], close}:
            left = left[1:-1]
    return left or folded


def exact(asked: Asked, options: Reading) -> float | None:
    """1 where the answer is `bare` equal to a reference."""
    given = bare(asked.answer)
    return float(given in map(bare, asked.references)) if given else None
