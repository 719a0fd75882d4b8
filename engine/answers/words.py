"""The words of a caption, as the COCO evaluation counts them."""

import re

from liit.engine.answers.text import plain

_WORD = re.compile(
    r"""
    \d[\d,.:/]*\d | \d                       # 3.5, 1,000, 10:30
    | [^\W\d_]+(?=n't\b) | n't\b             # do n't
    | '(?:s|re|ve|ll|d|m)\b                  # it 's
    | [^\W_]+(?:-[^\W_]+)*                   # t-shirt
    """,
    re.VERBOSE,
)


def caption_words(text: str) -> list[str]:
    """Words in lower case without punctuation, contractions parted: near to the PTB tokenizer of the COCO caption evaluation."""
    return _WORD.findall(plain(text).lower().replace("’", "'"))
