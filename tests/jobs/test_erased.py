"""A run whose withdrawn pictures and texts are questions too: they are erased there, and no table of its past changes."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from liit.command import app
from liit.engine.data.copies import text_hash
from liit.engine.lasting.continuing import continued
from liit.engine.lasting.erasing import erase, withdrawn_of
from liit.engine.lifelong import run
from liit.engine.main import begin
from liit.engine.plan import plan
from liit.engine.run.files import read_json, read_table
from liit.engine.run.reading import open_run
from liit.engine.run.store import Store
from liit.engine.settings.config import Config

pytestmark = pytest.mark.usefixtures("ray_cluster")


def rows(path: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_table(path).to_pylist()}


def test_a_withdrawn_picture_or_text_is_in_no_question_and_no_answer_and_its_marks_stay(
    finished: Path, settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("liit.engine.run.progress.log.handlers", [])  # those of a command end with it
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    colours, sums = (rows(folder / f"exam/exam-{skill}.parquet") for skill in ("colour", "sum"))
    picture = Path(colours["exam-colour/seen-100"]["images"][0]["path"])
    words = "exam-sum/103"
    lines = [
        f"image: {hashlib.sha256(picture.read_bytes()).hexdigest()} # not ours",
        f"content: {text_hash(sums[words]['conversation']).hex()}",
    ]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    (folder / "config.yaml").write_text(yaml.safe_dump(config | {"pool": config["pool"] | {"withdrawals": {3: lines}}}))
    shown = {name for name, row in colours.items() if row["images"][0]["path"] == str(picture)}
    assert 1 < len(shown) < len(colours)
    before = {path: rows(path) for path in folder.rglob("*.parquet") if "id" in read_table(path).column_names}
    accuracy = open_run(folder).accuracy

    gone = withdrawn_of(folder)
    assert {name for name in gone if name.startswith("exam-")} == shown | {words}
    said = CliRunner().invoke(app, ["clean", str(folder), "--withdrawn", "--dry-run"]).output
    assert f"and {len(shown) + 1} questions of evaluation sets" in said
    done = erase(folder)
    assert {path.name for path in done} >= {"exam-colour.parquet", "generations.parquet", "answers.parquet"}
    for path, was in before.items():
        if path.parent.name == "images":
            continue
        now = rows(path)
        assert now.keys() == was.keys()
        for name, row in now.items():
            held: dict[str, Any] = {
                key: row[key] for key in ("conversation", "images", "answer", "judgement") if key in row
            }
            if name in gone:
                assert not any(held.values()), (path, name)
                others = [key for key in row if key not in (*held, "references")]
                assert [row[key] for key in others] == [was[name][key] for key in others], "its marks stay"
            else:
                assert row == was[name]
    assert open_run(folder).accuracy.equals(accuracy)
    assert (withdrawn_of(folder), erase(folder)) == (gone, {})

    first, second = settings["stream"]["evaluations"]
    other = {**second, "name": "again", "skill": "again"}
    stream = settings["stream"] | {"evaluations": [first | {"metric": "f1"}, second, other]}
    told = continued(Config.model_validate(settings | {"stream": stream, "output": str(folder)}))
    found, store = plan(told), Store(folder)
    assert not found.superseding
    begin(told, store, found)
    run(told, store)
    store.close()
    values = read_json(folder / "t01/evaluation.json")
    counted = {name: data["n"] for skill in values.values() for name, data in skill["datasets"].items()}
    assert counted == {"exam-colour": len(colours) - len(shown), "exam-sum": 10, "again": 10}, (
        "judged by another metric without what was erased; what stands is as it was"
    )
