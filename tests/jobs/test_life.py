"""A run over years: releases, evaluation sets and settings come and go, and what was trained before stays as it was."""

import hashlib
import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from liit.command import app
from liit.engine.lasting.continuing import continued
from liit.engine.lasting.until import named
from liit.engine.lifelong import run
from liit.engine.main import begin
from liit.engine.plan import plan
from liit.engine.run.planning import Plan
from liit.engine.run.reading import open_run
from liit.engine.run.store import Reached, Store
from liit.engine.settings.config import Config
from liit.engine.settings.settling import settle
from tests.small_run import ROOT, said

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
    assert made == wanted or not found.verdicts, "what the plan says is what is done; of an empty folder it is all"
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


def with_metric(settings: Settings, name: str, metric: str) -> Settings:
    sets = [one | ({"metric": metric} if one["name"] == name else {}) for one in settings["stream"]["evaluations"]]
    return settings | {"stream": settings["stream"] | {"evaluations": sets}}


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    return rows


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
    (life / "config.yaml").unlink()  # as where cells of a comparison share what one has made
    found = plan(told(settings, life))
    assert found.verdicts
    assert states(found) == {}


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


def test_sets_that_are_fewer_other_or_in_another_order_make_no_pool_anew(settings: Settings, life: Path) -> None:
    stream, sets = settings["stream"], settings["stream"]["evaluations"]
    for now in (sets[1:], sets[:1], sets[::-1], [sets[0] | {"limit": 4}, sets[1]], []):
        found = plan(told(settings | {"stream": stream | {"evaluations": now}}, life))
        assert not found.superseding, now
    assert plan(told(settings | {"stream": stream | {"evaluations": sets[::-1]}}, life)).verdicts


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


class Person:
    """Somebody at a terminal, who does what the guide says and looks at the folder in between."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.page = (ROOT / "docs" / "guide" / "a-run-over-years.md").read_text()

    def does(self, command: str, made: set[str] | None = None, exit_code: int = 0) -> str:
        """What the command prints. made: where its results lie, if it makes some; the plan has said each of them before."""
        assert command in self.page, "the guide says other commands"
        (self.folder / "team.yaml").write_text(yaml.safe_dump(self.settings))
        words = shlex.split(command)[1:]
        found = self.planned(words) if words[0] == "run" else Plan(self.folder)
        before = events(found.root)
        done = CliRunner().invoke(app, words)
        assert done.exit_code == exit_code, done.output
        new = {one["result"] for one in events(found.root)[len(before) :] if one["event"] == "finished"}
        if exit_code == 0 and found.verdicts:  # of an empty folder, all is to be done
            assert new == {name for name, one in found.verdicts.items() if one.state not in ("kept", "set aside")}
        assert {name.partition("/")[0] for name in new} == (made or set())
        return done.output

    def planned(self, words: list[str]) -> Plan:
        options = words[1:]
        until = options[options.index("--until") + 1] if "--until" in options else None
        output = options[options.index("--output") + 1] if "--output" in options else None
        arguments = [word for word in options if word not in ("--until", until, "--output", output)]
        return plan(continued(settle(arguments, output)), named(until) if until else None)


def said_in(answers: Path) -> dict[str, str]:
    table = pq.read_table(answers, columns=["id", "answer"])
    return dict(zip(table["id"].to_pylist(), table["answer"].to_pylist(), strict=True))


def events(folder: Path) -> list[dict[str, Any]]:
    log = folder / "stages.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


@pytest.mark.usefixtures("ray_cluster")
def test_a_life(settings: Settings, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's page, command by command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ray.shutdown", lambda: None)  # the tests share one Ray
    monkeypatch.setattr("liit.engine.run.progress.log.handlers", [])  # those of a command end with it
    life = Path(shutil.copytree(finished, tmp_path / "runs" / "team"))
    person = Person(tmp_path, settings | {"name": "team"})
    person.does("liit run team.yaml")
    assert "kept" in person.does("liit plan team.yaml")
    before = trained(life, 2)

    person.settings = with_release(person.settings, tmp_path, "third", range(300, 330))
    person.does("liit run team.yaml", {"releases", "t03"})
    assert before.items() <= trained(life, 3).items()
    before = trained(life, 3)

    taught = sorted(name for name in open_run(life).selection(3).index if name.startswith("third/"))
    asked = [said(i) for i in (901, 902, 903, int(taught[0].partition("/")[2]))]
    person.settings = with_evaluation(person.settings, tmp_path, asked)
    person.does("liit run team.yaml", {"exam", "t00", "t01", "t02", "t03"})
    assert trained(life, 3) == before
    assert list(open_run(life).accuracy.columns) == ["colour", "sum", "later"]
    assert taught[0] in (life / "report.html").read_text().split("asked by later since")[-1]

    answers = {t: (life / f"t{t:02d}/generations.parquet").read_bytes() for t in range(4)}
    person.settings = with_metric(person.settings, "later", "f1")
    person.does("liit run team.yaml", {"exam", "t00", "t01", "t02", "t03"})
    assert answers == {t: (life / f"t{t:02d}/generations.parquet").read_bytes() for t in range(4)}

    said_now = person.does("liit run team.yaml training.learning_rate=0.003", exit_code=2)
    assert "t01/adapter: made anew: training.learning_rate 0.01 → 0.003" in said_now
    assert "`--redo t1`" in said_now

    person.settings = with_release(person.settings, tmp_path, "fourth", range(400, 430))
    person.does("liit run team.yaml --until t4/selection", {"releases", "t04"})
    assert not (life / "t04" / "adapter").exists()
    person.does("liit run team.yaml from.4.training.learning_rate=0.003", {"t04"})
    assert trained(life, 3) == before
    assert max(json.loads((life / "t04" / "adapter" / "training.json").read_text())["rates"]) <= 0.003

    before = trained(life, 4)
    rows = rows_of(tmp_path / "third.json")
    (tmp_path / "withdrawn.txt").write_text(f"id: {taught[0]} # the owner asked\n")
    person.settings |= {"pool": {"withdrawn": str(tmp_path / "withdrawn.txt")}}
    person.settings = with_release(person.settings, tmp_path, "fifth", range(500, 520))
    (tmp_path / "third.json").write_text(json.dumps([row for row in rows if f"third/{row['id']}" != taught[0]]))
    person.does("liit run team.yaml", {"releases", "t05"})
    assert trained(life, 4) == before
    assert taught[0] not in set(pq.read_table(life / "t05/pool.parquet")["id"].to_pylist())
    assert taught[0] in (life / "report.html").read_text().split("withdrawn since", 1)[1]

    person.does("liit model runs/team --output model --merged")
    person.does("liit model runs/team --output adapter --base org/base")
    assert (
        json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"] == "org/base"
    )
    person.does("liit evaluate model team.yaml --beside runs/team")
    here, there = (tmp_path / "runs" / step / "answers.parquet" for step in ("team-evaluated/model/t00", "team/t05"))
    assert said_in(here) == said_in(there), "the model that is handed on answers as the run's last one"

    person.does("liit fork runs/team --at 3 --output runs/smaller strategy.budget=6")
    person.does("liit run runs/smaller/config.yaml", {"t04", "t05"})
    other = tmp_path / "runs" / "smaller"
    assert trained(other, 3) == trained(life, 3)
    assert [len(open_run(other).selection(t)) for t in (3, 4, 5)] == [12, 6, 6]
    assert os.stat(other / "t03/selection.parquet").st_ino == os.stat(life / "t03/selection.parquet").st_ino

    (tmp_path / "third.json").write_text(json.dumps(rows))
    person.does(
        "liit run runs/team/config.yaml --output runs/again", {"releases", "exam", *(f"t0{t}" for t in range(6))}
    )
    assert trained(tmp_path / "runs" / "again", 5) == trained(life, 5), "that file alone makes the same run"

    person.does("liit clean runs/team --withdrawn")
    assert not pq.read_table(life / "releases/03-third.parquet", filters=[("id", "=", taught[0])])["conversation"][
        0
    ].as_py()
    person.settings |= {"keep_profiles": None}
    (tmp_path / "third.json").write_text(json.dumps([row for row in rows if f"third/{row['id']}" != taught[0]]))
    person.does("liit run team.yaml")
    person.does("liit clean runs/team --dry-run")
    assert trained(life, 4) == before


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
