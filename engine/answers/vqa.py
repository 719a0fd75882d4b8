"""The accuracy of VQA (Antol et al. 2015, arXiv 1505.00468), whose normalisation is the official evaluation's, on Unicode."""

import math
import re
import unicodedata

from liit.engine.answers.text import Asked, plain
from liit.engine.settings.metric_options import Reading


def vqa(asked: Asked, options: Reading) -> float | None:
    """min(matches / 3, 1), averaged over the subsets that leave one human answer out (section 3).

    To reach 1 that needs four human answers; with fewer, one match is enough.
    """
    given = normal(asked.answer)
    if not given:
        return None
    matches = [normal(reference) == given for reference in asked.references]
    if len(matches) < 4:
        return float(any(matches))
    return math.fsum(min((sum(matches) - match) / 3, 1.0) for match in matches) / len(matches)


_ARTICLES = {"a", "an", "the"}
_NUMERALS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {"none": "0", **{word: str(digit) for digit, word in enumerate(_NUMERALS)}}
_ASCII = ';/[]"{}()=+\\_-><@`,?!'
_GROUPED = re.compile(r"(?<=\d),+(?=\d)")
_STOP = re.compile(r"\.(?!\d)")
_SIGN = re.compile(r"(?<![^\s(\[])[-+](?=\.?\d)")
_PLUS = re.compile(r"(?<=\w)\++(?!\w)")
_KEPT = str.maketrans({"\ue000": "-", "\ue001": "+"})
"""Private-use stand-ins for signs that are no punctuation: that of a number, and the pluses of C++ and A+."""


def normal(text: str) -> str:
    """Case, punctuation and articles removed, number words as digits, contractions with their apostrophe.

    What differs from the official code: the sign of a number and a plus at the end of a word stay (-5 is not 5, C++ is not C), a
    text of articles alone stays, and punctuation of other scripts goes as that of ASCII does.
    """
    text = plain(text).lower().replace("’", "'").replace("\N{MINUS SIGN}", "-")
    text = " ".join(_without_punctuation(" ".join(text.split())).split())
    words = [_DIGITS.get(word, word) for word in text.split()]
    words = [word for word in words if word not in _ARTICLES] or words
    return " ".join(_CONTRACTIONS.get(word, word) for word in words)


def _without_punctuation(text: str) -> str:
    """A mark goes where a space is beside one of its kind, or the text has a number like 1,000; elsewhere it parts words."""
    text = _SIGN.sub(lambda sign: "\ue000" if sign[0] == "-" else "", text)
    text = _PLUS.sub(lambda plus: "\ue001" * len(plus[0]), text)
    grouped = bool(_GROUPED.search(text))
    left = text
    for mark in sorted(set(text)):
        if mark in _ASCII or (mark > "\x7f" and unicodedata.category(mark)[0] == "P"):
            beside = f"{mark} " in text or f" {mark}" in text
            left = left.replace(mark, "" if beside or grouped else " ")
    return _STOP.sub("", left).translate(_KEPT)


_PROPER = """
'ow's'at ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't needn't not've o'clock
oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's they'd
they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's
where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'd've
y'all'll you'd you'd've you'll you're you've
"""


def _shortened(proper: str) -> list[str]:
    """A contraction without one of its apostrophes."""
    return [proper[:at] + proper[at + 1 :] for at, char in enumerate(proper) if char == "'"]


_CONTRACTIONS = {short: proper for proper in _PROPER.split() for short in _shortened(proper)}
