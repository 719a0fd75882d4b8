"""How a lite strategy cuts the pool of a run: by its own strata, to even sizes or to shares; and the record tells it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from liit.engine.choosing.pruning import prune_pool, pruned_by
from liit.engine.choosing.selection import pool_arrays
from liit.engine.run.files import read_table, write_table
from liit.engine.run.profiles import packed
from liit.engine.run.tables import CLUSTERS, sort_by_key
from liit.engine.settings.config import Config
from liit.engine.settings.settling import settle
from liit.selectors.budgets import uniform
from liit.selectors.catalog import get

SCORES = ("nll", "image_grounding", "el2n", "entropy", "forgetting")


@pytest.fixture
def timestep(run: Path) -> Path:
    """The third, profiled and clustered: new samples are hard, old ones known, and clusters are of unequal sizes."""
    pool = sort_by_key(read_table(run / "t02/pool.parquet"))
    chance, size = np.random.default_rng(0), len(pool)
    new_N = pool["arrival"].to_numpy() == 2
    scores = {name: pa.array(chance.gamma(2, size=size).astype(np.float32)) for name in SCORES}
    scores["forgetting"] = pa.array(np.zeros(size, np.float32))
    scores["nll"] = pa.array(np.where(new_N, 6, 1).astype(np.float32))
    vectors = {name: packed(chance.normal(size=(size, 8))) for name in ("sketch", "embedding")}
    columns = {"id": pool["id"], "key": pool["key"], "status": pa.array(["ok"] * size), **scores, **vectors}
    (run / "t02/profile").mkdir()
    write_table(run / "t02/profile/part-00000000.parquet", pa.table(columns))
    label_N = np.where(new_N, 0, 1 + (chance.random(size) > 0.9)).astype(np.int32)
    distance = pa.array(chance.random(size).astype(np.float32))
    clusters = pa.table([pool["id"], pool["key"], pa.array(label_N), distance], schema=CLUSTERS)
    write_table(run / "t02/clusters.parquet", clusters)
    return run / "t02"


def told(name: str, **prune: str) -> Config:
    options: dict[str, Any] = {"budgets": "forgotten"}
    if name == "lite-two-level":
        options |= {"fine": 12, "groups": 3}
    strategy = {"name": name, "budget": 20, "options": options, "prune": prune}
    return Config.model_validate({"seed": 3, "strategy": strategy})


def left(timestep: Path, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """Which samples of the pool, by key, stay of 100; and how far each is from its cluster's centroid."""
    prune_pool(timestep, 100, timestep / "removed.parquet", 2, config)
    gone = read_table(timestep / "removed.parquet")
    gone = gone.filter(pc.equal(gone["reason"], "pruned"))["id"]
    pool = sort_by_key(read_table(timestep / "pool.parquet", ["id", "key"]))
    distance = sort_by_key(read_table(timestep / "clusters.parquet"))["distance"].to_numpy()
    return ~pc.is_in(pool["id"], gone.combine_chunks()).to_numpy(), distance


@pytest.mark.parametrize("name", ["lite-adapt-inf", "lite-two-level"])
@pytest.mark.parametrize("shares", ["even", "selection"])
def test_every_stratum_keeps_an_even_size_or_what_selection_would_give_it(
    timestep: Path, name: str, shares: str
) -> None:
    config, strategy = told(name, shares=shares), get(name)
    assert strategy.strata is not None
    pool = pool_arrays(timestep, SCORES, strategy.vectors, strategy.clusters)
    labels, share = strategy.strata(pool, 100, 3, 2, config.strategy.options)
    kept, _ = left(timestep, config)
    expected = share if shares == "selection" else uniform(np.bincount(labels), 100)
    assert np.bincount(labels[kept], minlength=len(share)).tolist() == expected.tolist()
    assert kept.sum() == 100
    assert share.tolist() != uniform(np.bincount(labels), 100).tolist()


def test_what_is_hard_or_representative_of_a_cluster_stays(timestep: Path) -> None:
    labels = sort_by_key(read_table(timestep / "clusters.parquet"))["cluster"].to_numpy()
    for keep, sign in (("hard", -1), ("representative", 1)):
        kept, distance = left(timestep, told("lite-adapt-inf", keep=keep))
        for k in range(3):
            mine = np.flatnonzero(labels == k)
            first = mine[np.argsort(sign * distance[mine])][: kept[mine].sum()]
            assert set(first) == set(mine[kept[mine]])


def test_the_record_tells_what_is_not_the_papers_and_nothing_of_what_is() -> None:
    strategy = get("lite-adapt-inf")
    assert pruned_by(told("lite-adapt-inf"), strategy, 2) == {}
    assert pruned_by(told("lite-adapt-inf", keep="hard"), strategy, 2) == {"prune": {"shares": "even", "keep": "hard"}}
    whole = pruned_by(told("lite-adapt-inf", shares="selection"), strategy, 2)
    assert whole["strategy"]["options"] == {"budgets": "forgotten"}
    own = get("lite-two-level")
    assert pruned_by(told("lite-two-level"), own, 2)["strategy"]["vector"] == "sketch"


def test_what_prunes_nothing_is_told_so(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"strategy": {"name": "random", "prune": {"keep": "hard"}}}), encoding="utf-8")
    with pytest.raises(ValueError, match=r"strategy\.prune: strategy random prunes nothing"):
        settle([str(file)], None)
