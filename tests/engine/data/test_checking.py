"""`liit check` says of each set what a run would make of it, by the run's own code, and loads no weights."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from liit.engine.data import checking
from liit.engine.data.checking import check
from liit.engine.data.ingest import Checker
from liit.engine.models import loading
from liit.engine.settings.config import Config
from liit.jobs.check import app
from tests.engine.data.published import publish, turns


def chat(name: object, *texts: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "conversations": turns(*texts), **more}


@pytest.fixture
def values(tiny_llava: str, tmp_path: Path) -> dict[str, Any]:
    """Two releases and an evaluation set: what is published, copies of it, and of a sample that is asked in an exam."""
    folder = tmp_path / "data"
    copies = [
        chat("copy", "2 + 1?", "3"),
        chat("leak", "Which  capital?", "paris"),
        chat("own", "New?", "Yes.", task="t"),
    ]
    copies += [chat(f"more{n}", f"New {n}?", "Yes.", task="") for n in range(30)]
    exam = [
        {"id": "e", "conversations": turns("Which capital?"), "references": ["Paris"]},
        chat("f", "How many?", "none"),
    ]
    return {
        "name": "small",
        "output": str(tmp_path / "run"),
        "model": {"path": tiny_llava, "max_length": 200},
        "max_bad_share": 0.6,
        "stream": {
            "kind": "files",
            "releases": [
                {"name": "first", "path": str(publish(folder, "first.json"))},
                {"name": "second", "path": str(publish(folder, "second.json", copies))},
            ],
            "evaluations": [
                {"name": "exam", "path": str(publish(folder, "exam.json", exam)), "skill": "s", "metric": "exact"},
            ],
        },
    }


def told(values: dict[str, Any], first: int | None = None) -> tuple[bool, dict[str, list[str]]]:
    """Whether a run would go on, and what was said of each set."""
    lines: list[str] = []
    sound = check(Config.model_validate(values), first, lines.append)
    sets: dict[str, list[str]] = {}
    for line in lines:
        if not line.startswith(" "):
            name = re.split(r" (?=first|second|exam)", line, maxsplit=1)[1].split(":")[0]
        sets.setdefault(name, []).append(line.strip())
    return sound, sets


def test_every_set_is_told_of_with_its_figures(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("weights were loaded"))
    sound, sets = told(values)
    assert sound
    assert list(sets) == ["exam", "first", "second"]
    head = sets["first"][0]
    assert head.startswith("release first: 31 rows, 24 samples; 12 with pictures, 1.0 each; 2.1 turns; tokens ")
    assert head.endswith("at most; 1 JSON file, chat by conversations")
    assert "leading assistant turn dropped: 1 (first/l)" in sets["first"]
    assert "not read: model (11)" in sets["first"]
    assert "refused 1 (first/x): tool use: the row has 'tools'; conversations with tools are not read" in sets["first"]
    assert any(line.startswith("refused 2 (first/torn0, first/torn1): damaged image") for line in sets["first"])
    assert "answer taken from the references: 1 (exam/e)" in sets["exam"]


def test_tokens_are_those_of_the_runs_own_encoding(values: dict[str, Any], tiny_llava: str) -> None:
    _, sets = told(values)
    checker = Checker(tiny_llava, None, 200)
    texts = [("2 + 1?", "3"), ("Which  capital?", "paris"), ("New?", "Yes.")] + [
        (f"New {n}?", "Yes.") for n in range(30)
    ]
    samples = [
        {
            "id": "",
            "key": 0,
            "images": [],
            "conversation": [{"role": "user", "text": q}, {"role": "assistant", "text": a}],
        }
        for q, a in texts
    ]
    lengths = sorted(checker(samples)["length"].to_pylist())
    middle, most = lengths[(len(lengths) + 1) // 2 - 1], lengths[int(np.ceil(0.95 * len(lengths))) - 1]
    assert f"tokens {middle} in the median, {most} at 95 %, {lengths[-1]} at most" in sets["second"][0]


def test_copies_and_contamination_and_nearly_empty_columns_are_named(values: dict[str, Any]) -> None:
    _, sets = told(values)
    assert "exact copies of other samples: 1 (second/copy)" in sets["second"]
    assert "contamination, copies of evaluation samples: 1 (second/leak)" in sets["second"]
    assert "nearly empty: task, 1 of 33 rows" in sets["second"]


def test_an_example_shows_what_is_learned_in_brackets(values: dict[str, Any]) -> None:
    _, sets = told(values)
    shown = "\n".join(sets["first"]).partition("as the model sees it")[2]
    assert shown.endswith("USER: <image>×4\nWhat, 0?ASSISTANT: ⟦0</s>⟧")


def test_control_characters_of_data_never_reach_a_terminal(values: dict[str, Any], tmp_path: Path) -> None:
    publish(tmp_path / "data", "second.json", [chat(1, "\x1b[31mred\x07?", "yes")])
    _, sets = told(values)
    assert not any("\x1b" in line or "\x07" in line for line in sets["second"])


def test_so_many_rows_of_each_set_are_looked_at(values: dict[str, Any]) -> None:
    sound, sets = told(values, 5)
    assert sound
    assert sets["first"][0].startswith("release first: 5 rows, 5 samples;")
    assert sets["exam"][0].startswith("evaluation set exam: 2 rows, 2 samples;")


def test_bad_shares_are_judged_before_any_picture_is_decoded(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "open_image", lambda _: pytest.fail("a picture was decoded"))
    monkeypatch.setattr(checking, "_checked", lambda *_: pytest.fail("samples were encoded"))
    values["stream"]["evaluations"], values["max_bad_share"] = [], 0.05
    values["stream"]["releases"] = values["stream"]["releases"][:1]
    sound, sets = told(values)
    assert not sound
    assert sets["first"][0] == "release first: 31 rows, 26 of them samples"
    assert sets["first"][-1].startswith(
        "a run would stop here: first: 3 of 31 samples are bad, more than max_bad_share=0.05"
    )


def test_a_set_that_cannot_be_read_does_not_hide_the_others(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "data" / "first.json").write_text('[{"id": 1, "messages"')
    sound, sets = told(values)
    assert not sound
    assert sets["first"] == [line for line in sets["first"] if "first: a run would stop here: " in line]
    assert "exact copies" not in "".join(sets["second"])
    assert sets["second"][0].startswith("release second: 33 rows, 33 samples")


def test_what_rays_tasks_find_is_what_is_found_here(
    ray_cluster: None, values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = told(values)
    monkeypatch.setattr(checking, "HERE", 20)
    values["resources"] = {"num_cpus": 2, "cpus_per_actor": 0.5}
    assert told(values) == here
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def called(values: dict[str, Any], tmp_path: Path, *more: str) -> tuple[int, str]:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    done = CliRunner().invoke(app, [str(path), *more])
    return done.exit_code, done.output


def test_the_exit_code_says_whether_a_run_would_go_on(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output = called(values, tmp_path, "--sample", "3")
    assert (code, "release second: 3 rows, 3 samples" in output) == (0, True)
    code, output = called(values, tmp_path, "max_bad_share=0.05")
    assert (code, "a run would stop here" in output) == (1, True)
    code, output = called(values, tmp_path, "strategy.budgett=5")
    assert (code, "strategy.budgett: no such key" in output) == (2, True)
    values["stream"]["releases"][0]["path"] = str(tmp_path / "absent.json")
    code, output = called(values, tmp_path)
    assert (code, "release first: " in output, "Traceback" in output) == (2, True, False)
    assert not (tmp_path / "run").exists()
