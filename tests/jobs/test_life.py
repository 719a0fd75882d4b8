"""A run over years: releases, evaluation sets and settings come and go, and what was trained before stays as it was."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from liit.engine.lasting.continuing import continued
from liit.engine.lasting.forking import fork
from liit.engine.lifelong import run
from liit.engine.main import begin, write_config
from liit.engine.plan import plan
from liit.engine.run.planning import Plan
from liit.engine.run.reading import open_run
from liit.engine.run.store import Reached, Store
from liit.engine.settings.config import Config, read
from tests.small_run import said

Settings = dict[str, Any]


def told(settings: Settings, folder: Path, at: int | None = None) -> Config:
    return continued(Config.model_validate(settings | {"output": str(folder)}), at)


def go(config: Config, until: str | None = None) -> Plan:
    """Run what was planned; the plan, after it was held against what was done."""
    folder, found = Path(config.output), plan(config, until)
    log = folder / "stages.jsonl"
    before = len(log.read_text().splitlines()) if log.is_file() else 0
    store = Store(folder, until)
    begin(config, store, found)
    try:
        run(config, store)
    except Reached:
        assert until is not None
    finally:
        store.close()
    events = [json.loads(line) for line in log.read_text().splitlines()[before:]]
    made = {event["result"] for event in events if event["event"] == "finished"}
    wanted = {name for name, one in found.verdicts.items() if one.state not in ("kept", "set aside")}
    assert made == wanted, "what the plan says is what is done"
    return found


def trained(folder: Path, last: int) -> dict[str, str]:
    """A hash of the weights and the selection of every timestep until this one."""
    files = [
        file for t in range(1, last + 1) for file in sorted((folder / f"t{t:02d}" / "adapter").rglob("*.safetensors"))
    ]
    files += [folder / f"t{t:02d}" / "selection.parquet" for t in range(1, last + 1)]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def with_release(settings: Settings, folder: Path, name: str, rows: range) -> Settings:
    path = folder / f"{name}.json"
    path.write_text(json.dumps([said(i) for i in rows]))
    stream = settings["stream"]
    return settings | {"stream": stream | {"releases": [*stream["releases"], {"name": name, "path": str(path)}]}}


def with_evaluation(settings: Settings, folder: Path, rows: list[dict[str, Any]]) -> Settings:
    path = folder / "later.json"
    path.write_text(json.dumps(rows))
    one = {"name": "later", "path": str(path), "skill": "later", "metric": "exact", "max_new_tokens": 4}
    stream = settings["stream"]
    return settings | {"stream": stream | {"evaluations": [*stream["evaluations"], one]}}


def with_rows_gone(settings: Settings, path: Path, gone: list[str]) -> Settings:
    """The rows of a release without those of these ids, in its own file."""
    rows = (
        json.loads(path.read_text())
        if not path.with_suffix(".all").is_file()
        else json.loads(path.with_suffix(".all").read_text())
    )
    path.with_suffix(".all").write_text(json.dumps(rows))
    path.write_text(json.dumps([row for row in rows if f"{path.stem}/{row['id']}" not in gone]))
    return settings


def states(found: Plan) -> dict[str, set[str]]:
    """By state, the results that are not kept."""
    by: dict[str, set[str]] = {}
    for name, one in found.verdicts.items():
        if one.state != "kept":
            by.setdefault(one.state, set()).add(name)
    return by


@pytest.fixture
def life(finished: Path, tmp_path: Path) -> Path:
    """A finished run, in another folder than it was made in."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_what_changes_no_result_makes_nothing_anew(settings: Settings, life: Path) -> None:
    other = settings | {
        "name": "renamed",
        "resources": settings["resources"] | {"actors": 2, "cpus_per_actor": 0.3},
        "scoring": settings["scoring"] | {"batches_per_file": 3},
        "evaluation": settings["evaluation"] | {"batches_per_file": 2},
        "training": settings["training"]
        | {"workers": 2, "zero_stage": 0, "micro_batch_size": 2, "checkpoint_every": 7},
        "max_bad_share": 0.5,
        "estimate": {"scored_per_second": 1},
    }
    assert states(plan(told(other, life))) == {}


@pytest.mark.parametrize(
    ("change", "reason", "anew"),
    [
        ({"training": {"learning_rate": 0.02}}, "training.learning_rate 0.01 → 0.02", {"t01/adapter", "t02/adapter"}),
        ({"strategy": {"budget": 11}}, "strategy.budget 12 → 11", {"t01/selection.parquet", "t02/selection.parquet"}),
        ({"clustering": {"k_grid": [2]}}, "clustering.k_grid [2, 3, 4, 5] → [2]", {"t01/clusters.parquet"}),
    ],
    ids=["learning rate", "budget", "clusters"],
)
def test_a_changed_setting_says_what_it_would_make_anew(
    settings: Settings, life: Path, change: dict[str, dict[str, Any]], reason: str, anew: set[str]
) -> None:
    section, values = next(iter(change.items()))
    found = plan(told(settings | {section: settings[section] | values}, life))
    assert anew <= set(found.superseding)
    first = min(found.superseding)
    assert found.superseding[min(anew)] == (reason,), first
    assert not any(name.startswith(("t00", "releases", "exam")) for name in found.superseding)
    later = {name: why for name, why in found.superseding.items() if name.startswith("t02/") and reason not in why}
    assert all("is made anew" in line for why in later.values() for line in why)


def test_a_row_that_is_gone_is_counted(settings: Settings, life: Path, tmp_path: Path) -> None:
    stream = settings["stream"]
    rows = json.loads(Path(stream["releases"][2]["path"]).read_text())
    shorter = tmp_path / Path(stream["releases"][2]["path"]).name
    shorter.write_text(json.dumps(rows[1:]))
    images = str(Path(stream["releases"][2]["path"]).parent)
    last = stream["releases"][2] | {"path": str(shorter), "images": stream["releases"][2].get("images", images)}
    changed = settings | {"stream": stream | {"releases": [*stream["releases"][:2], last]}}
    found = plan(told(changed, life))
    [name] = [name for name in found.superseding if name.startswith("releases/")]
    assert f"{shorter}: 16 → 15 rows" in found.superseding[name]


@pytest.mark.usefixtures("ray_cluster")
def test_a_life(settings: Settings, life: Path, tmp_path: Path) -> None:
    before = trained(life, 2)

    grown = with_release(settings, tmp_path, "third", range(300, 330))
    found = go(told(grown, life))
    assert {name.split("/")[0] for name in found.verdicts if found.verdicts[name].state != "kept"} == {
        "releases",
        "t03",
    }
    assert before.items() <= trained(life, 3).items()
    before = trained(life, 3)

    asked = [said(i) for i in (901, 902, 903)]
    asked.append(next(said(i) for i in range(1000) if f"third/{i}" in open_run(life).selection(3).index))
    examined = with_evaluation(grown, tmp_path, asked)
    found = go(told(examined, life))
    assert states(found) == {
        "to do": {"exam/later@t04.parquet"},
        "extended": {f"t{t:02d}/{name}" for t in range(4) for name in ("generations.parquet", "evaluation.json")},
    }
    assert trained(life, 3) == before
    assert list(open_run(life).accuracy.columns) == ["colour", "sum", "later"]
    assert open_run(life).config["stream"]["evaluations"][-1]["since"] == 4

    metric = examined | {
        "stream": examined["stream"]
        | {
            "evaluations": [
                one | ({"metric": "contains"} if one["name"] == "later" else {})
                for one in examined["stream"]["evaluations"]
            ]
        }
    }
    answers = {t: (life / f"t{t:02d}/generations.parquet").read_bytes() for t in range(4)}
    found = go(told(metric, life))
    assert states(found) == {"extended": {f"t{t:02d}/evaluation.json" for t in range(4)}}
    assert answers == {t: (life / f"t{t:02d}/generations.parquet").read_bytes() for t in range(4)}

    fourth = with_release(metric, tmp_path, "fourth", range(400, 430)) | {
        "from": {4: {"training.learning_rate": 0.003}}
    }
    found = go(told(fourth, life), until="t04/selection.parquet")
    assert not (life / "t04" / "adapter").exists()
    found = go(told(fourth, life))
    assert set(states(found)) == {"to do"}
    assert trained(life, 3) == before
    history = json.loads((life / "t04" / "adapter" / "training.json").read_text())
    assert max(history["rates"]) <= 0.003

    other = tmp_path / "forked"
    write_config(fork(life, 3, other, ["strategy.budget=6"]), other)
    found = go(read(other / "config.yaml", []))
    assert {name.split("/")[0] for names in states(found).values() for name in names} == {"t04"}
    assert trained(other, 3) == before
    assert len(open_run(other).selection(4)) == 6
    assert len(open_run(life).selection(4)) == 12
    assert os.stat(other / "t03/selection.parquet").st_ino == os.stat(life / "t03/selection.parquet").st_ino

    gone = tmp_path / "withdrawn.txt"
    taken = [name for name in open_run(life).selection(3).index if name.startswith("third/")][:2]
    gone.write_text(f"id: {taken[0]} # a licence\n")
    lighter = with_rows_gone(fourth, tmp_path / "third.json", taken[:1]) | {"pool": {"withdrawn": str(gone)}}
    assert states(plan(told(lighter, life))) == {}, "a file that lost what is withdrawn alone is the same release"
    assert states(plan(told(with_rows_gone(fourth, tmp_path / "third.json", taken), life)))["made anew"]
    fifth = with_release(
        with_rows_gone(lighter, tmp_path / "third.json", taken[:1]), tmp_path, "fifth", range(500, 520)
    )
    before = trained(life, 4)
    found = go(told(fifth, life))
    assert {name.split("/")[0] for names in states(found).values() for name in names} == {"releases", "t05"}
    assert trained(life, 4) == before
    assert taken[0] not in set(pq.read_table(life / "t05/pool.parquet")["id"].to_pylist())
    assert taken[0] in "".join(section for section in (life / "report.html").read_text().split("withdrawn since")[1:])
    Path(fifth["stream"]["releases"][3]["path"]).write_text(json.dumps([said(i) for i in range(300, 330)]))

    again = tmp_path / "again"
    go(read(life / "config.yaml", [f"output={again}"]))
    assert trained(again, 5) == trained(life, 5), "config.yaml alone makes the same run"


@pytest.mark.usefixtures("ray_cluster")
def test_what_is_made_anew_is_kept_beside_it_and_from_a_timestep_on_it_is_a_setting(
    settings: Settings, life: Path
) -> None:
    before = trained(life, 2)
    changed = settings | {"training": settings["training"] | {"learning_rate": 0.02}}
    config = told(changed, life, at=2)
    assert config.from_ == {2: {"training.learning_rate": 0.02}}
    found = go(config)
    assert all(name.startswith("t02/") for name in found.superseding)
    assert trained(life, 1).items() <= before.items()
    [kept] = (life / "superseded").iterdir()
    assert trained(kept, 2) == before
    old = open_run(kept)
    assert old.finished
    assert list(old.selection(2).index) == list(open_run(life).selection(2).index)
    assert states(plan(told(changed, life))) == {}, "the same command goes on, with what was written down"
