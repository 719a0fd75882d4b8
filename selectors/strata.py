"""Trimmed range and equal-width strata of a score: what CCS samples from and multi-way selection measures.

Shapes: N samples.
"""

import numpy as np
from numpy.typing import NDArray


def trimmed_range(values_N: NDArray[np.floating], trim: float) -> tuple[float, float]:
    """The values that bound the middle after floor(trim N) are cut at each end.

    Order statistics, not interpolated quantiles: no rescaling of the score can then move a sample over the edge.

    Raises:
        ValueError: `trim` is not in [0, 0.5), or there are no values.
    """
    if not 0 <= trim < 0.5 or not len(values_N):
        raise ValueError(f"cannot trim {trim} of {len(values_N)} values; trim at least 0 and less than 0.5 of some")
    cut, last = int(trim * len(values_N)), len(values_N) - 1
    sorted_N = np.partition(values_N, (cut, last - cut))
    return float(sorted_N[cut]), float(sorted_N[last - cut])


def strata(values_N: NDArray[np.floating], low: float, high: float, bins: int) -> NDArray[np.int64]:
    """The stratum 0..bins-1 of each value in [low, high]; the highest value belongs to the last one."""
    if high == low:
        return np.zeros(len(values_N), np.int64)
    place_N = (values_N.astype(np.float64) - low) / (high - low)
    return np.minimum((place_N * bins).astype(np.int64), bins - 1)
