"""SemDeDup to a fixed budget (Abbas et al., arXiv 2303.09540): near-copies go, the hard one of them stays.

Inside each cluster of embeddings the samples far from the centroid come first, and one goes if its cosine to a kept one
exceeds 1 - eps. The published code compares with removed samples too, so that a chain a~b~c loses both b and c; here only
the kept count. One eps for all clusters is found by bisection, on cosines in steps of 2^-20: what float32 can tell apart.

Shapes: N samples, D dimensions, n samples of a cell, b of a block, m kept so far.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.cells import cells
from liit.selectors.directions import Directions, directions
from liit.selectors.priority import Indices, Keys, priority
from liit.selectors.protocol import Choice, Options, Pool, choice, settled
from liit.selectors.similarity import largest_similarity

STEPS = 1 << 20  # of the cosine, from 0 to 1
BLOCK = 512  # rows compared with all that was kept by one matrix product


def semdedup(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """SemDeDup of the embeddings.

    Options: `k`, the number of clusters (the paper has 50,000 for 440 million samples: fewer find more copies), and
    `largest`, the size above which a cluster is split.
    """
    parts = settled(options, k=1000, largest=50_000)
    index_n = _least_similar_first(pool.vector("embedding"), pool.keys_N, budget, seed=seed, timestep=timestep, **parts)
    return choice(pool, index_n, rank_n=np.arange(len(index_n)))


def deduplicated(
    embeddings_ND: NDArray[Any],
    keys_N: Keys,
    budget: int,
    *,
    k: int,
    largest: int,
    seed: int,
    timestep: int = 0,
) -> Indices:
    """Positions, ascending, of exactly min(budget, N) samples.

    At the smallest number of steps whose threshold leaves at least the budget, what is too many is taken from the most
    similar to something kept, equals by hash. Memory is that of one cell.

    Raises:
        ValueError: the budget is negative, there are no clusters, or an embedding is not finite.
    """
    told = {"k": k, "largest": largest, "seed": seed, "timestep": timestep}
    return np.sort(_least_similar_first(embeddings_ND, keys_N, budget, **told))


def _least_similar_first(
    embeddings_ND: NDArray[Any], keys_N: Keys, budget: int, *, k: int, largest: int, seed: int, timestep: int
) -> Indices:
    if budget < 0:
        raise ValueError(f"cannot keep {budget} samples; pass a budget of 0 or more")
    if budget >= len(keys_N):
        return np.argsort(priority(keys_N, "semdedup", seed, timestep))
    found = cells(embeddings_ND, keys_N, k, seed=seed, largest=largest)
    chance_N = priority(keys_N, "semdedup", seed, timestep)
    rows = directions(embeddings_ND, keys_N, np.lexsort((chance_N, -found.distance_N, found.labels_N)))
    ends_K = np.cumsum(found.sizes_K)
    kept_N, similarity_N = _kept(rows, ends_K, _steps(rows, ends_K, budget))
    kept = np.flatnonzero(kept_N)
    order = np.lexsort((chance_N[rows.order_N[kept]], np.rint(similarity_N[kept] * STEPS)))
    first: Indices = rows.order_N[kept[order[:budget]]]
    return first


def _steps(rows: Directions, ends_K: NDArray[np.int64], budget: int) -> int:
    """The lowest threshold found that keeps at least the budget."""
    low, high = -STEPS - 2, STEPS + 2  # keep the first of each cell; keep everything
    while high - low > 1:
        middle = (low + high) // 2
        count = int(_kept(rows, ends_K, middle)[0].sum())
        if count == budget:
            return middle
        low, high = (low, middle) if count > budget else (middle, high)
    return low if _kept(rows, ends_K, low)[0].sum() >= budget else high


def _kept(rows: Directions, ends_K: NDArray[np.int64], steps: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Whether each sample stays at a threshold, and its similarity to those of its cell that stay before it."""
    parts = [
        greedy(rows.take(np.arange(start, end)), (steps + 0.5) / STEPS)
        for start, end in zip([0, *ends_K[:-1]], ends_K, strict=True)
    ]
    return np.concatenate([kept for kept, _ in parts]), np.concatenate([similarity for _, similarity in parts])


def greedy(rows_nD: NDArray[np.float32], threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Keep each row whose inner products with all the rows kept before it are at most `threshold`.

    Returns:
        the mask, and the largest of those inner products (-inf for the first row).
    """
    kept_n, kept_mD, count = np.zeros(len(rows_nD), bool), np.empty_like(rows_nD), 0
    similarity_n = np.empty(len(rows_nD), np.float32)
    for start in range(0, len(rows_nD), BLOCK):
        block_bD = rows_nD[start : start + BLOCK]
        similarity_b = similarity_n[start : start + BLOCK]
        similarity_b[:] = largest_similarity(block_bD, kept_mD[:count])
        left = np.flatnonzero(similarity_b <= threshold)
        within_bb = block_bD[left] @ block_bD[left].T
        for place, row in enumerate(left):
            if similarity_b[row] <= threshold:
                kept_n[start + row], kept_mD[count], count = True, block_bD[row], count + 1
                after = left[place + 1 :]
                similarity_b[after] = np.maximum(similarity_b[after], within_bb[place, place + 1 :])
    return kept_n, similarity_n
