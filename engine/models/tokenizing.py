"""A rendered text as tokens that know which of its characters they stand for, images expanded and borders kept."""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from liit.engine.models.processors import SampleError, tokenizer_of


class Token(NamedTuple):
    """A token, the characters from `start` to `stop` of the text that it stands for, and its place among all tokens."""

    id: int
    start: int
    stop: int
    place: int


NOWHERE = -1
"""In place of characters, of a token that images have put there."""


def adds_special(processor: Any, text: str) -> bool:
    """Whether the tokenizer is to add its own first token, as transformers has it when it renders and tokenizes at once.

    The template of a language model writes that token itself, or means it not to be there. Vision-language processors add it
    where the text does not begin with it.
    """
    bos = getattr(tokenizer_of(processor), "bos_token", None)
    return hasattr(processor, "image_processor") and not (bos and text.startswith(bos))


def tokenize(processor: Any, text: str) -> list[Token]:
    """The tokens of the text with its image placeholders.

    Where a tokenizer leaves spaces out of the places that it gives (`trim_offsets`), they are the following token's again.
    """
    special = adds_special(processor, text)
    found = tokenizer_of(processor)(text, return_offsets_mapping=True, add_special_tokens=special)
    tokens: list[Token] = []
    reached = 0
    for place, (token, (start, stop)) in enumerate(zip(found["input_ids"], found["offset_mapping"], strict=True)):
        tokens.append(Token(token, min(start, reached), stop, place))
        reached = max(reached, stop)
    return tokens


def located(tokens: Sequence[Token], full: Sequence[int], image_id: int, needed: Sequence[bool]) -> list[Token]:
    """`full`, the ids in which each image is many tokens, with the characters of those that the text has too.

    The text between two placeholders stands in both, in the same order; images lie between. Only the token beside an image may
    differ, unless it is needed: a line break there can melt into one with what stands for the image.
    """
    ids = [token.id for token in tokens]
    cuts = [-1, *(at for at, token in enumerate(ids) if token == image_id), len(ids)]
    found = [Token(token, NOWHERE, NOWHERE, place) for place, token in enumerate(full)]
    cursor = 0
    for piece, (left, right) in enumerate(pairwise(cuts)):
        first, last = piece == 0, piece == len(cuts) - 2
        low = left + 1 if first else min(left + 2, right)
        high = right if last or (low < right and needed[right - 1]) else max(right - 1, low)
        segment = ids[low:high]
        start = len(full) - len(segment) if last else (0 if first else _find(segment, full, cursor + 1))
        if list(full[start : start + len(segment)]) != segment:
            raise SampleError("the processor changes the text around images, so response tokens cannot be located")
        for place, token in enumerate(tokens[low:high], start):
            found[place] = token._replace(place=place)
        cursor = start + len(segment)
    return found


def _find(segment: list[int], full: Sequence[int], start: int) -> int:
    while list(full[start : start + len(segment)]) != segment:
        start += 1
        if start > len(full):
            raise SampleError("the processor changes the text between two images")
    return start


def split(
    processor: Any, text: str, tokens: Sequence[Token], borders: Sequence[int], whole: Collection[int]
) -> list[Token]:
    """The tokens, cut in two where they reach over a border: the model is given what is before it, and writes what follows.

    So an answer that begins with a line break leaves the prompt's own line break as it is. Borders are in ascending order.
    whole: ids of tokens that are one by definition; the white space that such a token swallows is never written. Raises
    SampleError where the two halves are not the same text.
    """
    tokenizer = tokenizer_of(processor)
    cut: list[Token] = []
    for token in tokens:
        next_border = bisect_right(borders, token.start)
        border = borders[next_border] if next_border < len(borders) and token.start >= 0 else token.stop
        if border >= token.stop or token.id in whole:
            cut.append(token)
            continue
        halves = [
            Token(one, start, stop, token.place)
            for start, stop in ((token.start, border), (border, token.stop))
            for one in tokenizer(text[start:stop], add_special_tokens=False)["input_ids"]
        ]
        if tokenizer.decode([half.id for half in halves]) != tokenizer.decode([token.id]):
            raise SampleError("an answer's first characters melt into one token with the prompt's last")
        cut += halves
    return cut
