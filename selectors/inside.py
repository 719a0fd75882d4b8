"""How a stratum's own samples are chosen: over the whole range of a score, by chance, or from one end of it.

Shapes: N samples of the stratum, n chosen ones.
"""

import numpy as np
from numpy.typing import NDArray

from liit.selectors.coverage import added, ccs
from liit.selectors.priority import Indices, Keys, priority, smallest
from liit.selectors.ranking import DIRECTIONS, outwards, ranked

WAYS = ("ccs", "chance", *DIRECTIONS)
SALT = "two-level"  # of chance


def picked(
    values_N: NDArray[np.floating],
    keys_N: Keys,
    count: int,
    way: str,
    *,
    bins: int,
    trim: float,
    seed: int,
    timestep: int,
) -> tuple[Indices, NDArray[np.int32], Indices]:
    """min(count, N) samples of a stratum.

    way: one of `WAYS`; `bins` and `trim` are of ccs. Values that are not finite come last, chance looks at none.

    Returns:
        positions, ascending; the stratum of each within the score, -1 where there is none; and at which place each is added.
    """
    if way == "ccs":
        index_n, stratum_n = ccs(values_N, keys_N, count, bins=bins, trim=trim, seed=seed, timestep=timestep)
        return index_n, stratum_n, added(stratum_n, keys_N[index_n], seed, timestep)
    if way == "chance":
        index_n = smallest(keys_N, count, SALT, seed, timestep)
        first_n = np.zeros(len(index_n))
    else:
        index_n = ranked(values_N, keys_N, count, direction=way, seed=seed, timestep=timestep)
        first_n = outwards(values_N[index_n], way)
    place_n = np.empty(len(index_n), np.int64)
    place_n[np.lexsort((priority(keys_N[index_n], SALT, seed, timestep), first_n))] = np.arange(len(index_n))
    return index_n, np.full(len(index_n), -1, np.int32), place_n
