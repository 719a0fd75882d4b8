"""What a lite strategy prunes by is what it chooses by: every stratum that it balances keeps what it would give."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from liit.selectors.catalog import STRATEGIES, get
from liit.selectors.protocol import Pool, rehearse
from liit.selectors.redundancy import prune

Make = Callable[[int], Pool]
OWN: dict[str, dict[str, Any]] = {
    "adapt-inf": {},
    "two-level": {"fine": 30, "groups": 4},
    "both-strata": {"fine": 30, "groups": 4, "per_budget": 0.1},
}


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("budgets", ["uniform", "forgotten"])
def test_a_stratum_keeps_what_the_strategy_would_choose_of_it(name: str, budgets: str, pool_of: Make) -> None:
    pool, options = pool_of(800), {**OWN[name], "budgets": budgets}
    strategy = get(f"lite-{name}")
    assert strategy.strata is not None
    labels, share = strategy.strata(pool, 300, 5, 2, options)
    chosen = labels[strategy.choose(pool, 300, 5, 2, options).index_n]
    assert np.bincount(chosen, minlength=len(share)).tolist() == share.tolist()
    order = np.zeros(800)
    kept, _ = prune(pool.vectors["embedding"], labels, pool.keys_N, 300, order_N=order, share_K=share)
    left = np.bincount(labels[kept], minlength=len(share))
    assert (left >= np.minimum(np.bincount(labels, minlength=len(share)), share)).all()


def test_every_lite_strategy_has_strata_and_what_it_prunes_by(pool_of: Make) -> None:
    lite = [strategy for strategy in STRATEGIES.values() if strategy.prunes]
    assert [one.name for one in lite] == [f"lite-{name}" for name in OWN]
    for one in lite:
        assert one.strata is not None
        assert one.vectors[-1] == "embedding"
        assert one.choose is get(one.name.removeprefix("lite-")).choose
    rehearse(get("both-strata"), {"how": "halves"})
    with pytest.raises(ValueError, match="a pool is pruned by nested or crossed ones"):
        rehearse(get("lite-both-strata"), {"how": "halves"})
