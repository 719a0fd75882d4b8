"""Multi-way selection: each cluster is scored by the function that tells its samples apart best (Adapt-∞, equation 4).

The entropy of a score's histogram says how much it discriminates. It is taken over trimmed values scaled to [0, 1], so
the unit of a score does not matter, and with Miller and Madow's (1955) correction, since small clusters would else seem
less diverse than they are.

Shapes: N samples, S scores, K clusters.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from liit.selectors.kmeans import members_of
from liit.selectors.priority import Indices
from liit.selectors.strata import strata, trimmed_range

NO_ENTROPY = -np.inf
KNOWN = 0.95  # share of a cluster that must have a finite score for the score to count there


def score_entropy(values_N: NDArray[np.floating], *, bins: int = 50, trim: float = 0.05) -> float:
    """Entropy in nats of a score's histogram; -inf for a constant one or one without finite values."""
    values_N = values_N[np.isfinite(values_N)]
    if not len(values_N) or values_N.min() == values_N.max():
        return NO_ENTROPY
    low, high = trimmed_range(values_N, trim)
    values_N = values_N[(values_N >= low) & (values_N <= high)]
    bins = max(2, min(bins, len(values_N) // 10))
    counts = np.bincount(strata(values_N, low, high, bins))
    share = counts[counts > 0] / len(values_N)
    return float(-(share * np.log(share)).sum() + (len(share) - 1) / (2 * len(values_N)))


def choose_score(
    scores_NS: NDArray[np.floating], names: Sequence[str], *, bins: int = 50, trim: float = 0.05
) -> int | None:
    """The column of highest entropy (the first of equals), or None where every score is constant or missing.

    Raises:
        ValueError: there is not one name for each column.
    """
    if scores_NS.ndim != 2 or scores_NS.shape[1] != len(names):
        raise ValueError(f"scores of shape {scores_NS.shape} for the names {list(names)}; pass a column for each name")
    best = _best(_counting(list(scores_NS.T), bins, trim))
    return None if best < 0 else best


def choose_scores(
    columns: Sequence[NDArray[np.floating]],
    labels_N: NDArray[np.integer],
    n_clusters: int,
    *,
    min_size: int = 100,
    bins: int = 50,
    trim: float = 0.05,
) -> NDArray[np.int64]:
    """Which of the S columns (N,) has the highest entropy in each cluster; -1 where every score is constant or missing.

    A cluster smaller than `min_size` is too small to judge: it takes the score that is best over all samples, of those
    that vary within it.
    """
    chosen_K = np.full(n_clusters, -1)
    if not columns:
        return chosen_K
    small_K = np.bincount(labels_N, minlength=n_clusters) < min_size
    overall_S = _entropies(columns, bins, trim) if small_K.any() else np.empty(0)
    for k, members in enumerate(members_of(labels_N, n_clusters)):
        own_S = _counting([column_N[members] for column_N in columns], bins, trim)
        chosen_K[k] = _best(np.where(own_S > NO_ENTROPY, overall_S, NO_ENTROPY) if small_K[k] else own_S)
    return chosen_K


def values_of(columns: Sequence[NDArray[np.floating]], which: int, among: Indices) -> NDArray[np.floating]:
    """The values of a chosen column; NaN, which lets chance decide, where none was chosen."""
    return columns[which][among] if which >= 0 else np.full(len(among), np.nan, np.float32)


def _entropies(columns: Sequence[NDArray[np.floating]], bins: int, trim: float) -> NDArray[np.float64]:
    return np.array([score_entropy(column_N, bins=bins, trim=trim) for column_N in columns])


def _counting(columns: Sequence[NDArray[np.floating]], bins: int, trim: float) -> NDArray[np.float64]:
    """Entropies, but -inf for a score that too few have."""
    known_S = np.array([np.isfinite(column_N).mean() if len(column_N) else 0 for column_N in columns])
    return np.where(known_S >= KNOWN, _entropies(columns, bins, trim), NO_ENTROPY)


def _best(entropy_S: NDArray[np.float64]) -> int:
    return int(np.argmax(entropy_S)) if (entropy_S > NO_ENTROPY).any() else -1
