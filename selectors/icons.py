"""ICONS (Wu et al., arXiv 2501.00654): every wanted skill votes for the samples of most influence on it.

Shapes: N samples, S skills.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from liit.selectors.less import influence
from liit.selectors.priority import Indices, Keys, priority
from liit.selectors.protocol import Choice, Options, Pool, choice, settled


def icons(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """The samples of most votes, by the gradients of the current model.

    Options: `quantile` of a skill's influences above which it votes.
    """
    quantile = settled(options, quantile=0.8)["quantile"]
    influence_NS = influence([pool.vector("sketch")], [pool.wanted()], pool.keys_N)
    votes_N = votes(influence_NS, quantile)
    index_n = elected(votes_N, influence_NS, pool.keys_N, budget, seed=seed, timestep=timestep)
    return choice(
        replace(pool, scores={"votes": votes_N.astype(np.float32)}), index_n, "votes", rank_n=-votes_N[index_n]
    )


def votes(influence_NS: NDArray[np.floating], quantile: float = 0.8) -> NDArray[np.int64]:
    """How many skills each sample is above the quantile of.

    Strictly above an order statistic: a skill that all samples serve alike votes for none, and rescaling the influence on
    a skill changes nothing.

    Raises:
        ValueError: the quantile is not in [0, 1].
    """
    if not 0 <= quantile <= 1:
        raise ValueError(f"quantile is {quantile}; pass the share of samples a skill does not vote for, from 0 to 1")
    if not influence_NS.size:
        return np.zeros(len(influence_NS), np.int64)
    return np.sum(influence_NS > np.quantile(influence_NS, quantile, axis=0, method="lower"), axis=1)


def elected(
    votes_N: NDArray[np.integer],
    influence_NS: NDArray[np.floating],
    keys_N: Keys,
    budget: int,
    *,
    seed: int,
    timestep: int = 0,
) -> Indices:
    """The min(budget, N) samples of most votes, equals by summed influence, then by hash; positions ascending.

    Raises:
        ValueError: the budget is negative.
    """
    if budget < 0:
        raise ValueError(f"cannot elect {budget} samples; pass a budget of 0 or more")
    order = np.lexsort((priority(keys_N, "icons", seed, timestep), -influence_NS.sum(axis=1), -votes_N))
    return np.sort(order[:budget])
