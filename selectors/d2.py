"""D² pruning (Maharana, Yadav & Bansal, arXiv 2310.07931): difficulty and diversity by messages on a neighbour graph.

Difficulty flows to a sample from its neighbours, so that the hard and the dense weigh most; a chosen sample takes weight
from its neighbours, so that they are not all chosen with it.

Shapes: N samples, D dimensions, k neighbours.
"""

import heapq
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from liit.selectors.cells import cells
from liit.selectors.directions import directions
from liit.selectors.kmeans import members_of
from liit.selectors.priority import Indices, Keys, priority, smallest
from liit.selectors.protocol import Choice, Options, Pool, choice, settled
from liit.selectors.similarity import neighbours

WHOLE = 1 << 14  # samples whose neighbours are looked for among all; beyond, within cells of at most so many


def d2(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """D² pruning by EL2N on the embeddings.

    Options: `k` neighbours, and how fast messages fade with distance: `forward` γ_f of difficulty, `reverse` γ_r of
    choice.
    """
    parts = settled(options, k=5, forward=1.0, reverse=1.0)
    vectors, scores = pool.vector("embedding"), pool.score("el2n")
    return choice(pool, passed(vectors, scores, pool.keys_N, budget, seed=seed, timestep=timestep, **parts), "el2n")


def passed(
    embeddings_ND: NDArray[Any],
    difficulty_N: NDArray[np.floating],
    keys_N: Keys,
    budget: int,
    *,
    k: int,
    forward: float,
    reverse: float,
    seed: int,
    timestep: int = 0,
) -> Indices:
    """Positions, ascending, of exactly min(budget, N) samples; equals by hash.

    Samples without a finite difficulty are chosen, by hash, only when nothing else is left.

    Raises:
        ValueError: the budget or a γ is negative, k is below 1, or an embedding is not finite.
    """
    if budget < 0 or k < 1 or min(forward, reverse) < 0:
        raise ValueError(
            f"cannot choose {budget} with {k} neighbours and messages fading by {forward} and {reverse}; "
            "pass a budget of 0 or more, at least 1 neighbour and a fading of 0 or more"
        )
    scored = np.flatnonzero(np.isfinite(difficulty_N))
    scored = scored[np.argsort(keys_N[scored])]
    near_NN = graph(embeddings_ND[scored], keys_N[scored], k, seed)
    own_N = difficulty_N[scored].astype(np.float64)
    weight_N = own_N + faded(near_NN, forward) @ np.maximum(own_N, 0.0)
    chance_N = priority(keys_N[scored], "d2", seed, timestep)
    chosen = scored[greedy(weight_N, faded(near_NN, reverse), chance_N, min(budget, len(scored)))]
    unscored = np.flatnonzero(~np.isfinite(difficulty_N))
    spare = unscored[smallest(keys_N[unscored], budget - len(chosen), "d2", seed, timestep)]
    return np.sort(np.concatenate([chosen, spare]))


def graph(embeddings_ND: NDArray[Any], keys_N: Keys, k: int, seed: int) -> csr_array:
    """The symmetric matrix of exp(-d) for the distance d of unit rows, where either is among the other's k nearest.

    Exact up to `WHOLE` samples; beyond, neighbours are those within a k-means cell. Keys ascend.
    """
    n_rows = len(keys_N)
    rows = directions(embeddings_ND, keys_N, np.arange(n_rows))
    labels_N = np.zeros(n_rows, np.int32)
    if n_rows > WHOLE:
        labels_N = cells(embeddings_ND, keys_N, -(-2 * n_rows // WHOLE), seed=seed, largest=WHOLE).labels_N
    froms, tos, weights = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    for members in members_of(labels_N):
        near_nk, cosine_nk = neighbours(rows.take(members), k)
        froms.append(np.repeat(members, near_nk.shape[1]))
        tos.append(members[near_nk.ravel()])
        weights.append(np.exp(-np.sqrt(np.maximum(2 - 2 * cosine_nk.ravel().astype(np.float64), 0))))
    one_way = csr_array((np.concatenate(weights), (np.concatenate(froms), np.concatenate(tos))), shape=(n_rows, n_rows))
    return csr_array(one_way.maximum(one_way.T))


def faded(near_NN: csr_array, gamma: float) -> csr_array:
    """exp(-γ d) on every edge."""
    return csr_array((near_NN.data**gamma, near_NN.indices, near_NN.indptr), shape=near_NN.shape)


def greedy(weight_N: NDArray[np.float64], fading_NN: csr_array, chance_N: Keys, count: int) -> Indices:
    """`count` samples, each the heaviest left, ties by `chance_N`, in the order of their choice.

    A chosen sample of weight w lightens its neighbours by `fading_NN` times w, or by nothing where w is no longer above
    0. Weights so only fall, and an outdated one in the heap is an upper bound.
    """
    weight_N = weight_N.copy()
    heap = [
        (-weight, chance, i)
        for i, (weight, chance) in enumerate(zip(weight_N.tolist(), chance_N.tolist(), strict=True))
    ]
    heapq.heapify(heap)
    chosen = np.zeros(count, np.int64)
    for s in range(count):
        while -heap[0][0] > weight_N[heap[0][2]]:
            _, chance, i = heap[0]
            heapq.heapreplace(heap, (-float(weight_N[i]), chance, i))
        weight, _, best = heapq.heappop(heap)
        chosen[s] = best
        if weight < 0:
            edges = slice(fading_NN.indptr[best], fading_NN.indptr[best + 1])
            weight_N[fading_NN.indices[edges]] += fading_NN.data[edges] * weight
    return chosen
