"""Which questions show a model the same prompt: it is answered once. N questions."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from liit.engine.fleet.parts import read_chunks
from liit.engine.run.tables import found_at

Row = Mapping[str, Any]


def first_alike(
    files: Sequence[Path], questions: pa.Table, new_tokens: Mapping[str, int], whole: bool
) -> npt.NDArray[np.intp]:
    """(N,) for each question the place of the first that is answered alike; its own where none before it is.

    Alike have the same words, the same images by what they are read from, the same expert and the same length of an answer. Two
    files with one picture are asked about twice. Images are looked at only where all else is the same.

    Args:
        files: hold the SAMPLE rows of the questions, among others maybe.
        questions: key, dataset and expert of each.
        new_tokens: of an answer at most, by data set.
        whole: the reference counts too, since more is made of it than an answer.
    """
    keys_N = questions["key"].to_numpy()
    spoken = _marks(files, keys_N, "conversation", lambda turns: _words(turns if whole else turns[:-1]))
    rest = zip(spoken, questions["expert"].to_pylist(), questions["dataset"].to_pylist(), strict=True)
    marks = [_hash(words, expert.encode(), b"%d" % new_tokens[name]) for words, expert, name in rest]
    _, at_N, count_M = np.unique(np.array(marks), return_inverse=True, return_counts=True)
    often = np.flatnonzero(count_M[at_N] > 1)
    seen = _marks(files, keys_N[often], "images", _pictures)
    for place, pictures in zip(often, seen, strict=True):
        marks[place] = _hash(marks[place], pictures)
    first: dict[bytes, int] = {}
    return np.array([first.setdefault(mark, place) for place, mark in enumerate(marks)], np.intp)


def _marks(
    files: Sequence[Path], keys_N: npt.NDArray[np.uint64], column: str, mark: Callable[[Any], bytes]
) -> list[bytes]:
    """Of the row with each of these keys, what `mark` makes of a column; memory holds some rows at a time."""
    order_N, found = np.argsort(keys_N), [b""] * len(keys_N)
    ascending_N = keys_N[order_N]
    for chunk in read_chunks(files, ["key", column]) if len(keys_N) else ():
        at_n = found_at(ascending_N, chunk["key"].to_numpy())
        mine = np.flatnonzero(at_n >= 0)
        for row, value in zip(mine, chunk[column].take(pa.array(mine)).to_pylist(), strict=True):
            found[order_N[at_n[row]]] = mark(value)
    return found


def _words(turns: Sequence[Row]) -> bytes:
    return _hash(*(part.encode() for turn in turns for part in (turn["role"], turn["text"])))


def _pictures(images: Sequence[Row] | None) -> bytes:
    """By their bytes, or by where these lie."""
    where = [(str(image["path"]), str(image.get("place"))) for image in images or ()]
    held = [image["bytes"] or b"" for image in images or ()]
    return _hash(*held, *(part.encode() for pair in where for part in pair))


def _hash(*parts: bytes) -> bytes:
    """32 bytes, of parts that each say how long they are."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(b"%d\0" % len(part))
        digest.update(part)
    return digest.digest()
