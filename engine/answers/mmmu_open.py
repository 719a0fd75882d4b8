"""Open questions of MMMU (Yue et al. 2024, arXiv 2311.16502): a reference is looked for in what the answer comes down to."""

import re

from liit.engine.answers.text import Asked
from liit.engine.settings.metric_options import Reading

_INDICATORS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})+\b"),
    re.compile(r"-?\d+(?:\.\d+)?[eE][+-]?\d+"),
    re.compile(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])"),
)


def mmmu_open(asked: Asked, options: Reading) -> float | None:
    """1 where a reference stands in a conclusion of the answer, or is one of the conclusion's numbers to two decimals."""
    if not asked.answer.strip():
        return None
    wanted = [form for reference in asked.references for form in _forms(reference)]
    said = _candidates(asked.answer)
    texts = [form for form in said if isinstance(form, str)]
    numbers = [form for form in said if isinstance(form, float)]
    return float(
        any(one in numbers if isinstance(one, float) else any(one in text for text in texts) for one in wanted)
    )


def _candidates(answer: str) -> list[str | float]:
    """The conclusions of an answer, and the numbers in them."""
    tails = _conclusions(answer)
    numbers = [number for tail in tails for pattern in _NUMBERS for number in pattern.findall(tail)]
    return [form for text in [*tails, *numbers] for form in _forms(text)]


def _conclusions(answer: str) -> list[str]:
    """Of each line the shortest end after a word that announces a result, `=` on the last line too; all of it without any."""
    whole = answer.strip().strip(".").lower()
    lines = whole.split("\n")
    found = []
    for at, line in enumerate(lines):
        words = _INDICATORS + (("=",) if at == len(lines) - 1 else ())
        tails = [line.rpartition(word)[2].strip() for word in words if word in line]
        shortest = min(tails, key=len, default="")
        if shortest not in ("", *":,.!?;'"):
            found.append(shortest)
    return found or [whole]


def _forms(text: str) -> list[str | float]:
    """A number as a number, other text in lower case; a single letter with a space beside it, so that not every word has it."""
    text = text.strip()
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.lower()
        return [f" {text}", f"{text} "] if len(text) == 1 else [text]
