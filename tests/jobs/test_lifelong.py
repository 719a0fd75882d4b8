"""The whole loop on a small stream: the run folder keeps its contract, and nothing is lost on the way."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from peft import PeftModel

from liit.engine.data.ingest import TooManyBadSamples
from liit.engine.data.stream import open_stream
from liit.engine.examining import Examining
from liit.engine.lifelong import run
from liit.engine.models import loading
from liit.engine.run.store import Store
from liit.engine.settings.config import Config
from liit.engine.stages import Stages
from liit.engine.targeting import Targeting

Call = Callable[..., subprocess.CompletedProcess[str]]


def configured(settings: dict[str, Any], **sections: Any) -> Config:
    merged = {**settings, **{k: {**settings[k], **v} if isinstance(v, dict) else v for k, v in sections.items()}}
    return Config.model_validate(merged)


def ids(path: Path) -> set[str]:
    column = pq.read_table(path)["id"].to_pylist()
    assert len(set(column)) == len(column), f"{path} names a sample twice"
    return set(column)


def test_in_is_kept_and_quarantined_and_removed_at_every_timestep(finished: Path) -> None:
    left: set[str] = set()
    for t, release in enumerate(("base", "words", "pairs")):
        step = finished / f"t{t:02d}"
        kept, bad = ids(finished / "releases" / f"{t:02d}-{release}.parquet"), ids(step / "quarantine.parquet")
        assert len(kept) + len(bad) == {"base": 12, "words": 43, "pairs": 16}[release]
        pool, removed = ids(step / "pool.parquet"), ids(step / "removed.parquet")
        copies = ids(step / "copies.parquet")
        assert pool == (left | kept) - copies
        assert copies <= removed <= pool | copies
        left = pool - removed
        assert t == 0 or len(left) == min(30, len(pool))
        assert t == 0 or len(ids(step / "selection.parquet")) == 12


def test_exact_copies_never_enter_the_pool_and_say_of_what_they_are(finished: Path) -> None:
    rows = {row["id"]: row for row in pq.read_table(finished / "t01" / "removed.parquet").to_pylist()}
    assert rows["words/seen-3"] == {"id": "words/seen-3", "reason": "duplicate", "kept_id": "base/seen-3"}
    assert rows["words/105"] == {"id": "words/105", "reason": "contamination", "kept_id": "exam-sum/105"}
    assert {row["reason"] for name, row in rows.items() if name not in ("words/seen-3", "words/105")} == {"pruned"}


def test_bad_samples_are_quarantined_with_stage_and_reason(finished: Path) -> None:
    rows = {row["id"]: row for row in pq.read_table(finished / "t01" / "quarantine.parquet").to_pylist()}
    assert rows["words/seen-90"]["stage"] == "check"
    assert "truncated" in rows["words/seen-90"]["reason"] or "image" in rows["words/seen-90"]["reason"]
    assert rows["words/seen-91"]["stage"] == "read"
    assert "folder" in rows["words/seen-91"]["reason"]
    assert rows["words/seen-92"]["stage"] == "read"
    [exam] = pq.read_table(finished / "exam" / "exam-sum.quarantine.parquet").to_pylist()
    assert exam["id"] == "exam-sum/200"
    assert exam["reason"].startswith("unusable reference: reference 'yes' holds no number")


def test_the_profile_says_what_it_holds(finished: Path) -> None:
    step = finished / "t02"
    profile = pq.read_table(sorted((step / "profile").glob("*.parquet"))[0])
    columns = json.loads((step / "profile" / "columns.json").read_text())
    assert columns["sketch"]["dimension"] == profile["sketch"].type.byte_width // 2 == 64
    assert columns["embedding"]["dimension"] == profile["embedding"].type.byte_width // 2 == 32
    assert {"nll", "image_grounding", "el2n", "entropy"} <= set(profile.column_names)
    rows = sum(pq.read_metadata(part).num_rows for part in (step / "profile").glob("*.parquet"))
    assert json.loads((step / "profile.made.json").read_text())["scored"] == rows == len(ids(step / "pool.parquet"))


def test_every_choice_has_a_cluster_and_a_reason(finished: Path) -> None:
    clusters = {row["id"]: row["cluster"] for row in pq.read_table(finished / "t01" / "clusters.parquet").to_pylist()}
    for row in pq.read_table(finished / "t01" / "selection.parquet").to_pylist():
        assert row["cluster"] == clusters[row["id"]]
        assert row["scorer"] in (None, "nll", "image_grounding", "el2n", "entropy")
        assert (row["scorer"] is None) == (row["score"] is None)


def test_the_last_adapter_loads_and_the_results_cover_every_timestep(finished: Path, tiny_llava: str) -> None:
    PeftModel.from_pretrained(loading.load_model(tiny_llava), str(finished / "t02" / "adapter"))
    assert (finished / "t02" / "adapter" / "moments.safetensors").is_file()
    results = json.loads((finished / "results.json").read_text())
    assert [set(row) for row in results["accuracy"]] == [{"colour", "sum"}] * 3
    assert results["seconds"]["t01/profile"] > 0
    assert results["samples"][1] == {"pool": 50, "quarantine": 3, "selection": 12, "removed": 22}
    assert "after each timestep" in (finished / "report.html").read_text()


def test_a_finished_run_answers_in_seconds_without_ray(
    finished: Path, settings: dict[str, Any], lifelong: Call, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    began = time.monotonic()
    done = lifelong(tmp_path / "config.yaml", "--output", finished, RAY_ADDRESS="127.0.0.1:1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ray" not in done.stdout
    assert "average accuracy" in done.stdout
    assert str(finished / "t02" / "adapter") in done.stdout.replace("\n", "")
    assert time.monotonic() - began < 30


def test_a_profile_that_was_not_kept_is_not_made_again(
    finished: Path, settings: dict[str, Any], lifelong: Call, tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings | {"keep_profiles": 1}))
    shutil.copytree(finished, tmp_path / "run")
    for _ in range(2):
        done = lifelong(tmp_path / "config.yaml", "--output", tmp_path / "run", RAY_ADDRESS="127.0.0.1:1")
        assert done.returncode == 0, done.stdout + done.stderr
        assert [(tmp_path / "run" / f"t0{t}" / "profile").exists() for t in (1, 2)] == [False, True]


@pytest.mark.usefixtures("ray_cluster")
def test_three_actors_profile_the_same_bits_as_one(settings: dict[str, Any], finished: Path, tmp_path: Path) -> None:
    config = configured(settings, resources={"actors": 3, "cpus_per_actor": 0.3})
    stages, store = _until_selection(config, tmp_path)
    for name in ("profile", "clusters.parquet", "selection.parquet"):
        mine, theirs = (_table(folder / "t01" / name) for folder in (store.root, finished))
        assert mine.equals(theirs), name
    assert stages.config.resources.actors == 3


@pytest.mark.usefixtures("ray_cluster")
def test_another_batch_size_selects_nearly_the_same(settings: dict[str, Any], finished: Path, tmp_path: Path) -> None:
    config = configured(settings, scoring={**settings["scoring"], "samples_per_batch": 7})
    _, store = _until_selection(config, tmp_path)
    mine, theirs = (ids(folder / "t01" / "selection.parquet") for folder in (store.root, finished))
    assert len(mine & theirs) >= 0.99 * len(theirs)


@pytest.mark.usefixtures("ray_cluster")
def test_too_many_bad_samples_stop_the_run_before_any_training(settings: dict[str, Any], tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    with pytest.raises(TooManyBadSamples, match=r"words: 2 of 43 samples are bad, more than max_bad_share=0\.01"):
        run(configured(settings, max_bad_share=0.01), store)
    assert not list(store.root.rglob("adapter*"))
    assert pq.read_metadata(store.root / "t01" / "quarantine.parquet").num_rows == 2, "found before images are decoded"
    store.close()


@pytest.mark.usefixtures("ray_cluster")
def test_what_chooses_among_the_newest_alone_scores_nothing_else(settings: dict[str, Any], tmp_path: Path) -> None:
    wanted = settings["stream"]["evaluations"][0] | {"name": "wanted"}
    strategy = {"name": "similar-images", "budget": 5, "pool_budget": None}
    _, store = _until_selection(configured(settings, stream={"targets": [wanted]}, strategy=strategy), tmp_path)
    pool = _table(store.root / "t01" / "pool.parquet")
    new = set(pool.filter(pc.equal(pool["arrival"], 1))["id"].to_pylist())
    assert set(_table(store.root / "t01" / "profile")["id"].to_pylist()) == new < set(pool["id"].to_pylist())
    assert len(ids(store.root / "t01" / "selection.parquet") & new) == 5


def _until_selection(config: Config, folder: Path) -> tuple[Stages, Store]:
    store = Store(folder / "run")
    stream = open_stream(config, store)
    stages = Stages(config, store, {one.name: one.skill for one in stream.targets})
    for t, release in enumerate(stream.releases):
        stages.ingest(release, t)
    examining = Examining(stages)
    examining.read(stream.evaluations)
    first = stages.pool(0, (), examining.holding(0))
    pool = stages.pool(1, (first, stages.prune(0, first, None, None, None)), examining.holding(1))
    profile = stages.score(1, pool, None)
    targeting = Targeting(stages)
    targets = targeting.profile(1, targeting.split(stream.targets), None)
    stages.select(1, pool, profile, stages.cluster(1, profile), targets)
    return stages, store


def _table(path: Path) -> Any:
    from liit.engine.run.files import read_table

    return read_table(path).sort_by("key")


def test_the_summary_accounts_for_every_sample_that_came_to_a_timestep(finished: Path) -> None:
    for t in range(3):
        step = finished / f"t{t:02d}"
        rows = pq.read_table(step / "summary.parquet").to_pylist()
        counted: dict[str, int] = {}
        for row in rows:
            counted[row["outcome"]] = counted.get(row["outcome"], 0) + row["samples"]
        chosen = pq.read_table(step / "selection.parquet")["id"].to_pylist() if t else []
        assert counted.get("selected", 0) == len(chosen)
        assert counted.get("selected", 0) + counted.get("not selected", 0) == len(ids(step / "pool.parquet"))
        assert counted.get("left out", 0) == len(ids(step / "copies.parquet"))
        assert sum(row["pruned"] for row in rows) == len(ids(step / "removed.parquet") - ids(step / "copies.parquet"))
        assert counted.get("quarantined", 0) == {0: 0, 1: 3, 2: 0}[t]
