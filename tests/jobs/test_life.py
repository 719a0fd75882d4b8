"""A run over years: releases, evaluation sets and settings come and go, and what was trained before stays as it was."""

import hashlib
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from liit.command import app
from liit.engine.comparison.cells import Cell, run_cell
from liit.engine.lasting.continuing import continued
from liit.engine.lasting.until import named
from liit.engine.lifelong import run, walk
from liit.engine.main import begin
from liit.engine.plan import plan
from liit.engine.run.files import read_json
from liit.engine.run.planning import Plan
from liit.engine.run.progress import log
from liit.engine.run.reading import open_run
from liit.engine.run.store import Reached, Store
from liit.engine.settings.config import Config
from liit.engine.settings.settling import settle
from tests.killed import killed_everywhere
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


def commands(page: str) -> set[str]:
    """What a page of the guide tells to type, without the remarks after it."""
    blocks = re.findall(r"^```bash\n(.*?)^```", page, flags=re.M | re.S)
    return {line.split(" #")[0].strip() for block in blocks for line in block.splitlines()}


def test_a_release_more_is_added_and_one_that_is_moved_or_put_between_changes_the_past(
    settings: Settings, life: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, words, pairs = settings["stream"]["releases"]
    more = with_release(settings, tmp_path, "more", range(300, 310))["stream"]["releases"][-1]

    def of(*releases: Settings) -> Plan:
        return plan(told(settings | {"stream": settings["stream"] | {"releases": list(releases)}}, life))

    assert not of(base, words, pairs, more).superseding
    moved, between = of(base, pairs, words), of(base, more, words, pairs)
    assert moved.verdicts["releases/01-words.parquet"].state == "set aside"
    for found in (moved, between):
        assert found.blocking
        assert {"t01/pool.parquet", "t01/adapter", "t02/adapter"} <= set(found.superseding)
        assert not any(name.startswith("t00") for name in found.superseding)
    (tmp_path / "moved.yaml").write_text(
        yaml.safe_dump(settings | {"stream": settings["stream"] | {"releases": [base, pairs, words]}})
    )
    before = {path: path.stat().st_mtime_ns for path in life.rglob("*.parquet")}
    monkeypatch.setattr(log, "handlers", [])
    done = CliRunner().invoke(app, ["run", str(tmp_path / "moved.yaml"), "--output", str(life)])
    assert (done.exit_code, "nothing was started" in done.output) == (2, True), done.output
    assert before == {path: path.stat().st_mtime_ns for path in life.rglob("*.parquet")}


def test_settings_from_a_timestep_on_that_are_those_of_before_change_nothing_at_all(
    settings: Settings, life: Path
) -> None:
    same = {1: {"training.learning_rate": 0.01, "strategy": "lite-adapt-inf"}, 2: {"training": {"epochs": 2}}}
    plain, equal = (plan(told(settings | more, life)) for more in ({}, {"from": same}))
    assert states(equal) == {}
    assert plain.marks() == equal.marks()
    assert "t02/adapter" in plain.marks()


def test_an_opening_is_a_case_of_settings_from_a_timestep_on(settings: Settings, life: Path) -> None:
    by, name = settings["strategy"], settings["strategy"]["name"]
    opened = settings | {"strategy": by | {"opening": {"name": "random", "timesteps": 1}}}
    later = settings | {"strategy": by | {"name": "random"}, "from": {2: {"strategy": name}}}
    one, other = (plan(told(of, life)) for of in (opened, later))
    assert one.marks() == other.marks()
    assert one.verdicts == other.verdicts
    assert "t01/selection.parquet" in one.superseding


def test_values_of_before_are_kept_wherever_another_metric_s_judging_ends(
    settings: Settings, life: Path, tmp_path: Path
) -> None:
    changed = with_metric(settings, "exam-sum", "f1")

    def judge(folder: Path) -> None:
        config, store = told(changed, folder), Store(folder)
        try:
            begin(config, store)
            walk(config, store)
        finally:
            store.close()

    before = {t: (life / f"t{t:02d}/evaluation.json").read_bytes() for t in range(3)}
    anew = None
    for folder in killed_everywhere(life, tmp_path / "ends", judge, every=40):
        for t, values in before.items():
            name = f"t{t:02d}/evaluation.json"
            places = [path for path in (folder / name, *folder.glob(f"superseded/[!.]*/{name}")) if path.is_file()]
            assert values in [path.read_bytes() for path in places], f"{folder}: {name}"
        judge(folder)
        now = [read_json(folder / f"t{t:02d}/evaluation.json") for t in range(3)]
        anew = anew or now
        assert now == anew


class Person:
    """Somebody at a terminal, who does what the guide says and looks at the folder in between."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.page = commands((ROOT / "docs" / "guide" / "a-run-over-years.md").read_text())
        self.done: set[str] = set()

    def does(self, command: str, made: set[str] | None = None, exit_code: int = 0) -> str:
        """What the command prints. made: where its results lie, if it makes some; the plan has said each of them before."""
        assert command in self.page, "the guide says other commands"
        self.done.add(command)
        (self.folder / "team.yaml").write_text(yaml.safe_dump(self.settings))
        words = shlex.split(command)[1:]
        found = self.planned(words) if words[0] == "run" else Plan(self.folder)
        before = events(found.root)
        done = CliRunner().invoke(app, words)
        log.handlers.clear()  # that of a command ends with it
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


def staying(run: Path, t: int) -> set[str]:
    """Samples that the next timestep's pool has, if nothing is said against them."""
    return {*pool(run, t)} - {*pq.read_table(run / f"t{t:02d}/removed.parquet")["id"].to_pylist()}


def pool(run: Path, t: int) -> list[str]:
    names: list[str] = pq.read_table(run / f"t{t:02d}/pool.parquet")["id"].to_pylist()
    return names


def untold(run: Path, page: str) -> Iterator[str]:
    """Files and folders of a run that the page says nothing of; of one that it tells as a folder, not what is in it."""
    told = {
        re.sub(r"<[^>]+>", "[^/]+", re.escape(name).replace("NN", r"\d\d")) for name in re.findall(r"`([^`]+)`", page)
    }
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        whole = name.removesuffix(".made.json")
        inside = [f"{folder}/" for folder in [whole, *map(str, Path(whole).parents)]]
        if path.is_file() and not any(re.fullmatch(f"(.*/)?{one}", of) for one in told for of in (whole, *inside)):
            yield name


def left_out(run: Path, t: int) -> dict[str, str]:
    """Of the samples that the pool of timestep t could have had: what it does not have, and why."""
    rows = pq.read_table(run / f"t{t:02d}/copies.parquet").to_pylist()
    assert not {row["id"] for row in rows} & set(pool(run, t))
    return {row["id"]: row["reason"] for row in rows}


def takes_back(folder: Path, sample: str, why: str) -> None:
    """A sample is listed as withdrawn, and a file of this life that it came in has it no more."""
    with (folder / "withdrawn.txt").open("a") as lines:
        lines.write(f"id: {sample} # {why}\n")
    release, _, source = sample.partition("/")
    if (file := folder / f"{release}.json").is_file():  # else it is of one that other tests have a part in
        file.write_text(json.dumps([row for row in rows_of(file) if str(row["id"]) != source]))


def events(folder: Path) -> list[dict[str, Any]]:
    log = folder / "stages.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []


@pytest.mark.long
@pytest.mark.usefixtures("ray_cluster")
def test_a_life(settings: Settings, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's page, command by command."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ray.shutdown", lambda: None)  # the tests share one Ray
    monkeypatch.setattr(log, "handlers", [])
    life = Path(shutil.copytree(finished, tmp_path / "runs" / "team"))
    person = Person(tmp_path, settings | {"name": "team"})
    person.does("liit run team.yaml")
    assert "kept" in person.does("liit plan team.yaml")
    before = trained(life, 2)

    person.settings = with_release(person.settings, tmp_path, "third", range(300, 330))
    person.does("liit run team.yaml", {"releases", "t03"})
    assert before.items() <= trained(life, 3).items()
    before = trained(life, 3)

    taught = min(name for name in open_run(life).selection(3).index if name.startswith("third/"))
    stays = min(name for name in staying(life, 3) if name.startswith("third/"))
    numbers = {int(name.partition("/")[2]) for name in (taught, stays)}
    answers_before = [pq.read_table(life / f"t{t:02d}/generations.parquet") for t in range(4)]
    person.settings = with_evaluation(person.settings, tmp_path, [said(i) for i in (901, 902, 903, *sorted(numbers))])
    told_now = person.does("liit run team.yaml", {"exam", "t00", "t01", "t02", "t03"})
    assert trained(life, 3) == before
    assert re.search(rf"t3 was trained on \d questions of later, such as .*{taught}", told_now)
    assert told_now.count("questions have an answer already") == 4
    for t, old in enumerate(answers_before):
        now = pq.read_table(life / f"t{t:02d}/generations.parquet")
        assert now.slice(0, len(old)).equals(old)
        assert len(now) == len(old) + 3 + len(numbers)
    assert list(open_run(life).accuracy.columns) == ["colour", "sum", "later"]
    assert taught in (life / "report.html").read_text().split("asked by later since")[-1]

    answers = {t: (life / f"t{t:02d}/generations.parquet").read_bytes() for t in range(4)}
    person.settings = with_metric(person.settings, "later", "f1")
    person.does("liit run team.yaml", {"exam", "t00", "t01", "t02", "t03"})
    assert answers == {t: (life / f"t{t:02d}/generations.parquet").read_bytes() for t in range(4)}

    said_now = person.does("liit run team.yaml training.learning_rate=0.003", exit_code=2)
    assert "t01/adapter: made anew: training.learning_rate 0.01 → 0.003" in said_now
    assert "`--redo t1`" in said_now

    asked = {f"third/{number}" for number in numbers}
    ever = {name for t in (1, 2, 3) for name in open_run(life).selection(t).index}
    first = min(staying(life, 3) & ever - asked)
    takes_back(tmp_path, first, "the owner asked")
    person.settings |= {"pool": {"withdrawn": str(tmp_path / "withdrawn.txt")}}
    person.does("liit run team.yaml")
    assert trained(life, 3) == before
    assert first in (life / "report.html").read_text().split("withdrawn since", 1)[1]

    person.settings = with_release(person.settings, tmp_path, "fourth", range(400, 430))
    person.does("liit run team.yaml --until t4/selection", {"releases", "t04"})
    assert not (life / "t04" / "adapter").exists()
    assert left_out(life, 4) == {first: "withdrawn"} | dict.fromkeys(asked & staying(life, 3), "contamination")
    assert "t3" in person.does("liit where runs/team third/301")
    person.does("liit run team.yaml from.4.training.learning_rate=0.003", {"t04"})
    assert trained(life, 3) == before
    assert max(json.loads((life / "t04" / "adapter" / "training.json").read_text())["rates"]) <= 0.003

    person.does("liit fork runs/team --at 3 --output runs/smaller strategy.budget=6")
    person.does("liit run runs/smaller/config.yaml", {"t04"})
    other = tmp_path / "runs" / "smaller"
    assert trained(other, 3) == trained(life, 3)
    assert [len(open_run(other).selection(t)) for t in (3, 4)] == [12, 6]
    assert left_out(other, 4) == left_out(life, 4)
    assert os.stat(other / "t03/selection.parquet").st_ino == os.stat(life / "t03/selection.parquet").st_ino

    before = trained(life, 4)
    second = min(name for name in staying(life, 4) if name.startswith("fourth/"))
    rows = rows_of(tmp_path / "fourth.json")
    takes_back(tmp_path, second, "a spoiled source")
    person.settings = with_release(person.settings, tmp_path, "fifth", range(500, 520))
    person.does("liit run team.yaml", {"releases", "t05"})
    assert trained(life, 4) == before
    assert left_out(life, 5) == {second: "withdrawn"}

    person.does("liit model runs/team --output model --merged")
    person.does("liit model runs/team --output adapter --base org/base")
    named = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert named == "org/base"
    person.does("liit evaluate model team.yaml --beside runs/team")
    here, there = (tmp_path / "runs" / step / "answers.parquet" for step in ("team-evaluated/model/t00", "team/t05"))
    assert said_in(here) == said_in(there), "the model that is handed on answers as the run's last one"

    without = rows_of(tmp_path / "fourth.json")
    (tmp_path / "fourth.json").write_text(json.dumps(rows))
    every = {"releases", "exam", *(f"t0{t}" for t in range(6))}
    person.does("liit run runs/team/config.yaml --output runs/again", every)
    assert trained(tmp_path / "runs" / "again", 5) == trained(life, 5), "that file alone makes the same run"

    person.does("liit clean runs/team --withdrawn")
    tables = [pq.read_table(path).to_pylist() for path in life.glob("releases/*.parquet")]
    assert {row["id"] for rows in tables for row in rows if not row["conversation"]} == {first, second}
    person.settings |= {"keep_profiles": None}
    (tmp_path / "fourth.json").write_text(json.dumps(without))
    person.does("liit run team.yaml")
    person.does("liit clean runs/team --dry-run")
    assert trained(life, 4) == before
    reference = (ROOT / "docs" / "reference" / "run-folder.md").read_text()
    assert {name for run in (life, other) for name in untold(run, reference)} == set()
    assert person.done == person.page, "every command of the guide is one of this life"


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


@pytest.mark.usefixtures("ray_cluster")
def test_a_cell_of_other_settings_is_superseded_without_asking(settings: Settings, life: Path, tmp_path: Path) -> None:
    """By what `compare`, `continual`, `recovery` and `tune` run their cells with."""
    cell = Cell("short", 0, Config.model_validate(settings | {"from": {2: {"training.epochs": 1}}}))
    before, folder = trained(life, 2), tmp_path / "cells" / cell.name
    folder.parent.mkdir()
    life.rename(folder)
    run_cell(cell, folder.parent, tmp_path / "results")
    assert trained(folder, 1).items() <= before.items()
    [kept] = (folder / "superseded").iterdir()
    assert trained(kept, 2) == before
    losses = [read_json(root / "t02/adapter/training.json")["losses"] for root in (kept, folder)]
    assert [len(one) for one in losses] == [6, 3]
    assert read_json(tmp_path / "results" / f"{cell.name}.json")["settings"] == cell.settings
