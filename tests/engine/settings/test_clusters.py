"""How many clusters a configuration asks for."""

import pytest

from liit.engine.settings.config import ConfigError
from liit.engine.settings.settling import settle


def test_a_share_of_the_budget_is_a_k_that_goes_with_it_and_without_it_the_grid_stands() -> None:
    settled = settle(["digits-compare.yaml", "clustering.k={per_budget: 0.5}"], None)
    assert settled.clustering.grid(settled.strategy.budget) == (180,)
    assert settled.clustering.grid(1) == (1,)
    assert settle(["digits-compare.yaml"], None).clustering.grid(360) == tuple(range(5, 51))


@pytest.mark.parametrize("told", ["strategy.unit=tokens", "strategy.lifetime=2000"])
def test_a_share_of_a_budget_that_is_not_in_samples_is_refused(told: str) -> None:
    with pytest.raises(ConfigError, match=r"clustering.k.per_budget goes with a budget in samples"):
        settle(["digits-compare.yaml", "clustering.k={per_budget: 0.5}", told], None)
