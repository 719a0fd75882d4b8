"""The number that an answer ends in: signs, fractions, percents, powers of ten; units are no part of it."""

import math
import re
import unicodedata

from liit.engine.answers.text import Asked
from liit.engine.settings.metric_options import Numbers


def number(asked: Asked, options: Numbers) -> float | None:
    """1 where the last number of the answer is that of a reference, to 1e-6 relative.

    Raises ValueError for a reference without a number.
    """
    accepted = []
    for reference in asked.references:
        value = last_number(reference, options)
        if value is None:
            raise ValueError(f"reference {reference!r:.200} holds no number; correct it or choose another metric")
        accepted.append(value)
    given = last_number(asked.answer, options)
    if given is None:
        return None
    return float(any(math.isclose(given, value, rel_tol=1e-6, abs_tol=1e-9) for value in accepted))


def last_number(text: str, options: Numbers) -> float | None:
    """1,250.5; -7; .5; 2e3 and 3 × 10⁵; 10²; 1/2, ½, 1 1/2 and \\frac{1}{2}; 50 %. None where there is none, or no finite one."""
    style, point = (_POINT, ".") if options.decimal == "point" else (_COMMA, ",")
    text = text.replace("\N{ARABIC DECIMAL SEPARATOR}", point).replace("\N{ARABIC THOUSANDS SEPARATOR}", "")
    found = list(style.finditer(_UNIT.sub(" ", _simple(text))))
    if not found:
        return None
    try:
        value = _value(found[-1].groupdict(), point)
    except (ZeroDivisionError, OverflowError, ValueError):  # ValueError: an exponent of thousands of digits
        return None
    if found[-1]["percent"] and options.percent == "hundredth":
        value /= 100
    return value if math.isfinite(value) else None


_SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹"
_RAISED = str.maketrans(_SUPERSCRIPTS + "⁺⁻", "0123456789+-")
_LATEX = (
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r" \1/\2 "),
    (re.compile(r"\\(?:text|mathrm|mathbf|boxed)\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\{,\}"), ","),
    (re.compile(r"\\[!,;:]"), ""),
    (re.compile(r"\\([%$])"), r"\1"),
)
_CURRENCY = re.compile(r"(?<![^\W\d_])[$€£¥₹]")
_GAP = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_TIMES_TEN = re.compile(
    rf"(?<=\d)\s*(?:×|x|\*|·|\\times|\\cdot)\s*10\s*(?:\^\s*\{{?\s*([-+]?\d+)\s*\}}?|([⁺⁻]?[{_SUPERSCRIPTS}]+))"
)


def _simple(text: str) -> str:
    """Digits of every script and width as ASCII, fractions as a/b, powers of ten as e."""
    text = "".join(map(_ascii, text.replace("\N{MINUS SIGN}", "-")))
    for pattern, plain in _LATEX:
        text = pattern.sub(plain, text)
    text = _GAP.sub("", _CURRENCY.sub("", text))
    return _TIMES_TEN.sub(lambda found: f"e{found[1] or found[2].translate(_RAISED)}", text)


def _ascii(char: str) -> str:
    if char < "\x80":
        return char
    if unicodedata.category(char) == "Nd":
        return str(unicodedata.decimal(char))
    form = unicodedata.decomposition(char)
    if form.startswith("<fraction>"):
        return f" {unicodedata.normalize('NFKC', char)}".replace("\N{FRACTION SLASH}", "/")
    if form.startswith("<wide>"):
        return unicodedata.normalize("NFKC", char)
    return "/" if char == "\N{FRACTION SLASH}" else "%" if char == "\N{ARABIC PERCENT SIGN}" else char


_UNIT = re.compile(
    r"(?<![A-Za-zµμΩ°])(?!(?<=\d)[eE][-+]?\d)[A-Za-zµμΩ°]++"
    rf"(?:\s*\^\s*\{{?\s*[-+]?\d+\s*\}}?|[⁺⁻]?[{_SUPERSCRIPTS}]+|\d+)"
)
"""A unit or formula with digits of its own: cm², m^-2, CO2."""


def _style(point: str, comma: str, odd: str) -> re.Pattern[str]:
    """odd: how a number is written that this style does not have, and that can be read one way only."""
    digits = rf"(?:{odd}\d{{1,3}}(?:{comma}\d{{3}})+(?!\d)|\d+|(?={point}\d))(?:{point}\d+)?"
    return re.compile(
        rf"""
        (?P<chain>\d+(?:/\d+){{2,}})                         # 10/12/2020 is a date: its last part counts
        |
        (?P<sign>(?<![\w)])[-+])?
        (?:
            (?:(?P<whole>\d+)\s+)?(?P<over>{digits})\s*/\s*(?P<under>{digits})(?![\d/]|{point}\d)
            |
            (?P<plain>{digits})(?:[eE](?P<ten>[-+]?\d+))?(?:\^\{{?(?P<power>\d+)\}}?|(?P<raised>[{_SUPERSCRIPTS}]+))?
        )
        (?P<percent>\s*(?:%|per\s?cent\b))?
        """,
        re.VERBOSE | re.ASCII | re.IGNORECASE,
    )


_POINT, _COMMA = _style(r"\.", ",", ""), _style(",", r"\.", r"\d+\.(?!\d{3}(?!\d))\d+(?![.,\d])|")


def _value(found: dict[str, str | None], point: str) -> float:
    if found["chain"]:
        return float(found["chain"].rpartition("/")[2])
    sign = -1.0 if found["sign"] == "-" else 1.0
    if found["over"] and found["under"]:
        return sign * (float(found["whole"] or 0) + _size(found["over"], point) / _size(found["under"], point))
    assert found["plain"] is not None
    size = _size(found["plain"], point) * 10.0 ** int(found["ten"] or 0)
    raised = found["power"] or (found["raised"] or "").translate(_RAISED)
    return sign * (size ** int(raised) if raised else size)


def _size(digits: str, point: str) -> float:
    if point == ",":
        grouped = "," in digits or re.fullmatch(r"\d{1,3}(\.\d{3})+", digits)
        return float(digits.replace(".", "").replace(",", ".") if grouped else digits)
    return float(digits.replace(",", ""))
