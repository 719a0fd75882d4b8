"""How well bfloat16 on a card agrees with float32: ranks of the scores and angles of the vectors, of the same samples."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from liit.engine.scoring.profiler import Profiler, Row


def profiled(profiler: Profiler, samples: Sequence[dict[str, Any]], size: int) -> list[Row]:
    """Rows of all samples, `size` of them at once."""
    rows = [row for start in range(0, len(samples), size) for row in profiler.profile(samples[start : start + size])]
    assert all(row.status == "ok" for row in rows), [row.status for row in rows if row.status != "ok"]
    return rows


def agreement(ours: Sequence[Row], exact: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Per score Spearman's correlation and the largest difference over the score's spread; per vector the median and the
    smallest cosine. Nothing is said of a score that is the same for all."""
    found = {}
    for name in ours[0].scores or {}:
        mine, theirs = (np.array([(row.scores or {})[name] for row in rows]) for rows in (ours, exact))
        if theirs.std() > 0:
            off = float(np.abs(mine - theirs).max() / theirs.std())
            found[name] = {"spearman": float(spearmanr(mine, theirs).statistic), "largest_over_spread": off}
    for name in ours[0].vectors or {}:
        mine, theirs = (np.stack([(row.vectors or {})[name] for row in rows]).astype(float) for rows in (ours, exact))
        cosines = (mine * theirs).sum(1) / np.linalg.norm(mine, axis=1) / np.linalg.norm(theirs, axis=1)
        found[name] = {"median_cosine": float(np.median(cosines)), "smallest_cosine": float(cosines.min())}
    return found
