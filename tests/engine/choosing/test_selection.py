"""Every selected sample says why: its score, and where that lies among its cluster's."""

import numpy as np
import pytest

from liit.engine.choosing.selection import percentiles
from liit.selectors.protocol import Pool, choice


@pytest.mark.parametrize("clustered", [True, False])
def test_a_percentile_counts_the_samples_of_the_cluster_that_score_no_more(clustered: bool) -> None:
    rng = np.random.default_rng(0)
    scores = {name: rng.normal(size=200).round(1).astype(np.float32) for name in ("nll", "el2n")}
    scores["nll"][::9] = np.nan
    labels = rng.integers(4, size=200).astype(np.int32)
    keys = rng.permutation(200).astype(np.uint64)
    pool = Pool(keys, np.zeros(200, np.int32), scores, labels_N=labels if clustered else None)
    scorers = np.array([(None, "nll", "el2n")[index % 3] for index in range(60)], object)
    made = choice(pool, rng.permutation(200)[:60], scorers)
    for index, scorer, found in zip(made.index_n, made.scorer_n, percentiles(made, pool), strict=True):
        if scorer is None:
            assert np.isnan(found)
            continue
        among = scores[scorer][(labels == labels[index]) | (not clustered)]
        among = among[np.isfinite(among)]
        assert found == pytest.approx(100 * np.mean(among <= scores[scorer][index]))
