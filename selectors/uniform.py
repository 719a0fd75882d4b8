"""Choice by chance: the random baseline and replay of the past (Adapt-∞, section 5.2).

Shapes: N samples.
"""

import numpy as np
from numpy.typing import NDArray

from liit.selectors.priority import Indices, Keys, smallest


def random_sample(keys_N: Keys, budget: int, *, seed: int, timestep: int) -> Indices:
    """min(budget, N) samples, every subset of that size equally likely over seeds; positions ascending."""
    return smallest(keys_N, budget, "random", seed, timestep)


def random_replay(
    keys_N: Keys, arrival_N: NDArray[np.integer], *, seed: int, timestep: int, fraction: float = 0.1
) -> Indices:
    """Everything that arrived at `timestep` and a random `fraction` (rounded) of all that came before.

    Raises:
        ValueError: `fraction` is not in [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction is {fraction}; pass the share of past samples to replay, from 0 to 1")
    past = np.flatnonzero(arrival_N < timestep)
    replayed = past[smallest(keys_N[past], int(fraction * len(past) + 0.5), "replay", seed, timestep)]
    return np.sort(np.concatenate([np.flatnonzero(arrival_N == timestep), replayed]))
