"""Samples that together look most like their cluster: greedy minimisation of the maximum mean discrepancy.

MMD² of a cluster X and a part Y of it is mean K(X, X) + mean K(Y, Y) - 2 mean K(X, Y) with a Gaussian kernel K (Kim,
Khanna & Koyejo, NeurIPS 2016; inside the clusters of COINCIDE, arXiv 2406.10995). With running sums a pick costs O(n)
and one column of the Gram matrix, which is kept for small clusters and made column by column for large ones.

Shapes: n samples of a cluster, D dimensions, b rows of a block.
"""

import numpy as np
from numpy.typing import NDArray

from liit.selectors.priority import Indices

SMALL = 4096  # samples whose Gram matrix is kept: 128 MiB
BLOCK = 1 << 22  # numbers of a block of a larger one: 32 MiB


def affinity(rows_nD: NDArray[np.floating], width: float) -> NDArray[np.float64]:
    """The mean kernel of each row with all rows, itself among them; their mean is the density of the cluster."""
    points_nD = rows_nD.astype(np.float64)
    size = max(1, BLOCK // max(1, len(points_nD)))
    blocks = [_kernel(points_nD[i : i + size], points_nD, width).mean(axis=1) for i in range(0, len(points_nD), size)]
    return np.concatenate([np.empty(0), *blocks])


def herd(rows_nD: NDArray[np.floating], affinity_n: NDArray[np.floating], count: int, width: float) -> Indices:
    """`count` rows, each the one that lowers the MMD² most (the first of equals), in the order of their choice.

    Args:
        affinity_n: what `affinity` says of the rows.
    """
    points_nD = rows_nD.astype(np.float64)
    gram_nn = _kernel(points_nD, points_nD, width) if len(points_nD) <= SMALL else None
    chosen = np.zeros(count, np.int64)
    with_chosen_n = np.zeros(len(points_nD))  # sum of the kernel with everything chosen
    within, towards = 0.0, 0.0  # sums of K(Y, Y) and of the affinities of Y
    free_n = np.zeros(len(points_nD))  # infinite for a chosen one
    for s in range(count):
        pairs_n = (within + 2 * with_chosen_n + 1.0) / (s + 1) ** 2  # K(x, x) = 1
        best = int(np.argmin(pairs_n - 2 * (towards + affinity_n) / (s + 1) + free_n))
        within, towards = within + 2 * with_chosen_n[best] + 1.0, towards + affinity_n[best]
        with_chosen_n += _kernel(points_nD[[best]], points_nD, width)[0] if gram_nn is None else gram_nn[best]
        chosen[s], free_n[best] = best, np.inf
    return chosen


def _kernel(left_bD: NDArray[np.float64], right_nD: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """exp(-|x - y|² / 2σ²)"""
    squares_b, squares_n = np.einsum("bd,bd->b", left_bD, left_bD), np.einsum("nd,nd->n", right_nD, right_nD)
    distance_bn = squares_b[:, None] + squares_n - 2 * (left_bD @ right_nD.T)
    return np.exp(np.maximum(distance_bn, 0) / (-2 * width**2))
