"""How alike tasks are, from a mean vector of each in several modalities (He et al., arXiv 2311.16206).

Shapes: T tasks, D dimensions.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def likeness(means: Mapping[str, NDArray[np.floating]], new: int = 1) -> NDArray[np.float64]:
    """(new, T - new) similarities in [0, 1] of the last tasks to each one before them: the product over modalities.

    In each modality the cosines of all pairs of tasks are standardised and squashed by a sigmoid, which brings modalities of
    different spread to one scale; the cosine of a single pair is taken as it is. As in routing, two tasks that both lack a
    modality (zero rows) are as alike in it as can be, and where one of them lacks it they are not alike at all.

    Raises:
        ValueError: modalities with different numbers of tasks.
    """
    if len({len(mean_TD) for mean_TD in means.values()}) > 1:
        raise ValueError(f"every modality needs one row per task, got {[len(one) for one in means.values()]}")
    fused = np.ones((new, len(next(iter(means.values()))) - new))
    for rows_TD in means.values():
        mean_TD = np.asarray(rows_TD, np.float64)
        there_T = np.linalg.norm(mean_TD, axis=1) > 0
        squashed = _squashed(mean_TD)[-new:, :-new]
        old, now = there_T[None, :-new], there_T[-new:, None]
        fused *= np.where(old & now, squashed, old == now)
    return fused


def _squashed(mean_TD: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, T) similarities; NaN where either task has no vector."""
    norm_T = np.linalg.norm(mean_TD, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit_TD = mean_TD / norm_T[:, None]
    cosine_TT = unit_TD @ unit_TD.T
    pairs = cosine_TT[np.triu_indices(len(mean_TD), 1)]
    pairs = pairs[np.isfinite(pairs)]
    spread = pairs.std() if len(pairs) else 0.0
    if len(pairs) < 2 or spread < 1e-12:
        return np.clip(cosine_TT, 0, 1)
    squashed: NDArray[np.float64] = 1 / (1 + np.exp(-(cosine_TT - pairs.mean()) / spread))
    return squashed
