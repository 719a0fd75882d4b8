"""Ids that repeat: equal rows are one sample, different ones are told apart by what is in them.

In LLaVA's files an id is that of the image, and has a conversation for each thing that was asked about it. Rows with the same
id and the same content are one sample; where contents differ, each gets `<id>~<16 hex digits of its content>`, all of them, so
that the order of the rows changes nothing. 24 bytes a row are held, no text. N rows.
"""

from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from liit.engine.run.tables import key_of


@dataclass(frozen=True)
class Settled:
    """What became of the rows in the order in which they were added."""

    stays_N: npt.NDArray[np.bool_]
    """False where an equal row came before."""
    apart_N: npt.NDArray[np.bool_]
    """True where the id says what is in the row."""
    content_N: npt.NDArray[np.uint64]
    key_N: npt.NDArray[np.uint64]
    """Of the id that the row has now."""
    row_N: npt.NDArray[np.uint64]
    """A hash of the id that the row came with and of all that is in it."""

    def ids(self, given: pa.Array, start: int = 0) -> pa.Array:
        """The ids that rows from `start` have now, for the ones that they came with."""
        rows = slice(start, start + len(given))
        return named(given, self.content_N[rows], self.apart_N[rows])


class Ids:
    """The ids of all rows of a release so far."""

    def __init__(self) -> None:
        self._keys, self._apart, self._contents = array("Q"), array("Q"), array("Q")

    def add(self, sample_id: str, content: int) -> None:
        self._keys.append(key_of(sample_id))
        self._apart.append(key_of(apart_id(sample_id, content)))
        self._contents.append(content)

    def settled(self) -> Settled:
        """Raises ValueError as the function `settled` does."""
        words = (np.frombuffer(one, np.uint64) if len(one) else np.empty(0, np.uint64) for one in vars(self).values())
        return settled(*(one.copy() for one in words))


def settled(
    key_N: npt.NDArray[np.uint64], other_N: npt.NDArray[np.uint64], content_N: npt.NDArray[np.uint64]
) -> Settled:
    """What becomes of rows, in their order.

    key_N: of the ids that they came with. other_N: of those that say what is in them, `apart_id`. Raises ValueError where two
    samples would still share an id, as `a~<digits>` beside an `a` with that content.
    """
    order = np.lexsort((content_N, key_N))  # stable: of equal rows the first comes first
    key_n, content_n = key_N[order], content_N[order]
    same_id = np.r_[False, key_n[1:] == key_n[:-1]][: len(key_n)]
    equal = same_id & np.r_[False, content_n[1:] == content_n[:-1]][: len(key_n)]
    other = np.add.reduceat(same_id & ~equal, np.flatnonzero(~same_id)) if len(key_n) else np.empty(0, int)
    apart_N, stays_N = np.empty(len(key_N), bool), np.empty(len(key_N), bool)
    apart_N[order] = (other > 0)[np.cumsum(~same_id) - 1] if len(key_n) else False
    stays_N[order] = ~equal
    now_N = np.where(apart_N, other_N, key_N)
    if len(np.unique(now_N[stays_N])) < stays_N.sum():
        raise ValueError("ids that end like ~0123456789abcdef stand beside the ids that they are made of; rename them")
    return Settled(stays_N, apart_N, content_N, now_N, other_N)


def named(given: pa.Array, content_n: npt.NDArray[np.uint64], apart_n: npt.NDArray[np.bool_]) -> pa.Array:
    """(n,) ids, of which those of rows that are told apart say what is in the row."""
    if not apart_n.any():
        return given
    rows = zip(given.to_pylist(), content_n.tolist(), apart_n.tolist(), strict=True)
    return pa.array([apart_id(one, word) if split else one for one, word, split in rows], pa.string())


def apart_id(sample_id: str, content: int) -> str:
    """An id that says which of the samples with this source id it is."""
    return f"{sample_id}~{content:016x}"
