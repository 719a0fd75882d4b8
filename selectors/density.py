"""Density-based pruning (DBP; Abbas et al., arXiv 2401.04578): spread-out, remote clusters keep more, each its hardest.

Shapes: N samples, P dimensions, K clusters.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.budgets import Counts, density_weights, project_box_simplex, rounded, uniform
from liit.selectors.cells import cells
from liit.selectors.priority import Indices, Keys, first_of_each, priority
from liit.selectors.protocol import Choice, Options, Pool, choice, settled


def density(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """Density-based pruning of the embeddings.

    Options: `k` clusters, at least `minimum` samples of each, `temperature` τ, and `neighbours`, the l nearest centroids.
    """
    parts = settled(options, k=500, minimum=1, temperature=0.1, neighbours=20)
    return choice(pool, thinned(pool.vector("embedding"), pool.keys_N, budget, seed=seed, timestep=timestep, **parts))


def thinned(
    embeddings_NP: NDArray[Any],
    keys_N: Keys,
    budget: int,
    *,
    k: int,
    minimum: int,
    temperature: float,
    neighbours: int,
    seed: int,
    timestep: int = 0,
) -> Indices:
    """Positions, ascending, of exactly min(budget, N) samples: of each cluster those farthest from its centroid.

    The paper ranks by cosine distance to the centroid; among unit rows of one cluster the Euclidean one has the same
    order. Equals by hash.

    Raises:
        ValueError: the budget is negative, the temperature is not positive, there are no clusters, or an embedding is
            not finite.
    """
    found = cells(embeddings_NP, keys_N, k, seed=seed)
    budget_K = density_budgets(
        found.centroids_KP, found.sizes_K, budget, minimum=minimum, temperature=temperature, neighbours=neighbours
    )
    chance_N = priority(keys_N, "density", seed, timestep)
    hardest_first = np.lexsort((chance_N, -found.distance_N, found.labels_N))
    return first_of_each(hardest_first, found.labels_N, budget_K)


def density_budgets(
    centroids_KP: NDArray[np.floating],
    sizes_K: NDArray[np.integer],
    total: int,
    *,
    minimum: int = 1,
    temperature: float = 0.1,
    neighbours: int = 20,
) -> Counts:
    """Whole budgets nearest to p N, where p are the `density_weights`, at least `minimum` and at most n_k of each.

    The paper's quadratic program min |x - p N|² with sum x = N and min(m, n_k) <= x_k <= n_k is a projection, solved
    exactly, and then rounded to one sample. Where the total cannot give every cluster its minimum, the minimum is shared
    evenly. Sums to min(total, sum of sizes).

    Args:
        centroids_KP: means of the unit rows of each cluster, not normalised.

    Raises:
        ValueError: the total or the minimum is negative, or the temperature is not positive.
    """
    if minimum < 0 or temperature <= 0 or neighbours < 1:
        raise ValueError(
            f"cannot share with minimum {minimum}, temperature {temperature} and {neighbours} neighbours; "
            "pass a minimum of 0 or more, a temperature above 0 and at least 1 neighbour"
        )
    total = min(total, int(np.sum(sizes_K)))
    least_K, most_K = uniform(np.minimum(sizes_K, minimum), total).astype(float), sizes_K.astype(float)
    weights_K = density_weights(centroids_KP, neighbours=neighbours, temperature=temperature)
    return rounded(project_box_simplex(weights_K * total, least_K, most_K, total))
