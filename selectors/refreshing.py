"""What of a pool is scored again: a sample of every group, and whole groups whose sample shows that they have moved.

A group is a pseudo-task of the timestep before, or a data set. What its sample scores now, beside what the same samples scored
before, says whether the rest may keep what it has.

Shapes: N samples that were scored before, n rows of vectors, G groups, P dimensions. An array over groups has a value for every
label up to the largest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.priority import Keys, smallest_of_each

Labels = NDArray[np.integer]
Mask = NDArray[np.bool_]
Drift = NDArray[np.float64]


@dataclass(frozen=True)
class Rules:
    """When rows are taken for stale."""

    share: float = 0.05
    """Of every group, scored again."""
    least: int = 20
    """Samples of a group that are scored again at least, or all that it has."""
    score_drift: float = 0.5
    """Of a score's mean, in standard deviations of the score within the group: from here on the group is stale."""
    vector_drift: float = 0.1
    """One minus the cosine of a vector's mean then and now: likewise."""
    max_age: int = 4
    """Timesteps that a row may be old."""

    @property
    def everything(self) -> bool:
        """Whether any group would be stale, whatever its sample shows."""
        return min(self.score_drift, self.vector_drift) <= 0


def sampled(keys_N: Keys, group_N: Labels, rules: Rules, *salt: int | str) -> Mask:
    """(N,) which samples are scored again to see what moved: of every group those of smallest priority under the salt.

    Where everything is stale, all are.
    """
    size_G = np.bincount(group_N)
    count_G = np.maximum(np.ceil(rules.share * size_G).astype(np.int64), rules.least)
    chosen_N = np.full(len(keys_N), rules.everything)
    chosen_N[smallest_of_each(keys_N, group_N, count_G, "refresh", *salt)] = True
    return chosen_N


def score_drift(keys_N: Keys, group_N: Labels, before_N: NDArray[Any], now_N: NDArray[Any], again_N: Mask) -> Drift:
    """(G,) how far a score's mean over each group's sample went, in standard deviations of the group before.

    NaN is a sample that has no such score. Infinite for a group without a sample, for one whose score was the same everywhere and
    is another now, and for one that had none and has it now, or the other way round.

    again_N: which were scored again; what now_N says of others counts for nothing.
    """
    order_N = np.argsort(keys_N)  # sums do not depend on the order of the rows
    group_N, again_N = np.asarray(group_N)[order_N], again_N[order_N]
    before_N, now_N = (np.asarray(values, np.float64)[order_N] for values in (before_N, now_N))
    had_N, has_N = np.isfinite(before_N), np.isfinite(now_N)
    size_G = np.bincount(group_N, had_N)
    value_N = np.where(had_N, before_N, 0)
    mean_G = _over(np.bincount(group_N, value_N), size_G)
    spread_G = np.sqrt(_over(np.bincount(group_N, had_N * (value_N - mean_G[group_N]) ** 2), size_G))
    both_N = again_N & had_N & has_N
    change_N = np.where(both_N, now_N, 0) - np.where(both_N, before_N, 0)
    moved_G = np.abs(_over(np.bincount(group_N, change_N), np.bincount(group_N, both_N)))
    drift_G = np.full(len(size_G), np.inf)
    drift_G[moved_G == 0] = 0
    np.divide(moved_G, spread_G, out=drift_G, where=spread_G > 0)
    other_G = (np.bincount(group_N, both_N) == 0) & (np.bincount(group_N, again_N & (had_N != has_N)) > 0)
    return np.where((np.bincount(group_N, again_N) == 0) | other_G, np.inf, drift_G)


def group_sums(vectors_nP: NDArray[Any], group_n: Labels, groups: int) -> NDArray[np.float64]:
    """(G, P) sum of the rows of each group. Of float16 rows it is exact, so parts add up to the same in any order."""
    sums_GP = np.zeros((groups, vectors_nP.shape[1]))
    for group in np.unique(group_n):
        sums_GP[group] = vectors_nP[group_n == group].astype(np.float64).sum(0)
    return sums_GP


def vector_drift(before_GP: NDArray[np.float64], now_GP: NDArray[np.float64], count_G: NDArray[np.integer]) -> Drift:
    """(G,) one minus the cosine of the sums of the same rows then and now: 0 where both are zero, 1 where one of them is.

    count_G: how many rows a group's sums are of; infinite where there is none.
    """
    before_G, now_G = (np.linalg.norm(sums_GP, axis=1) for sums_GP in (before_GP, now_GP))
    both_G = before_G * now_G
    cosine_G = ((before_G == 0) & (now_G == 0)).astype(np.float64)
    np.divide(np.einsum("gp,gp->g", before_GP, now_GP), both_G, out=cosine_G, where=both_G > 0)
    return np.where(count_G > 0, 1 - np.clip(cosine_G, -1, 1), np.inf)


def stale(scores: Mapping[str, Drift], vectors: Mapping[str, Drift], rules: Rules) -> Mask:
    """(G,) which groups are scored whole: any score or any vector drifted as far as the rules say, or farther."""
    far = [drift_G >= rules.score_drift for drift_G in scores.values()]
    far += [drift_G >= rules.vector_drift for drift_G in vectors.values()]
    found: Mask = np.logical_or.reduce(far)
    return found


def _over(sum_G: NDArray[Any], count_G: NDArray[Any]) -> NDArray[np.float64]:
    """Sums over counts, 0 where there is nothing."""
    return np.divide(sum_G, count_G, out=np.zeros(len(sum_G)), where=np.asarray(count_G) > 0)
