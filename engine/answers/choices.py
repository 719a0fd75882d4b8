"""The option that an answer chooses: its letter, however it is wrapped, or the option's own text."""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from liit.engine.answers.text import Asked, bare, plain
from liit.engine.settings.metric_options import Reading

LETTERS = "ABCDEFGHIJ"


def choice(asked: Asked, options: Reading) -> float | None:
    """1 where the answer chooses what a reference names. Raises ValueError for a reference that is no option.

    Options are read off the question (`options_in`); without some, letters are A to J.
    """
    given = options_in(asked.question)
    accepted = set()
    for reference in asked.references:
        letter = chosen(reference, given)
        if letter is None:
            among = "".join(given) or "A to J"
            raise ValueError(f"reference {reference!r:.200} holds no option letter ({among}); correct it")
        accepted.add(letter)
    letter = chosen(asked.answer, given)
    return None if letter is None else float(letter in accepted)


_LINE = re.compile(r"^[ \t]*\(?([A-Z])[).:、][ \t]*(\S.*?)[ \t]*$", re.MULTILINE)


def options_in(question: str) -> dict[str, str]:
    """The last list of a question whose lines begin with `A.`, `(B)`, `C:` and so on: letter to text. Empty without one."""
    found: dict[str, str] = {}
    for line in _LINE.finditer(plain(question)):
        if line[1] == "A":
            found = {"A": line[2]}
        elif found and ord(line[1]) == ord("A") + len(found):
            found[line[1]] = line[2]
    return found if len(found) > 1 else {}


def chosen(text: str, options: Mapping[str, str]) -> str | None:
    """The one letter that a text chooses; None where it chooses none, or more than one."""
    text, ways = _final(plain(text)), _ways("".join(options) or LETTERS)
    if alone := ways.alone.fullmatch(text):
        return _letter(alone)
    if ways.several.match(text):
        return None
    first = ways.first.match(text)
    said = [*ways.named.finditer(text)]
    letters = {_letter(match) for match in ([first] if first else []) + said[-1:]}
    letters = letters or {_letter(match) for match in ways.mentioned.finditer(text)}
    if letters:
        return letters.pop() if len(letters) == 1 else None
    return _by_text(text, options)


class _Ways(NamedTuple):
    """How a letter is said: by itself; as one of several; first; as the answer; in passing."""

    alone: re.Pattern[str]
    several: re.Pattern[str]
    first: re.Pattern[str]
    named: re.Pattern[str]
    mentioned: re.Pattern[str]


@lru_cache(maxsize=64)
def _ways(letters: str) -> _Ways:
    some, small = f"[{letters}]", f"[{letters.lower()}]"
    opening = f"[{letters.replace('I', '')}]"  # "I, as a model, ..." chooses nothing
    wrapped = rf"[(\[]({some})[)\]](?!\w)"
    after = r"(?=\s*(?:$|[.,;:!)\]\n-]|(?i:because|since|as|is)\b))"
    is_it = r"(?:\s+(?:is|would be|should be|must be))?\s*[:=]?\s*(?:(?i:option|choice|letter)\s+)?"
    answer = rf"(?i:\b(?:answer|choose|pick|select|(?:correct|right|best) (?:option|choice)){is_it})"
    chinese = r"(?:答案|正确选项|应选|故选|选择|选)(?:应该)?(?:是|为|选)?(?:选项)?\s*:?\s*"
    return _Ways(
        alone=re.compile(rf"\s*[(\[]?({some})[)\]]?\s*[.:,]?\s*", re.IGNORECASE),
        several=re.compile(rf"\s*\(?{some}\)?\s*(?:[,/&、]|(?i:or|and)\b|或|和)\s*\(?{some}\)?(?!\w)"),
        first=re.compile(
            rf"\s*(?:{wrapped}|({some})[.):](?!\w)|({opening})(?=\s*\n|,|\s+[-–—]|\s+(?:because|since|as|is)\b))"
        ),
        named=re.compile(
            rf"{answer}(?:{wrapped}|({some}){after}|({small})(?=\s*\.?\s*(?:$|\n)))|{chinese}(?:{wrapped}|({some})(?![A-Za-z]))"
        ),
        mentioned=re.compile(rf"(?i:\b(?:option|choice))\s+(?:{wrapped}|({some})(?!\w))|选项\s*({some})(?![A-Za-z])"),
    )


def _letter(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group).upper()


_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
_STYLED = re.compile(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}")


def _final(text: str) -> str:
    """What is set apart as the answer, else all of it; without the marks of Markdown and LaTeX."""
    for apart in (_TAGGED, _BOXED):
        found = apart.findall(text)
        text = found[-1] if found else text
    return re.sub(r"[*_`$]", "", _STYLED.sub(r"\1", text))


_EDGE = r"[^\W_\u3040-\u30ff\u3400-\u9fff]"
"""A letter or digit of a script that parts words."""


def _by_text(text: str, options: Mapping[str, str]) -> str | None:
    """The option whose text the answer is, or holds and holds no other's; a text within a longer option's counts for that."""
    said, texts = bare(text), {letter: bare(_final(option)) for letter, option in options.items()}
    same = [letter for letter, option in texts.items() if option == said]
    if same:
        return same[0] if len(same) == 1 else None
    spans = [(span, letter) for letter, option in texts.items() if option for span in _within(option, said)]
    widest = {
        letter
        for (start, end), letter in spans
        if not any(a <= start and end <= b and b - a > end - start for (a, b), _ in spans)
    }
    return widest.pop() if len(widest) == 1 else None


def _within(option: str, said: str) -> Iterator[tuple[int, int]]:
    for found in re.finditer(rf"(?<!{_EDGE})(?<!\d[.,]){re.escape(option)}(?!{_EDGE})(?![.,]\d)", said):
        yield found.span()
