"""Exact copies by content hash: found before anything is scored, in one sort.

Shapes: N samples, M evaluation samples.
"""

import numpy as np
from numpy.typing import NDArray

from liit.selectors.priority import Indices, Keys

BLOCK = 1 << 16
Hashes = NDArray[np.uint64]  # (N, 2): 128 bits of each content, or (N,): 64


def duplicates(content_N2: Hashes, arrival_N: NDArray[np.integer], keys_N: Keys) -> Indices:
    """For each copy the position of the sample that stays in its place, -1 for a sample that stays.

    Of equal contents the first arrival stays, of those the smallest key: what stays of earlier releases never changes
    when another arrives, and row order does not matter.

    Raises:
        ValueError: hashes are not uint64 of shape (N,) or (N, 2), or there is not one arrival and one key for each.
    """
    content_N2 = _checked(content_N2, "samples")
    if not len(content_N2) == len(arrival_N) == len(keys_N):
        raise ValueError(
            f"{len(content_N2)} hashes, {len(arrival_N)} arrivals and {len(keys_N)} keys; pass one of each for every sample"
        )
    copy_of_N = np.full(len(keys_N), -1)
    like = _repeated(content_N2[:, 0])
    order = like[np.lexsort((keys_N[like], arrival_N[like], *content_N2[like].T))]
    first = np.ones(len(order), bool)
    first[1:] = (content_N2[order[1:]] != content_N2[order[:-1]]).any(axis=1)
    stays = order[np.maximum.accumulate(np.where(first, np.arange(len(order)), 0))]
    copy_of_N[order[~first]] = stays[~first]
    return copy_of_N


def _repeated(word_N: NDArray[np.uint64]) -> Indices:
    """Positions, ascending, of the values that occur more than once: few, of hashes."""
    sorted_N = np.sort(word_N)
    return _among(word_N, np.unique(sorted_N[1:][sorted_N[1:] == sorted_N[:-1]]))


def _among(word_N: NDArray[np.uint64], sorted_m: NDArray[np.uint64]) -> Indices:
    """Positions, ascending, of the values that are among some sorted ones; memory holds a block of them."""
    found = [np.empty(0, np.int64)]
    for start in range(0, len(word_N) if len(sorted_m) else 0, BLOCK):
        word_b = word_N[start : start + BLOCK]
        at_b = np.minimum(np.searchsorted(sorted_m, word_b), len(sorted_m) - 1)
        found.append(start + np.flatnonzero(sorted_m[at_b] == word_b))
    return np.concatenate(found)


def contamination(content_N2: Hashes, evaluation_M2: Hashes) -> Indices:
    """For each sample the position of the first evaluation sample of the same content, -1 where there is none.

    Reported apart from `duplicates`: a copy of what a model is examined on is a fault of the data, wherever it came from.

    Raises:
        ValueError: hashes are not uint64 of shape (N,) or (N, 2), or of another width than the evaluation's.
    """
    content_N2, evaluation_M2 = _checked(content_N2, "samples"), _checked(evaluation_M2, "the evaluation")
    if content_N2.shape[1] != evaluation_M2.shape[1]:
        raise ValueError(
            f"samples have {64 * content_N2.shape[1]} bits of hash, the evaluation {64 * evaluation_M2.shape[1]}; "
            "hash both alike"
        )
    like_N = np.full(len(content_N2), -1)
    maybe = _among(content_N2[:, 0], np.sort(evaluation_M2[:, 0]))
    both = np.concatenate([evaluation_M2, content_N2[maybe]])
    first = duplicates(both, np.zeros(len(both), np.int32), np.arange(len(both), dtype=np.uint64))[len(evaluation_M2) :]
    like_N[maybe] = np.where(first < len(evaluation_M2), first, -1)
    return like_N


def _checked(content: Hashes, whose: str) -> Hashes:
    content = np.asarray(content)
    if content.dtype != np.uint64 or content.ndim not in (1, 2) or (content.ndim == 2 and content.shape[1] != 2):
        raise ValueError(
            f"content hashes of {whose} are {content.dtype} of shape {content.shape}; pass uint64 of (N,) or (N, 2)"
        )
    return content.reshape(len(content), -1) if len(content) else content.reshape(0, content.ndim)
