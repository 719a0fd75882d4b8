"""Answers against references: per answer and per data set, in percent.

An answer from which nothing can be read (no box, no letter, no number, no text) is wrong, and counted.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sacrebleu.metrics import BLEU
from sacrebleu.metrics.bleu import BLEUScore

from liit.engine.settings.sections import Metric

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class DatasetScore:
    """`value` of a data set and `values` of its answers, in percent; what could not be read; figures beside the value.

    `value` is the mean of `values`, but for BLEU, whose n-gram counts are pooled over the corpus.
    """

    value: float
    values: list[float]
    parse_failures: int
    extra: dict[str, float] = field(default_factory=dict)


def accepted_answers(sample: Mapping[str, Any]) -> list[str]:
    """What counts as right for an evaluation sample: its `references`, else its last turn."""
    return sample["references"] or [sample["conversation"][-1]["text"]]


def check_references(metric: Metric, references: list[str]) -> None:
    """Raises ValueError for a reference without the letter, number or box that the metric compares."""
    if metric in _METRICS:
        _METRICS[metric]("", references)


def score(metric: Metric, answers: list[str], references: list[list[str]]) -> DatasetScore:
    """Score `answers[i]` against the accepted `references[i]`.

    - exact: equal to a reference after Unicode NFKC, case folding and removal of outer punctuation and extra spaces.
    - vqa: soft accuracy over human answers, as `_vqa` says.
    - choice: the option letter A to J; number: the last number, equal to 1e-6 relative.
    - iou: intersection over union of the first box `[x1, y1, x2, y2]` with the best reference; extra `acc@0.5`, the
      percentage of answers above 0.5 (Yu et al. 2016, RefCOCO).
    - bleu, bleu-zh: corpus BLEU of sacreBLEU (Post 2018) with its 13a or zh tokenizer; an answer's own value is its
      sentence BLEU, for display.

    Raises ValueError for an unknown metric, no answers, answers without reference, and references that hold no letter,
    number or box where one is needed.
    """
    if metric not in _TOKENIZERS and metric not in _METRICS:
        raise ValueError(f"unknown metric {metric!r}; known are {', '.join([*_METRICS, *_TOKENIZERS])}")
    if not answers or len(answers) != len(references):
        raise ValueError(
            f"{metric}: {len(answers)} answers and {len(references)} lists of references; need as many, > 0"
        )
    for index, accepted in enumerate(references):
        if not accepted:
            raise ValueError(f"{metric}: answer {index} has no reference")
    if metric in _TOKENIZERS:
        return _bleu(_TOKENIZERS[metric], answers, references)
    marks = [_METRICS[metric](answer, accepted) for answer, accepted in zip(answers, references, strict=True)]
    values = [0.0 if mark is None else 100.0 * mark for mark in marks]
    extra = {"acc@0.5": 100.0 * sum(value > 50 for value in values) / len(values)} if metric == "iou" else {}
    return DatasetScore(math.fsum(values) / len(values), values, sum(mark is None for mark in marks), extra)


def _exact(answer: str, references: list[str]) -> float | None:
    given = _normal(answer)
    return float(given in map(_normal, references)) if given else None


_QUOTES = " \"'`()[]“”‘’「」『』《》"
_STOPS = ".,;:!?。、"


def _normal(text: str) -> str:
    """Case, width, spaces and outer punctuation removed. A leading point stays: .5 is not 5."""
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return folded.rstrip(_STOPS + _QUOTES).lstrip(_QUOTES) or folded


_WORD = re.compile(r"\d[\d,]*(?:\.\d+)?|[^\W\d_]+(?:'[^\W\d_]+)*")
_ARTICLES = {"a", "an", "the"}
_NUMERALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(digit) for digit, word in enumerate(_NUMERALS)}


def _vqa(answer: str, references: list[str]) -> float | None:
    """min(matches / 3, 1), averaged over the subsets that leave one human answer out (Antol et al. 2015, section 3).

    To reach 1 that needs four human answers; with fewer, one match is enough.
    """
    given = _words(answer)
    if not given:
        return None
    matches = [_words(reference) == given for reference in references]
    if len(matches) < 4:
        return float(any(matches))
    return math.fsum(min((sum(matches) - match) / 3, 1.0) for match in matches) / len(matches)


def _words(text: str) -> list[str]:
    """Words without case, punctuation and articles, number words as digits; contractions stay as they are."""
    found = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    return [_DIGITS.get(word, word.replace(",", "")) for word in found if word not in _ARTICLES]


_LETTER_ALONE = re.compile(r"\s*\(?([A-J])\)?\s*[.:]?\s*", re.IGNORECASE)
_LETTER_FIRST = re.compile(r"\s*(?:\(([A-J])\)|([A-J])[.):])(?!\w)")
_LETTER_NAMED = re.compile(
    r"\b(?i:answer|option|choice)(?:\s+is)?\s*:?\s*(?:\(([A-J])\)|([A-J])(?=\s*(?:$|[.,;:)\n])))"
)


def _letter(text: str) -> str | None:
    """The one option letter that a text names: alone, as `(B)` or `B.` at its start, or as `answer is B`."""
    alone = _LETTER_ALONE.fullmatch(text)
    if alone:
        return alone[1].upper()
    matches = [*_LETTER_NAMED.finditer(text)]
    first = _LETTER_FIRST.match(text)
    letters = {match[1] or match[2] for match in ([first] if first else []) + matches}
    return letters.pop() if len(letters) == 1 else None


def _choice(answer: str, references: list[str]) -> float | None:
    accepted = _parsed(_letter, references, "option letter A to J")
    letter = _letter(answer)
    return None if letter is None else float(letter in accepted)


_DECIMAL = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+|(?=\.\d))(?:\.\d+)?(?:e[-+]?\d+)?"
_NUMBER = re.compile(rf"(?:(?<![\w)])[-+])?{_DECIMAL}", re.ASCII | re.IGNORECASE)


def _number(text: str) -> float | None:
    """The last number of a text, thousands separated by commas or not."""
    found = _NUMBER.findall(unicodedata.normalize("NFKC", text).replace("\N{MINUS SIGN}", "-"))
    number = float(found[-1].replace(",", "")) if found else math.inf
    return number if math.isfinite(number) else None


def _equal(answer: str, references: list[str]) -> float | None:
    accepted = _parsed(_number, references, "number")
    number = _number(answer)
    if number is None:
        return None
    return float(any(math.isclose(number, value, rel_tol=1e-6, abs_tol=1e-9) for value in accepted))


_SIDE = r"\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+))\s*"
_BOX = re.compile(rf"\[{_SIDE},{_SIDE},{_SIDE},{_SIDE}\]", re.ASCII)


def _box(text: str) -> Box | None:
    found = _BOX.search(unicodedata.normalize("NFKC", text))
    return (float(found[1]), float(found[2]), float(found[3]), float(found[4])) if found else None


def _iou(answer: str, references: list[str]) -> float | None:
    accepted = _parsed(_box, references, "box [x1, y1, x2, y2]")
    box = _box(answer)
    return None if box is None else max(_overlap(box, reference) for reference in accepted)


def _overlap(one: Box, other: Box) -> float:
    """Intersection over union of continuous coordinates (no pixel is added); 0 where a box has no area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if min(width, height, one[2] - one[0], one[3] - one[1]) <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(one) + _area(other) - shared)


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


Parsed = TypeVar("Parsed")


def _parsed(parse: Callable[[str], Parsed | None], references: list[str], what: str) -> list[Parsed]:
    found = [parse(reference) for reference in references]
    for reference, value in zip(references, found, strict=True):
        if value is None:
            raise ValueError(f"reference {reference!r:.200} holds no {what}; correct it or choose another metric")
    return [value for value in found if value is not None]


def _bleu(tokenizer: str, answers: list[str], references: list[list[str]]) -> DatasetScore:
    most = max(len(accepted) for accepted in references)
    # sacreBLEU wants the n-th reference of every answer together, None where an answer has fewer.
    columns = [[accepted[n] if n < len(accepted) else None for accepted in references] for n in range(most)]
    corpus = BLEU(tokenize=tokenizer, force=True)
    sentence = BLEU(tokenize=tokenizer, force=True, effective_order=True)
    pairs = zip(answers, references, strict=True)
    values = [_percent(sentence.sentence_score(answer, accepted)) for answer, accepted in pairs]
    extra = {"mean_sentence_bleu": math.fsum(values) / len(values)}
    silent = sum(not answer.strip() for answer in answers)
    return DatasetScore(_percent(corpus.corpus_score(answers, columns)), values, silent, extra)


def _percent(found: BLEUScore) -> float:
    return min(float(found.score), 100.0)  # sacreBLEU rounds a perfect score to a hair above 100


_METRICS: dict[str, Callable[[str, list[str]], float | None]] = {
    "exact": _exact,
    "vqa": _vqa,
    "choice": _choice,
    "number": _equal,
    "iou": _iou,
}
_TOKENIZERS = {"bleu": "13a", "bleu-zh": "zh"}
