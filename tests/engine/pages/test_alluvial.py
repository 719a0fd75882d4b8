"""Ribbons: every value of a stage is as high as what it counts, and no count is lost between stages."""

import numpy as np
import pandas as pd
import pytest

from liit.engine.pages.alluvial import MOST, _spans, alluvial


def test_values_are_as_high_as_their_counts_and_do_not_overlap() -> None:
    sizes = pd.Series(np.random.default_rng(0).gamma(1, 10, 25), index=range(25))
    ends = np.array(list(_spans(sizes).values()))
    assert (ends[:, 1] - ends[:, 0]) / sizes.to_numpy() == pytest.approx(
        np.full(25, (ends[0, 1] - ends[0, 0]) / sizes[0])
    )
    assert ends.min() == pytest.approx(0)
    assert ends.max() == pytest.approx(1)
    assert (ends[:-1, 0] > ends[1:, 1]).all()


def test_what_has_no_cluster_and_the_smallest_clusters_are_shown_too() -> None:
    clusters = pd.Series([*range(60), None], dtype="Int32")
    counts = pd.DataFrame({"data set": "<d>", "pseudo-task": clusters, "outcome": "kept", "samples": [*range(61)]})
    picture = alluvial(pd.concat([counts, counts.assign(outcome="pruned")]))  # whose index is twice the same
    assert f"kept {sum(range(61)):,}, pruned {sum(range(61)):,}" in picture.alt
    for shown in (">others<", ">none<", ">59<", "&lt;d&gt;"):
        assert shown in picture.svg
    assert f">{60 - MOST}<" not in picture.svg
