"""How many clusters: Ward's merges give the whole WSS(k) curve from one fit, and the elbow of the curve gives k.

Joining clusters a and b raises the within-cluster sum of squares by exactly n_a n_b / (n_a + n_b) |c_a - c_b|^2
(Ward, JASA 1963), so a sweep over k costs one fit with the largest k and O(K^2 P) after it.

Shapes: K clusters, P dimensions.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

WSS_FLOOR = 1e-6  # of the curve's largest value: below it nothing is left to explain, and log of an exact fit is finite


def ward(
    centroids_KP: NDArray[np.floating], counts_K: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Greedy merges down to one cluster, cheapest first.

    Returns:
        merges of shape (K-1, 2), each (kept, absorbed) with kept < absorbed, and the WSS increase of each merge.

    Raises:
        ValueError: a cluster is empty.
    """
    if (counts_K < 1).any():
        raise ValueError(f"cluster {int(np.argmin(counts_K))} is empty; drop empty clusters before merging")
    means_KP, weights_K = centroids_KP.astype(np.float64), counts_K.astype(np.float64)
    n_clusters = len(weights_K)
    cost_KK = np.full((n_clusters, n_clusters), np.inf)
    for a in range(n_clusters):
        cost_KK[a, a + 1 :] = _increase(means_KP, weights_K, a)[a + 1 :]
    merges, increases = np.empty((max(n_clusters - 1, 0), 2), np.int64), np.empty(max(n_clusters - 1, 0))
    alive_K = np.ones(n_clusters, bool)
    for step in range(n_clusters - 1):
        a, b = divmod(int(np.argmin(cost_KK)), n_clusters)
        merges[step], increases[step] = (a, b), cost_KK[a, b]
        together = weights_K[a] + weights_K[b]
        means_KP[a] = (weights_K[a] * means_KP[a] + weights_K[b] * means_KP[b]) / together
        weights_K[a] = together
        alive_K[b] = False
        cost_KK[b, :] = cost_KK[:, b] = np.inf
        new_K = np.where(alive_K, _increase(means_KP, weights_K, a), np.inf)
        cost_KK[a, a + 1 :], cost_KK[:a, a] = new_K[a + 1 :], new_K[:a]
    return merges, increases


def groups(merges: NDArray[np.int64], n_clusters: int, k: int) -> NDArray[np.int64]:
    """The group 0..k-1 of every cluster after the first `n_clusters - k` merges, numbered by their first member."""
    group_K = np.arange(n_clusters)
    for kept, absorbed in merges[: n_clusters - k]:
        group_K[group_K == absorbed] = kept
    return np.unique(group_K, return_inverse=True)[1]


def elbow(wss_by_k: Mapping[int, float]) -> tuple[int, float]:
    """The k farthest below the chord of (k, log WSS), both axes scaled to one (Satopaa et al., ICDCSW 2011).

    Returns:
        k (the smallest of equals) and the margin: its depth under the chord, 0 for a straight curve, near 1 for a
        corner.

    Raises:
        ValueError: the curve has no points.
    """
    if not wss_by_k:
        raise ValueError("the WSS curve is empty; pass at least one k")
    ks = np.array(sorted(wss_by_k))
    wss = np.array([wss_by_k[int(k)] for k in ks])
    if wss.max() <= 0 or len(ks) < 3:
        return int(ks[0] if wss.max() <= 0 else ks[np.argmin(wss)]), 0.0
    height = np.log(np.maximum(wss, WSS_FLOOR * wss.max()))
    fall = height[0] - height[-1]
    if fall <= 0:
        return int(ks[0]), 0.0
    depth = (height[0] - height) / fall - (ks - ks[0]) / (ks[-1] - ks[0])
    best = int(np.argmax(depth))
    return int(ks[best]), float(depth[best])


def _increase(centroids_KP: NDArray[np.float64], counts_K: NDArray[np.float64], a: int) -> NDArray[np.float64]:
    gap_KP = centroids_KP - centroids_KP[a]
    return counts_K * counts_K[a] / (counts_K + counts_K[a]) * np.einsum("kp,kp->k", gap_KP, gap_KP)
