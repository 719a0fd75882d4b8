"""Which cluster of now is which group of before, by the samples that both hold; nothing of their vectors is compared."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment


def match(before_N: Sequence[Any], now_N: Sequence[Any], least: float) -> dict[Any, Any]:
    """From groups of now to groups of before, one to one, so that the sum of their overlaps is the largest there is.

    The overlap of two groups is |A ∩ B| / |A ∪ B|; a pair below `least` is none.

    Args:
        before_N, now_N: the groups of the samples that were there before and still are.

    Raises:
        ValueError: not one group of each for every sample.
    """
    if len(before_N) != len(now_N):
        raise ValueError(f"{len(before_N)} groups of before for {len(now_N)} of now; give both for every sample")
    if not len(before_N):
        return {}
    old, old_N = np.unique(np.asarray(before_N), return_inverse=True)
    new, new_N = np.unique(np.asarray(now_N), return_inverse=True)
    both = np.zeros((len(new), len(old)))
    np.add.at(both, (new_N, old_N), 1)
    overlap = both / (both.sum(1, keepdims=True) + both.sum(0) - both)
    pairs = zip(*linear_sum_assignment(overlap, maximize=True), strict=True)
    return {new[n].item(): old[o].item() for n, o in pairs if overlap[n, o] >= least}
