"""Similarities of many rows to many, a block at a time: the matrix of them never exists.

Shapes: D dimensions, n and m rows, b rows of a block, k neighbours.
"""

import numpy as np
from numpy.typing import NDArray

from liit.selectors.directions import Directions
from liit.selectors.priority import Indices

SIMILARITIES = 1 << 24  # numbers of a block of similarities: 64 MiB


def largest_similarity(rows_bD: NDArray[np.float32], others_mD: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest inner product of each row with any of the others; -inf where there are none."""
    largest_b = np.full(len(rows_bD), -np.inf, np.float32)
    size = max(1, SIMILARITIES // max(1, len(rows_bD)))
    for start in range(0, len(others_mD), size):
        np.maximum(largest_b, (rows_bD @ others_mD[start : start + size].T).max(axis=1), out=largest_b)
    return largest_b


def most_similar(rows: Directions, asking: Indices, answering: Indices) -> Indices:
    """For each asking position the answering one of largest cosine, the first of equals; at least one must answer."""
    found = np.empty(len(asking), np.int64)
    answers_Dm = rows.take(answering).T
    size = max(1, SIMILARITIES // max(answers_Dm.shape))
    for start in range(0, len(asking), size):
        part = slice(start, start + size)
        found[part] = answering[np.argmax(rows.take(asking[part]) @ answers_Dm, axis=1)]
    return found


def neighbours(rows_nD: NDArray[np.float32], k: int) -> tuple[Indices, NDArray[np.float32]]:
    """The k rows of largest inner product with each row, itself left out, in no particular order.

    Returns:
        positions and inner products, both of shape (n, min(k, n - 1)).
    """
    n_rows = len(rows_nD)
    k = max(0, min(k, n_rows - 1))
    near_nk, similarity_nk = np.empty((n_rows, k), np.int64), np.empty((n_rows, k), np.float32)
    size = max(1, SIMILARITIES // max(1, n_rows))
    for start in range(0, n_rows if k else 0, size):
        part = slice(start, min(start + size, n_rows))
        similarity_bn = rows_nD[part] @ rows_nD.T
        similarity_bn[np.arange(part.stop - start), np.arange(start, part.stop)] = -np.inf
        near_nk[part] = np.argpartition(similarity_bn, n_rows - k, axis=1)[:, n_rows - k :]
        similarity_nk[part] = np.take_along_axis(similarity_bn, near_nk[part], axis=1)
    return near_nk, similarity_nk
