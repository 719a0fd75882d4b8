"""How many words an answer shares with a reference: F1 of extractive question answering, ROUGE-L of captions."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from liit.engine.answers.text import Asked
from liit.engine.answers.words import caption_words
from liit.engine.settings.metric_options import Reading


def f1(asked: Asked, options: Reading) -> float | None:
    """Harmonic mean of precision and recall over words, with the best reference (SQuAD, arXiv 1606.05250, section 6.1).

    Words are those of MLQA (arXiv 1910.07475): without case, punctuation of any script, and articles of English and Arabic.
    """
    given = _words(asked.answer)
    return max(_harmonic(given, _words(reference)) for reference in asked.references) if given else None


_ARTICLES = re.compile(r"\b(?:a|an|the)\b|(?:^|(?<=\s))ال")
_ASCII_SYMBOLS = set("$+<=>^`|~")


def _words(text: str) -> list[str]:
    kept = "".join(
        char for char in text.lower() if char not in _ASCII_SYMBOLS and not unicodedata.category(char).startswith("P")
    )
    return _ARTICLES.sub(" ", kept).split() or kept.split()


def _harmonic(given: Sequence[str], wanted: Sequence[str]) -> float:
    shared = sum((Counter(given) & Counter(wanted)).values())
    return 2 * shared / (len(given) + len(wanted)) if shared else 0.0


BETA = 1.2
"""How much more recall weighs than precision, as in the COCO caption evaluation."""


def rouge_l(asked: Asked, options: Reading) -> float | None:
    """F of the longest common subsequence (Lin 2004), with the best precision and the best recall over the references (COCO)."""
    given = caption_words(asked.answer)
    if not given:
        return None
    lengths = [(_common(given, wanted), len(wanted)) for wanted in map(caption_words, asked.references) if wanted]
    precision = max((common / len(given) for common, _ in lengths), default=0.0)
    recall = max((common / size for common, size in lengths), default=0.0)
    if not precision or not recall:
        return 0.0
    return (1 + BETA**2) * precision * recall / (recall + BETA**2 * precision)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = row
        row = [0]
        for at, wanted in enumerate(other):
            row.append(before[at] + 1 if word == wanted else max(before[at + 1], row[-1]))
    return row[-1]
