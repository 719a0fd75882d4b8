"""Studies: what is shipped can be read, trials are real Ray Tune trials, and what comes out says what they found."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from pydantic import ValidationError
from sklearn.metrics import normalized_mutual_info_score

from liit.engine.comparison.cells import Cell
from liit.engine.run.files import read_table, write_json, write_table
from liit.engine.run.profiles import packed
from liit.engine.settings.config import ConfigError, read
from liit.engine.settings.settling import DEFAULT, settle
from liit.selectors.clustering import cluster
from liit.tune.objective import Source
from liit.tune.outcome import Outcome
from liit.tune.runner import run_trials
from liit.tune.spaces import Study, names, overrides, read_study

TASKS, EACH = 6, 60
SKILLS = {"vqa": (0, 1), "text": (2,)}
"""Tasks that evaluation sets ask for."""


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's t01/profile: six known tasks that are apart in the gradients and not in the embeddings."""
    run = tmp_path_factory.mktemp("run")
    chance, count = np.random.default_rng(0), TASKS * EACH
    task = np.repeat(np.arange(TASKS), EACH)
    keys = chance.permutation(count * 3)[:count].astype(np.uint64)
    columns: dict[str, Any] = {
        "id": [f"set/{key}" for key in keys],
        "key": pa.array(keys),
        "status": ["ok"] * count,
        **{
            name: pa.array(chance.gamma(2, 1, count), pa.float32())
            for name in ("nll", "image_grounding", "el2n", "entropy")
        },
        "sketch": packed(np.eye(TASKS, 16)[task] + 0.1 * chance.normal(size=(count, 16))),
        "embedding": packed(chance.normal(size=(count, 8))),
    }
    (run / "t01" / "profile").mkdir(parents=True)
    (run / "releases").mkdir()
    write_table(run / "t01" / "profile" / "part-0.parquet", pa.table(columns))
    write_json(run / "t01" / "profile" / "columns.json", {})
    known = {"key": pa.array(keys), "dataset": ["set"] * count, "arrival": pa.array([1] * count, pa.int32())}
    write_table(run / "releases" / "01-set.parquet", pa.table({**known, "task": [f"task {one}" for one in task]}))
    for skill, of in SKILLS.items():
        (run / "exam").mkdir(exist_ok=True)
        write_table(run / "exam" / f"{skill}.parquet", pa.table({"task": [f"task {one}" for one in of]}))
    (run / "data").mkdir()
    write_json(run / "data" / "stream.json", {"evaluations": [{"name": skill, "skill": skill} for skill in SKILLS]})
    (run / "config.yaml").write_text(yaml.safe_dump(yaml.safe_load(DEFAULT.read_text())))
    return run / "t01" / "profile"


@pytest.mark.parametrize("name", names())
def test_a_shipped_study_can_be_run(name: str) -> None:
    study = read_study(name, [])
    assert len(study.trials()) == np.prod([len(values) for values in study.space.values()])
    if study.kind == "training":
        trial = study.fixed | study.trials()[-1]
        Outcome(study, [], None).configuration(trial)
        settled = settle([study.config, *overrides(trial)], None)
        assert Cell("trial", 0, settled).passes()[0] > 0


def test_settings_of_a_study_are_said_once_and_joined() -> None:
    space = {"settings": [{"training.epochs": 1}, {"training.epochs": 2}]}
    told: dict[str, Any] = {"kind": "training", "metric": "m", "mode": "max"}
    study = Study(space=space, fixed={"settings": {"strategy.budget": 5}}, **told)
    assert overrides(study.trials()[1]) == ["strategy.budget=5", "training.epochs=2"]
    with pytest.raises(ValidationError, match=r"training\.epochs is in settings and beside them"):
        Study(space=space, fixed={"training.epochs": 5}, **told)
    with pytest.raises(ValidationError, match="settings must be mappings"):
        Study(space={"settings": ["a"]}, **told)


def test_a_trial_may_set_several_keys_at_once() -> None:
    trial = {"settings": {"clustering.vector": "embedding", "scoring.embedding": 7}, "seed": 3}
    settled = settle(["digits-compare.yaml", *overrides(trial)], None)
    assert (settled.clustering.vector, settled.scoring.embedding, settled.seed) == ("embedding", 7, 3)
    assert Cell("trial", 0, settled).passes() == (2, 0)  # no gradient is wanted


def test_an_axis_can_be_replaced_and_what_is_not_there_is_refused(tmp_path: Path) -> None:
    study = read_study("k", ["space.k=[3, 4]", "space.seed=[0]", "metric=wss", "mode=min"])
    assert [trial["k"] for trial in study.trials()] == [3, 4]
    with pytest.raises(ConfigError, match=r"study nothing: .*shipped are"):
        read_study("nothing", [])
    (tmp_path / "bad.yaml").write_text("kind: guessing\nspace: {k: [1]}\nmetric: wss\nmode: min\n")
    with pytest.raises(ConfigError, match=r"bad\.yaml: kind"):
        read_study(str(tmp_path / "bad.yaml"), [])


def test_a_trial_reports_what_can_be_computed_by_hand(profile: Path) -> None:
    figures, chosen = Source(profile, 60).choose({"k": TASKS, "seed": 1})
    table = read_table(profile)
    keys = table["key"].to_numpy()
    tasks = dict(
        zip(*(read_table(profile.parents[1] / "releases")[name].to_pylist() for name in ("key", "task")), strict=True)
    )
    rows = np.frombuffer(table["sketch"].combine_chunks().buffers()[1], np.float16).reshape(len(keys), -1)
    found = cluster(rows, keys, k_grid=[TASKS], seed=1)
    assert figures["k"] == TASKS
    assert figures["wss"] == pytest.approx(found.wss)
    assert figures["nmi"] == pytest.approx(normalized_mutual_info_score([tasks[key] for key in keys], found.labels_N))
    assert figures["nmi"] > 0.99
    share = pd.Series([tasks[key] for key in chosen]).value_counts(normalize=True)
    assert {f"share/{task}": part for task, part in share.items()} == {
        k: v for k, v in figures.items() if "share/" in k
    }
    assert figures["balance"] == pytest.approx(-(share * np.log(share)).sum() / np.log(TASKS))
    assert figures["tasks"] == TASKS
    assert len(chosen) == 60
    assert Source(profile, 60).choose({"k": TASKS, "vector": "embedding"})[0]["nmi"] < 0.2


def test_oracles_say_what_balance_there_can_be_at_most(profile: Path) -> None:
    source = Source(profile, 60)
    for seed in range(3):
        by = {
            name: source.choose({"strategy": name, "seed": seed})[0]
            for name in ("random", "oracle-tasks", "oracle-skills")
        }
        assert by["random"]["effective_kinds"] < by["oracle-tasks"]["effective_kinds"] == pytest.approx(TASKS)
        assert by["random"]["effective_skills"] < by["oracle-skills"]["effective_skills"] == pytest.approx(2)
        shares = [by["oracle-skills"][f"share/task {task}"] for task in range(TASKS)]
        assert shares == pytest.approx([1 / 6, 1 / 6, 1 / 3, 1 / 9, 1 / 9, 1 / 9], abs=0.02)


def test_the_best_strata_are_of_the_vector_that_was_best(profile: Path) -> None:
    study = read_study(
        "strata", ["space.vector=[sketch, embedding]", "space.options=[{fine: 18, groups: 6}]", "space.seed=[0]"]
    )
    trials = study.trials()
    found = [{"trial": trial, "figures": Source(profile, 60).choose(trial)[0]} for trial in trials]
    assert found[0]["figures"]["effective_kinds"] == pytest.approx(TASKS)
    best = Outcome(study, found, profile).configuration(Outcome(study, found, profile).best())
    assert best["clustering"]["vector"] == "sketch"
    assert best["strategy"]["name"] == "two-level"
    assert best["strategy"]["options"] == {"fine": 18, "groups": 6}


@pytest.mark.usefixtures("ray_cluster")
def test_a_study_runs_through_ray_tune_and_is_not_run_twice(profile: Path, tmp_path: Path) -> None:
    study = Study(kind="selection", space={"k": [3, TASKS, 12], "seed": [0, 1]}, metric="nmi", mode="max")
    found = run_trials(study, profile, 60, tmp_path, 1)
    assert sorted((one["trial"]["k"], one["trial"]["seed"]) for one in found) == [
        (k, s) for k in (3, TASKS, 12) for s in (0, 1)
    ]
    outcome = Outcome(study, found, profile)
    assert outcome.best()["k"] == TASKS
    outcome.write(tmp_path)
    best = read(tmp_path / "best.yaml", [])
    assert best.clustering.k_grid == (TASKS,)
    table = pd.read_csv(tmp_path / "table.csv")
    assert pd.read_parquet(tmp_path / "table.parquet").columns.tolist() == table.columns.tolist()
    assert (tmp_path / "nmi.svg").read_text().startswith("<?xml")
    assert "task 5" in (tmp_path / "shares.svg").read_text()
    assert table.filter(like="share/").sum(axis=1).to_numpy() == pytest.approx(np.ones(6), abs=1e-3)
    again = run_trials(study, profile, 60, tmp_path, 1)
    key = lambda one: str(one["trial"])  # noqa: E731
    assert [one["figures"]["wss"] for one in sorted(again, key=key)] == [
        one["figures"]["wss"] for one in sorted(found, key=key)
    ]
    with pytest.raises(ConfigError, match="holds another study"):
        run_trials(study, profile, 61, tmp_path, 1)


def test_the_best_is_by_the_mean_over_seeds() -> None:
    study = Study(kind="training", space={"strategy.budget": [10, 20], "seed": [0, 1]}, metric="accuracy", mode="max")
    values = {(10, 0): 9.0, (10, 1): 1.0, (20, 0): 6.0, (20, 1): 6.0}
    found = [
        {"trial": {"strategy.budget": budget, "seed": seed}, "figures": {"accuracy": value}}
        for (budget, seed), value in values.items()
    ]
    outcome = Outcome(study, found, None)
    assert outcome.best()["strategy.budget"] == 20
    assert outcome.by_setting()["accuracy"].tolist() == [5.0, 6.0]
    assert outcome.configuration({"strategy.budget": 20, "seed": 0})["strategy"]["budget"] == 20
