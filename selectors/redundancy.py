"""Permanent pruning of near-copies (Lite-Adapt-∞, arXiv 2410.10636, section 4.4).

Large clusters shrink first, to a uniform size, and inside a cluster what goes is what resembles something that stays.
Samples enter farthest first (Gonzalez, 1985): that meets the count exactly and needs no similarity matrix. Similarity
to a sample that was itself pruned counts for nothing, else a chain a~b~c would lose both b and c.

Shapes: N samples, D dimensions, K clusters, n samples of a cluster, c chosen since, a looked at.
"""

from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.blocks import one_thread
from liit.selectors.budgets import Counts, uniform
from liit.selectors.directions import Directions, directions
from liit.selectors.kmeans import distances, means
from liit.selectors.priority import Indices, Keys
from liit.selectors.similarity import largest_similarity, most_similar

LOWEST = 1024  # rows that are looked at step by step
BLOCK = 8192  # rows of a matrix product


def prune(
    embeddings_ND: NDArray[Any],
    labels_N: NDArray[np.integer],
    keys_N: Keys,
    pool_budget: int,
    *,
    order_N: NDArray[Any],
    share_K: Counts | None = None,
    diverse: bool = True,
) -> tuple[NDArray[np.bool_], Indices]:
    """Keep exactly min(pool_budget, N) samples: nothing is dropped that fits.

    Exact copies (equal embeddings of one cluster) go first; clusters are then cut to `uniform` budgets, or to their shares.

    Args:
        order_N: samples with smaller values are kept first, for example minus the distance to the centroid to keep the
            hard ones; ties by key, so that row order does not matter.
        share_K: what each cluster keeps, copies of its own too where it has not as many others; sums to the budget.
        diverse: after the first of a cluster whichever is least like those before it; else the next in order.

    Returns:
        the mask of kept samples, and for each pruned sample the position of the kept one most similar to it, of its own
        cluster wherever that keeps one (-1 for a kept sample).

    Raises:
        ValueError: the budget is negative, shapes disagree, shares are not the budget's, or an embedding is not finite.
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
    sizes_K = np.bincount(labels_N)
    if share_K is not None and (share_K.sum() != pool_budget or (share_K > sizes_K).any()):
        raise ValueError(f"shares {share_K} are not {pool_budget} samples of clusters of {sizes_K}")
    rows = directions(embeddings_ND, keys_N, np.lexsort((keys_N, order_N)))
    labels_N = np.asarray(labels_N)[rows.order_N]
    first_N = _first_copies(embeddings_ND, labels_N, rows.order_N)
    kept_N = _kept(rows, labels_N, first_N, pool_budget, share_K, diverse)
    twin_N[rows.order_N] = _twins(rows, labels_N, kept_N)
    mask_N = np.zeros(n_samples, bool)
    mask_N[rows.order_N[kept_N]] = True
    return mask_N, twin_N


def farthest_first(rows_nD: NDArray[np.float32], count: int) -> Indices:
    """`count` rows, each the least similar to those before it (the first of equals), beginning with row 0.

    Similarity to the chosen only grows. So the lowest rows are looked at alone, step by step, until one that was left aside could
    be lower; then all are brought up to date by one matrix product. The choice is that of the plain loop.
    """
    chosen, seen, done = np.zeros(count, np.int64), 0, 0
    similarity_n = np.full(len(rows_nD), -np.inf, np.float32)
    while done < count:
        since_cD = rows_nD[chosen[seen:done]]
        for start in range(0, len(rows_nD) if len(since_cD) else 0, BLOCK):
            part = similarity_n[start : start + BLOCK]
            np.maximum(part, largest_similarity(rows_nD[start : start + BLOCK], since_cD), out=part)
        seen = done
        with one_thread():
            done = _among_the_lowest(rows_nD, similarity_n, chosen, done)
    return chosen


def _among_the_lowest(
    rows_nD: NDArray[np.float32], similarity_n: NDArray[np.float32], chosen: Indices, done: int
) -> int:
    """Choose as long as it is sure to be the plain loop's choice, once at least; returns how many are chosen then."""
    lowest_a = _lowest(similarity_n, LOWEST)
    aside_n = similarity_n.copy()
    aside_n[lowest_a] = np.inf
    other = int(np.argmin(aside_n))
    rows_aD, value_a = rows_nD[lowest_a], similarity_n[lowest_a]
    while done < len(chosen):
        best = int(np.argmin(value_a))
        if np.isinf(value_a[best]) and value_a[best] > 0:
            break
        if (value_a[best], lowest_a[best]) >= (aside_n[other], other):
            break
        chosen[done], done = lowest_a[best], done + 1
        similarity_n[lowest_a[best]] = value_a[best] = np.inf
        np.maximum(value_a, rows_aD @ rows_aD[best], out=value_a)
    return done


def _lowest(values_n: NDArray[np.float32], count: int) -> Indices:
    """Positions, ascending, of the `count` lowest values, the first of equals."""
    if count >= len(values_n):
        return np.arange(len(values_n))
    bound = np.partition(values_n, count)[count]
    below = np.flatnonzero(values_n < bound)
    return np.sort(np.concatenate([below, np.flatnonzero(values_n == bound)[: count - len(below)]]))


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
    rows: Directions,
    labels_N: NDArray[np.integer],
    first_N: NDArray[np.bool_],
    pool_budget: int,
    share_K: Counts | None,
    diverse: bool,
) -> NDArray[np.bool_]:
    kept_N = np.zeros(len(rows), bool)
    room_for_copies = pool_budget - int(first_N.sum())
    if share_K is None and room_for_copies >= 0:
        kept_N[first_N] = kept_N[np.flatnonzero(~first_N)[:room_for_copies]] = True
        return kept_N
    budget_K = uniform(np.bincount(labels_N[first_N]), pool_budget) if share_K is None else share_K
    for k in np.flatnonzero(budget_K):
        members, count = np.flatnonzero(first_N & (labels_N == k)), int(budget_K[k])
        if count < len(members):
            members = members[farthest_first(rows.take(members), count)] if diverse else members[:count]
        kept_N[members] = kept_N[np.flatnonzero(~first_N & (labels_N == k))[: count - len(members)]] = True
    return kept_N


def remoteness(embeddings_ND: NDArray[Any], labels_N: NDArray[np.int32], keys_N: Keys) -> NDArray[np.float32]:
    """(N,) how far each sample's direction is from the mean of its cluster's."""
    rows = directions(embeddings_ND, keys_N, np.argsort(keys_N))
    sorted_N, far_N = labels_N[rows.order_N], np.empty(len(keys_N), np.float32)
    far_N[rows.order_N] = distances(rows, sorted_N, means(rows, sorted_N, int(labels_N.max(initial=-1)) + 1))
    return far_N


def _twins(rows: Directions, labels_N: NDArray[np.integer], kept_N: NDArray[np.bool_]) -> Indices:
    """The row number of the most similar kept sample for each pruned one, -1 for the kept."""
    twin_N = np.full(len(rows), -1)
    for k in np.unique(labels_N[~kept_N]) if kept_N.any() else ():
        pruned = np.flatnonzero(~kept_N & (labels_N == k))
        kept = np.flatnonzero(kept_N & (labels_N == k))
        kept = kept if len(kept) else np.flatnonzero(kept_N)
        twin_N[pruned] = rows.order_N[most_similar(rows, pruned, kept)]
    return twin_N
