"""What a timestep may spend: samples, tokens or FLOPs, its own budget or its share of a lifetime."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from liit.engine.choosing.budget import flops_per_token, parameters, spend
from liit.engine.models import loading
from liit.engine.run.files import read_json, write_table
from liit.engine.run.tables import SAMPLE, key_of, sort_by_key
from liit.engine.settings.config import Config
from liit.selectors.catalog import get
from liit.selectors.protocol import Choice, Pool

LENGTHS = [10 + 7 * index % 40 for index in range(60)]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    rows = [
        {"id": f"a/{index}", "key": key_of(f"a/{index}"), "dataset": "a", "arrival": 0, "images": [], "length": length}
        for index, length in enumerate(LENGTHS)
    ]
    for t in range(4):
        (tmp_path / f"t{t:02d}").mkdir()
        write_table(tmp_path / f"t{t:02d}" / "pool.parquet", sort_by_key(pa.Table.from_pylist(rows, schema=SAMPLE)))
    write_table(tmp_path / "a.parquet", pa.Table.from_pylist(rows, schema=SAMPLE))
    return tmp_path / "a.parquet"


def buy(release: Path, t: int, **strategy: object) -> tuple[Choice, float]:
    """What random chooses at t of 4 timesteps, and the tokens of it."""
    config = Config.model_validate({"strategy": {"name": "random", **strategy}})
    keys = np.sort(np.array([key_of(f"a/{index}") for index in range(60)], np.uint64))
    pool = Pool(keys, np.zeros(60, np.int32))
    choice = spend(
        lambda count: get("random").choose(pool, count, 0, t, {}),
        release.parent / f"t{t:02d}",
        t,
        4,
        [release],
        keys,
        config,
        whole=False,
    )
    length_of = {key_of(f"a/{index}"): length for index, length in enumerate(LENGTHS)}
    return choice, sum(length_of[int(key)] for key in keys[choice.index_n])


def test_a_budget_in_samples_is_their_number(release: Path) -> None:
    assert len(buy(release, 1, budget=17)[0].index_n) == 17


def test_a_budget_in_tokens_is_spent_up_to_the_next_sample(release: Path) -> None:
    _, tokens = buy(release, 1, budget=500, unit="tokens")
    assert 500 - max(LENGTHS) < tokens <= 500
    assert read_json(release.parent / "t01" / "budget.json") == {"unit": "tokens", "allowed": 500, "spent": tokens}


def test_a_budget_in_flops_is_four_times_parameters_and_tokens_each_epoch(release: Path) -> None:
    config = Config.model_validate({"training": {"epochs": 1}})
    exact = sum(weight.numel() for weight in loading.load_model("digits-base").parameters())
    assert parameters("digits-base") == exact
    assert flops_per_token(config) == 4 * exact
    _, tokens = buy(release, 1, budget=500 * 4 * exact, unit="flops")
    assert 500 - max(LENGTHS) < tokens <= 500


def test_a_lifetime_is_shared_by_the_timesteps_and_never_overspent(release: Path) -> None:
    spent = [buy(release, t, lifetime=1500, unit="tokens", decay=0.5)[1] for t in (1, 2, 3)]
    assert sum(spent) <= 1500
    assert spent[0] > 1.5 * spent[1] > 2 * spent[2]
    assert 1500 - sum(spent) < 3 * max(LENGTHS)
    assert sum(len(buy(release, t, lifetime=20)[0].index_n) for t in (1, 2, 3)) == 20


def test_a_strategy_that_says_itself_how_much_has_no_budget(release: Path) -> None:
    keys = np.sort(np.array([key_of(f"a/{index}") for index in range(60)], np.uint64))
    config = Config.model_validate({"strategy": {"name": "multi-task", "budget": 5, "unit": "tokens"}})
    pool = Pool(keys, np.zeros(60, np.int32))
    everything = spend(
        lambda count: get("multi-task").choose(pool, count, 0, 1, {}),
        release.parent / "t01",
        1,
        4,
        [release],
        keys,
        config,
        whole=True,
    )
    assert len(everything.index_n) == 60
