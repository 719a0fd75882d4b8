"""COINCIDE (Lee et al., arXiv 2406.10995): many small clusters, budgets by how much one helps the others.

The features are the caller's: the paper's are visual and language activations of a small model side by side, and only
the language half says how well a cluster transfers.

Shapes: N samples, D dimensions, K clusters, n samples of a cluster.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.cells import cells
from liit.selectors.directions import directions
from liit.selectors.discrepancy import affinity, herd
from liit.selectors.priority import Indices, Keys, priority
from liit.selectors.protocol import Choice, Options, Pool, choice, settled

SAME = 0.9  # cosine of centroids above which two clusters are one concept, which says nothing about transfer
CENTROIDS = 1024  # compared with all others at a time


def coincide(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """COINCIDE on its own features, the vector `coincide`: of image tokens, then of text tokens, half each.

    Options: `k` clusters and `iterations` that make them, `temperature` τ, `width` σ of the kernel, and `language`: first and
    last + 1 of the dimensions that transferability is measured on; by default the second half.
    """
    features_ND = pool.vector("coincide")
    width = features_ND.shape[1]
    parts = settled(options, k=10_000, iterations=25, temperature=0.1, width=1.0, language=[width // 2, width])
    chosen = spread(features_ND, pool.keys_N, budget, seed=seed, timestep=timestep, **parts)
    return choice(pool, chosen)


def spread(
    features_ND: NDArray[Any],
    keys_N: Keys,
    budget: int,
    *,
    k: int,
    temperature: float,
    width: float,
    language: Sequence[int] | None,
    iterations: int = 25,
    seed: int,
    timestep: int = 0,
) -> Indices:
    """Positions, ascending, of exactly min(budget, N) samples.

    Raises:
        ValueError: the budget is negative, a parameter is not positive, `language` is no range of dimensions, or a
            feature is not finite.
    """
    if budget < 0 or temperature <= 0 or width <= 0:
        raise ValueError(
            f"cannot choose {budget} at temperature {temperature} and width {width}; "
            "pass a budget of 0 or more and parameters above 0"
        )
    if budget >= len(keys_N):
        return np.arange(len(keys_N))
    half = slice(*language) if language is not None else slice(None)
    if language is not None and not (len(language) == 2 and 0 <= language[0] < language[1] <= features_ND.shape[1]):
        raise ValueError(f"language is {list(language)}; pass first and last + 1 of {features_ND.shape[1]} dimensions")
    found = cells(features_ND, keys_N, k, seed=seed, iterations=iterations)
    rows = directions(features_ND, keys_N, np.lexsort((priority(keys_N, "coincide", seed, timestep), found.labels_N)))
    groups = np.split(np.arange(len(rows)), np.cumsum(found.sizes_K)[:-1]) if len(rows) else []
    affinity_N = np.concatenate([np.empty(0), *(affinity(rows.take(members), width) for members in groups)])
    density_K = np.array([affinity_N[members].mean() for members in groups])
    logits_K = transferability(found.centroids_KP[:, half]) / (temperature * density_K)
    chosen = [np.empty(0, np.int64)]
    for members, count in zip(groups, flowing(logits_K, found.sizes_K, budget), strict=True):
        if count == len(members):
            chosen.append(members)
        elif count:
            chosen.append(members[herd(rows.take(members), affinity_N[members], int(count), width)])
    return np.sort(rows.order_N[np.concatenate(chosen)])


def transferability(centroids_KD: NDArray[np.floating]) -> NDArray[np.float64]:
    """The mean cosine of each centroid with those that are no near-copies of it (COINCIDE, section 3.2).

    Zero where there are none; a centroid without direction transfers nothing.
    """
    norm_K = np.linalg.norm(centroids_KD, axis=1)
    unit_KD = centroids_KD / np.where(norm_K > 0, norm_K, 1.0)[:, None]
    means_K = np.zeros(len(unit_KD))
    for start in range(0, len(unit_KD), CENTROIDS):
        cosine_bK = unit_KD[start : start + CENTROIDS] @ unit_KD.T
        others_bK = cosine_bK <= SAME
        others_bK[np.arange(len(cosine_bK)), np.arange(start, start + len(cosine_bK))] = False
        sums_b = np.sum(cosine_bK, axis=1, where=others_bK)
        means_K[start : start + CENTROIDS] = sums_b / np.maximum(others_bK.sum(axis=1), 1)
    return means_K


def flowing(logits_K: NDArray[np.floating], sizes_K: NDArray[np.integer], total: int) -> NDArray[np.int64]:
    """Budgets in shares softmax(logits), the largest share first, each of what is left over by those before it.

    Every cluster is asked for its share, renormalised over itself and those still to come, of the samples still missing;
    what it does not have flows on, and what the last one does not have goes round again among those with room. Sums to
    min(total, sum of sizes).
    """
    budget_K, order = np.zeros(len(sizes_K), np.int64), np.argsort(-logits_K, kind="stable")
    left = min(total, int(np.sum(sizes_K)))
    while left:
        order = order[budget_K[order] < sizes_K[order]]
        after = np.logaddexp.accumulate(logits_K[order][::-1])[::-1]  # log of the weight of each and all after it
        for k, share in zip(order, np.exp(logits_K[order] - after), strict=True):
            given = min(int(left * share + 0.5), int(sizes_K[k] - budget_K[k]), left)
            budget_K[k] += given
            left -= given
    return budget_K
