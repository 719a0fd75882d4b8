"""Choice by one score over the whole pool: the single-score baselines (Adapt-∞, section 5.2).

The paper does not say which end of a score is taken; here the direction is always explicit.

Shapes: N samples.
"""

import numpy as np
from numpy.typing import NDArray

from liit.selectors.priority import Indices, Keys, priority, smallest

DIRECTIONS = ("highest", "lowest", "middle")


def ranked(
    scores_N: NDArray[np.floating], keys_N: Keys, budget: int, *, direction: str, seed: int, timestep: int
) -> Indices:
    """The min(budget, N) samples of highest, lowest or middle score; equal scores by hash; positions ascending.

    Samples without a finite score come in, by hash, only when nothing else is left.

    Raises:
        ValueError: unknown direction, or a negative budget.
    """
    if direction not in DIRECTIONS or budget < 0:
        raise ValueError(f"cannot take {budget} of {direction!r} score; take 0 or more of {', '.join(DIRECTIONS)}")
    salt = ("ranked", seed, timestep)
    scored, unscored = np.flatnonzero(np.isfinite(scores_N)), np.flatnonzero(~np.isfinite(scores_N))
    values = scores_N[scored] if direction != "highest" else -scores_N[scored]
    order = scored[np.lexsort((priority(keys_N[scored], *salt), values))]
    start = max(0, len(order) - budget) // 2 if direction == "middle" else 0
    chosen = order[start : start + budget]
    spare = unscored[smallest(keys_N[unscored], budget - len(chosen), *salt)]
    return np.sort(np.concatenate([chosen, spare]))


def outwards(scores_n: NDArray[np.floating], direction: str) -> NDArray[np.float64]:
    """(n,) how far each chosen sample is from the end, or the middle, that is taken first; without a score it is farthest."""
    value_n = scores_n.astype(np.float64)
    if direction == "middle":
        value_n = np.abs(value_n - np.median(value_n[np.isfinite(value_n)])) if np.isfinite(value_n).any() else value_n
    elif direction == "highest":
        value_n = -value_n
    return np.where(np.isfinite(scores_n), value_n, np.inf)
