"""The hours that a plan says are of what is to be done: of nothing none, of new questions theirs, of a half-done stage half."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from liit.engine.lasting.continuing import continued
from liit.engine.plan import Timestep, answering, plan, timesteps
from liit.engine.run.files import read_json, read_table, write_json, write_table
from liit.engine.run.progress import duration
from liit.engine.settings.config import Config
from tests.small_run import said

RATES = {"scored_per_second": 1, "trained_per_second": 1, "answered_per_second": 1, "start_seconds": 1000}
QUESTIONS = 21
"""Of the two evaluation sets: at these rates, as many seconds."""


@pytest.fixture
def life(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def planned(settings: dict[str, Any], folder: Path, **stream: Any) -> list[Timestep]:
    told = settings | {"stream": settings["stream"] | stream, "estimate": RATES, "output": str(folder)}
    config = continued(Config.model_validate(told))
    return timesteps(config, plan(config))


def begun_again(result: Path) -> None:
    """What was finished is in the making."""
    note = result.with_name(f"{result.name}.made.json")
    note.rename(result.with_name(f"{result.name}.partial.json"))


def test_a_run_that_has_not_begun_takes_all_of_its_forecast(settings: dict[str, Any], tmp_path: Path) -> None:
    steps = planned(settings, tmp_path / "new")
    assert [one.seconds for one in steps] == [one.forecast.seconds for one in steps]
    assert steps[0].seconds == QUESTIONS + 1000


def test_how_long_answers_take_is_said_at_the_stated_rate_and_at_the_measured_one(
    settings: dict[str, Any], life: Path, tmp_path: Path
) -> None:
    for folder in (tmp_path / "new", life):
        note = folder / "t00/generations.parquet.made.json"
        if note.is_file():
            rows = len(read_table(folder / "t00/generations.parquet"))
            write_json(note, read_json(note) | {"seconds": 4 * rows})
        config = Config.model_validate(settings | {"estimate": RATES, "output": str(folder)})
        found = plan(config)
        (line,) = answering(config, found, timesteps(config, found))
        stated = f"Answers: {QUESTIONS} a timestep, about {duration(QUESTIONS)} at the stated throughput"
        measured = f", about {duration(4 * QUESTIONS)} at the 0.2 a second that t0 was answered with"
        assert line == stated + (measured if folder == life else "")


def test_what_is_kept_and_what_is_judged_again_takes_nothing(settings: dict[str, Any], life: Path) -> None:
    first, second = settings["stream"]["evaluations"]
    for sets in ([first, second], [first | {"metric": "f1"}, second], [second]):
        assert [one.seconds for one in planned(settings, life, evaluations=sets)] == [0, 0, 0]
    assert "evaluate" in {
        stage
        for one in planned(settings, life, evaluations=[first | {"metric": "f1"}, second])
        for stage, state in one.stages.items()
        if state == "extended"
    }


def test_new_questions_take_what_they_take_beside_any_number_that_are_answered(
    settings: dict[str, Any], life: Path, tmp_path: Path
) -> None:
    path = tmp_path / "later.json"
    path.write_text(json.dumps([said(i) for i in range(900, 904)]))
    later = {"name": "later", "path": str(path), "skill": "later", "metric": "exact"}
    sets = settings["stream"]["evaluations"]
    assert [one.seconds for one in planned(settings, life, evaluations=[*sets, later])] == pytest.approx([1004] * 3)
    longer = [sets[0] | {"max_new_tokens": 9}, sets[1]]
    assert [one.seconds for one in planned(settings, life, evaluations=longer)] == pytest.approx([1010] * 3)


def test_a_scoring_that_was_stopped_takes_the_samples_that_have_no_row(settings: dict[str, Any], life: Path) -> None:
    result = life / "t02/profile"
    begun_again(result)
    partial = Path(shutil.move(result, life / "t02/profile.partial"))
    gone = sorted(partial.glob("*.parquet"))[0]
    rows = len(read_table(gone, ["key"]))
    gone.unlink()
    pool = len(read_table(life / "t02/pool.parquet", ["key"]))
    step = planned(settings, life)[2]
    assert step.stages["score"] == "goes on"
    assert step.seconds == pytest.approx(step.forecast.scoring_seconds * rows / pool + 1000)
    note = life / "t02/profile.partial.json"
    write_json(note, read_json(note) | {"fingerprint": "of another model"})
    assert planned(settings, life)[2].seconds == step.forecast.scoring_seconds + 1000


def test_a_training_that_was_stopped_takes_the_steps_after_its_checkpoint(settings: dict[str, Any], life: Path) -> None:
    result = life / "t02/adapter"
    begun_again(result)
    shutil.move(result, life / "t02/adapter.partial")
    work = life / "t02/adapter.work/one"
    work.mkdir(parents=True)
    (work / "progress.jsonl").write_text(json.dumps({"step": 3, "steps": 6}) + "\n")
    step = planned(settings, life)[2]
    assert step.seconds == pytest.approx(step.forecast.training_seconds * 4 / 6 + 1000)


def test_answers_that_were_stopped_take_the_questions_that_have_none(settings: dict[str, Any], life: Path) -> None:
    result = life / "t02/generations.parquet"
    begun_again(result)
    parts = life / "t02/generations.parquet.partial.answers"
    parts.mkdir()
    write_table(parts / "part-0000000.parquet", read_table(result).slice(0, 15))
    result.unlink()
    record = read_json(life / "t02/generations.parquet.partial.json")
    assert planned(settings, life)[2].seconds == 1000 + QUESTIONS - len(read_table(parts / "part-0000000.parquet"))
    write_json(life / "t02/generations.parquet.partial.json", record | {"fingerprint": "of other questions"})
    assert planned(settings, life)[2].seconds == 1000 + QUESTIONS
