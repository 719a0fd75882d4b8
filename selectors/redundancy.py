"""Permanent pruning of near-copies (Lite-Adapt-∞, arXiv 2410.10636, section 4.4).

Large clusters shrink first, to a uniform size, and inside a cluster what goes is what resembles something that stays.
Samples enter farthest first (Gonzalez, 1985): that meets the count exactly and needs no similarity matrix. Similarity
to a sample that was itself pruned counts for nothing, else a chain a~b~c would lose both b and c.

Shapes: N samples, D dimensions, K clusters, n samples of a cluster, c chosen so far, b of a batch.
"""

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.budgets import uniform
from liit.selectors.directions import Directions, directions
from liit.selectors.priority import Indices, Keys
from liit.selectors.similarity import largest_similarity, most_similar

LAG = 64  # choices after which all rows are brought up to date by one matrix product
BATCH = 256  # rows brought up to date together in between
BLOCK = 8192  # rows of that matrix product


def prune(
    embeddings_ND: NDArray[Any],
    labels_N: NDArray[np.integer],
    keys_N: Keys,
    pool_budget: int,
    *,
    order_N: NDArray[Any],
) -> tuple[NDArray[np.bool_], Indices]:
    """Keep exactly min(pool_budget, N) samples: nothing is dropped that fits.

    Exact copies (equal embeddings of one cluster) go first; clusters are then cut to `uniform` budgets.

    Args:
        order_N: samples with smaller values are kept first, for example minus the distance to the centroid to keep the
            hard ones; ties by key, so that row order does not matter.

    Returns:
        the mask of kept samples, and for each pruned sample the position of the kept one most similar to it, of its own
        cluster wherever that keeps one (-1 for a kept sample).

    Raises:
        ValueError: the budget is negative, shapes disagree, or an embedding is not finite.
    """
    n_samples = len(keys_N)
    if pool_budget < 0 or not len(embeddings_ND) == len(labels_N) == len(order_N) == n_samples:
        raise ValueError(
            f"cannot prune {n_samples} keys, {len(embeddings_ND)} embeddings, {len(labels_N)} labels and "
            f"{len(order_N)} ranks to {pool_budget}; pass one of each for every sample and a budget of 0 or more"
        )
    kept_N, twin_N = np.ones(n_samples, bool), np.full(n_samples, -1)
    if n_samples <= pool_budget:
        return kept_N, twin_N
    rows = directions(embeddings_ND, keys_N, np.lexsort((keys_N, order_N)))
    labels_N = np.asarray(labels_N)[rows.order_N]
    first_N = _first_copies(embeddings_ND, labels_N, rows.order_N)
    kept_N = _kept(rows, labels_N, first_N, pool_budget)
    twin_N[rows.order_N] = _twins(rows, labels_N, kept_N)
    mask_N = np.zeros(n_samples, bool)
    mask_N[rows.order_N[kept_N]] = True
    return mask_N, twin_N


def farthest_first(rows_nD: NDArray[np.float32], count: int) -> Indices:
    """`count` rows, each the least similar to those before it (the first of equals), beginning with row 0.

    Similarity to the chosen only grows, so an outdated value is a lower bound: between the matrix products that bring
    all rows up to date, only those that could be the minimum are looked at. The choice is that of the plain loop.
    """
    chosen = np.zeros(count, np.int64)
    chosen_cD = np.empty((count, rows_nD.shape[1]), np.float32)
    similarity_n = np.full(len(rows_nD), -np.inf, np.float32)
    seen_n = np.zeros(len(rows_nD), np.int64)  # how many of the chosen each row was compared with
    everyone = np.arange(len(rows_nD))
    for step in range(count):
        if step == 1 or step % LAG == 0:
            for start in range(0, len(rows_nD), BLOCK):
                _refresh(everyone[start : start + BLOCK], rows_nD, chosen_cD[:step], similarity_n, seen_n)
        while seen_n[best := int(np.argmin(similarity_n))] < step:
            stale = np.flatnonzero((seen_n < step) & (similarity_n < np.inf))
            if len(stale) > BATCH:
                stale = stale[np.argpartition(similarity_n[stale], BATCH)[:BATCH]]
            _refresh(stale, rows_nD, chosen_cD[:step], similarity_n, seen_n)
        chosen[step], chosen_cD[step] = best, rows_nD[best]
        similarity_n[best] = np.inf
    return chosen


def _refresh(
    batch_b: Indices,
    rows_nD: NDArray[np.float32],
    chosen_cD: NDArray[np.float32],
    similarity_n: NDArray[np.float32],
    seen_n: NDArray[np.int64],
) -> None:
    """Compare rows with everything that was chosen since they were last compared."""
    since_cD = chosen_cD[seen_n[batch_b].min(initial=len(chosen_cD)) :]
    if len(since_cD):
        similarity_n[batch_b] = np.maximum(similarity_n[batch_b], largest_similarity(rows_nD[batch_b], since_cD))
        seen_n[batch_b] = len(chosen_cD)


def _first_copies(embeddings_ND: NDArray[Any], labels_N: NDArray[np.integer], order_N: Indices) -> NDArray[np.bool_]:
    """Whether each sample is the first with its embedding in its cluster."""
    digests = bytearray()
    for position, row in enumerate(order_N):
        content = np.int64(labels_N[position]).tobytes() + (embeddings_ND[row] + 0).tobytes()  # + 0: -0.0 equals 0.0
        digests += blake2b(content, digest_size=16).digest()
    first_N = np.zeros(len(order_N), bool)
    first_N[np.unique(np.frombuffer(bytes(digests), "V16"), return_index=True)[1]] = True
    return first_N


def _kept(
    rows: Directions, labels_N: NDArray[np.integer], first_N: NDArray[np.bool_], pool_budget: int
) -> NDArray[np.bool_]:
    kept_N = np.zeros(len(rows), bool)
    room_for_copies = pool_budget - int(first_N.sum())
    if room_for_copies >= 0:
        kept_N[first_N] = kept_N[np.flatnonzero(~first_N)[:room_for_copies]] = True
        return kept_N
    budget_K = uniform(np.bincount(labels_N[first_N]), pool_budget)
    for k in np.flatnonzero(budget_K):
        members = np.flatnonzero(first_N & (labels_N == k))
        if budget_K[k] < len(members):
            members = members[farthest_first(rows.take(members), int(budget_K[k]))]
        kept_N[members] = True
    return kept_N


def _twins(rows: Directions, labels_N: NDArray[np.integer], kept_N: NDArray[np.bool_]) -> Indices:
    """The row number of the most similar kept sample for each pruned one, -1 for the kept."""
    twin_N = np.full(len(rows), -1)
    for k in np.unique(labels_N[~kept_N]) if kept_N.any() else ():
        pruned = np.flatnonzero(~kept_N & (labels_N == k))
        kept = np.flatnonzero(kept_N & (labels_N == k))
        kept = kept if len(kept) else np.flatnonzero(kept_N)
        twin_N[pruned] = rows.order_N[most_similar(rows, pruned, kept)]
    return twin_N
