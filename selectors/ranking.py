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
