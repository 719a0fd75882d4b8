"""Which expert a sample goes to, by keys in closed form (EProj of He et al., arXiv 2311.16206, section 4.3).

An expert's key in each modality is the unit vector of Σ_i q_i over its samples' unit queries q_i: of all unit vectors the one
with the largest Σ_i cos(q_i, key), which the public code looks for by 2,000 steps of gradient descent.

Shapes: N samples, E experts, D dimensions.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Vectors = Mapping[str, NDArray[np.floating]]


def sums(queries: Vectors) -> dict[str, NDArray[np.float64]]:
    """(D,) for each modality: the sum of unit queries (N, D), a zero row counting for nothing. Sums of parts add up."""
    return {name: _unit(rows_ND).sum(axis=0) for name, rows_ND in queries.items()}


def route(queries: Vectors, keys: Vectors) -> NDArray[np.int64]:
    """(N,) the expert whose key is most like each sample: the largest sum of cosines over modalities, the first of equals.

    queries: (N, D) for each modality; keys: (E, D) sums of queries. A modality that both lack (zero rows) is as alike as
    can be, one that only one of them has is not alike at all.

    Raises:
        ValueError: there is no expert, or queries and keys have other modalities.
    """
    if queries.keys() != keys.keys() or not len(next(iter(keys.values()))):
        raise ValueError(f"cannot route by {sorted(queries)} to keys of {sorted(keys)}; give the same, and an expert")
    total_NE = np.zeros((len(next(iter(queries.values()))), len(next(iter(keys.values())))))
    for name, query_ND in queries.items():
        unit_ND, unit_ED = _unit(query_ND), _unit(keys[name])
        absent_NE = np.logical_not(np.logical_or.outer(unit_ND.any(axis=1), unit_ED.any(axis=1)))
        total_NE += unit_ND @ unit_ED.T + absent_NE
    best_N: NDArray[np.int64] = total_NE.argmax(axis=1)
    return best_N


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    rows = np.asarray(rows, np.float64)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)
