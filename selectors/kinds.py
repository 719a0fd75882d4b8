"""How many kinds a selection is of, and whether it has the rare ones: what balance there is, by tasks that are known.

An analysis: no strategy looks at tasks, but for the oracles. Shapes: K kinds, n chosen samples.
"""

import numpy as np
from numpy.typing import NDArray


def effective(counts_K: NDArray[np.integer]) -> float:
    """exp of the entropy of the shares (Hill's number of order 1): K where all are alike, 1 where one has all, 0 of nothing."""
    counts = np.asarray(counts_K, np.float64)
    if not counts.sum():
        return 0.0
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def rare(pool_K: NDArray[np.integer], chosen: int) -> NDArray[np.bool_]:
    """(K,) the kinds of which chance alone expects less than one sample among so many chosen ones."""
    pool_K = np.asarray(pool_K, np.int64)
    return (pool_K > 0) & (pool_K * chosen < pool_K.sum())


def coverage(pool_K: NDArray[np.integer], chosen_K: NDArray[np.integer]) -> float:
    """The share of the rare kinds that have at least one chosen sample; 1 where none is rare."""
    chosen_K = np.asarray(chosen_K)
    rare_K = rare(pool_K, int(chosen_K.sum()))
    return float((chosen_K[rare_K] > 0).mean()) if rare_K.any() else 1.0
