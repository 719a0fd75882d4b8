"""The gate goes by evaluations and rules alone: what fell is left aside, and judged is what it was to replace."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from liit.engine.evaluation.gate import Fall, Verdict, fallen, told, verdicts_of
from liit.engine.run.fingerprints import fingerprint
from liit.engine.run.reading import Run
from liit.engine.settings.config import Config, ConfigError, read
from liit.engine.settings.settling import settle
from liit.engine.settings.training import MACHINE, Gate, Training

EVERY = (Gate(drop=10),)


def standing(models: Sequence[object], values: Sequence[Mapping[str, float]], rules: Sequence[Gate]) -> list[Verdict]:
    """A verdict for each timestep, from the value of each skill; models that are equal are one model."""
    verdicts: list[Verdict] = []
    for t, (model, after) in enumerate(zip(models, values, strict=True)):
        before = verdicts[-1].stands if verdicts else 0
        falls = fallen(values[before], after, rules)
        verdicts.append(Verdict.after(t, before, falls, same=model == models[before]))
    return verdicts


def stands(values: Sequence[float], rules: Sequence[Gate] = EVERY, models: Sequence[object] | None = None) -> list[int]:
    found = standing(models or range(len(values)), [{"sum": value} for value in values], rules)
    assert [one.timestep for one in found] == list(range(len(values)))
    return [one.stands for one in found]


def test_a_timestep_is_judged_by_the_model_that_it_was_to_replace() -> None:
    assert stands([70, 80, 60, 78]) == [0, 1, 1, 3]
    assert stands([70, 59, 61, 50]) == [0, 0, 2, 2], "t3 is 9 below t1, which does not stand, and 11 below t2"
    assert stands([70, 10, 10, 10]) == [0, 0, 0, 0]


def test_a_fall_of_just_the_bound_stands_and_without_rules_everything_does() -> None:
    assert stands([83 + 1 / 3, 73 + 1 / 3]) == [0, 1]
    assert stands([83 + 1 / 3, 73.33]) == [0, 0]
    assert stands([90, 0, 0], rules=()) == [0, 1, 2]
    assert stands([50, 50, 49.9], rules=(Gate(drop=0),)) == [0, 1, 1]


def test_where_nothing_is_trained_the_model_that_stood_stands() -> None:
    assert stands([70, 80, 80, 60, 80], models="abbcb") == [0, 1, 1, 1, 1]
    assert stands([70, 70], models="aa") == [0, 0]


def test_a_skill_s_own_rules_go_before_those_of_every_skill() -> None:
    rules = (Gate(drop=5), Gate(skill="sum", drop=30), Gate(skill="sum", drop=20))
    before = {"sum": 80.0, "colour": 80.0, "pair": 80.0}
    found = fallen(before, {"sum": 59.0, "colour": 76.0, "pair": 74.0}, rules)
    assert found == (Fall("sum", 80.0, 59.0, 20.0), Fall("pair", 80.0, 74.0, 5.0))
    assert fallen(before, {"sum": 61.0, "colour": 75.0, "pair": 99.0}, rules) == ()
    assert fallen(before, {"sum": 0.0, "colour": 70.0, "pair": 0.0}, rules[1:]) == (Fall("sum", 80.0, 0.0, 20.0),)
    with pytest.raises(
        ValueError, match=r"training\.gate: skill chart has no value to be judged by; skills with one: sum"
    ):
        fallen({"sum": 1.0}, {"sum": 1.0}, (Gate(skill="chart", drop=1),))


def oracle(rows: Sequence[Mapping[str, float]], drop: float) -> list[int]:
    """Written out: the last timestep before, itself standing, that every skill is within the bound of; else that one stays."""
    found = [0]
    for row in rows[1:]:
        good = all(row[skill] >= rows[found[-1]][skill] - drop for skill in row)
        found.append(len(found) if good else found[-1])
    return found


def test_any_matrix_is_judged_as_written_out_and_the_past_does_not_depend_on_what_comes() -> None:
    chance = random.Random(0)
    for _ in range(200):
        rows = [{skill: float(chance.randrange(100)) for skill in "abc"} for _ in range(6)]
        rule = Gate(drop=chance.randrange(60))
        found = [one.stands for one in standing(range(6), rows, [rule])]
        assert found == oracle(rows, rule.drop)
        assert found[:4] == [one.stands for one in standing(range(4), rows[:4], [rule])]


def test_a_verdict_is_one_line_and_results_tell_what_fell() -> None:
    values = [{"sum": 70.0, "colour": 50.0}, {"sum": 59.0, "colour": 39.5}, {"sum": 75.0, "colour": 50.0}]
    found = standing("abc", values, EVERY)
    assert str(found[1]) == (
        "t1: sum fell from 70.0 (t0) to 59.0, more than 10 points, colour fell from 50.0 (t0) to 39.5, more than 10 points, "
        "so training.gate leaves its adapter aside; the model of t0 stands"
    )
    falls = [{"timestep": 1, "against": 0, "skill": "sum", "before": 70.0, "after": 59.0, "drop": 10.0}]
    assert told(found)["stands"] == [0, 0, 2]
    assert told(found)["falls"][:1] == falls
    assert json.loads(json.dumps(told(found))) == told(found)


def test_verdicts_are_read_back_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"stream": {"releases": [{"name": name} for name in "abc"]}}))
    made = [Verdict(0, 0, 0), Verdict(1, 0, 0, (Fall("sum", 70, 50, 10),)), Verdict(2, 2, 0)]
    for one in made:
        step = tmp_path / f"t{one.timestep:02d}"
        step.mkdir()
        (step / "pool.parquet").touch()
        if one.timestep:
            (step / "gate.json").write_text(json.dumps(one.record()))
    assert verdicts_of(Run(tmp_path)) == made[1:]


def test_rules_are_one_or_several_and_no_input_of_a_training() -> None:
    alone = Training.model_validate({"gate": {"drop": 10}})
    assert alone.gate == EVERY == Training.model_validate({"gate": [{"skill": "*", "drop": 10}]}).gate
    assert Training.model_validate({"gate": None}).gate == Training().gate == ()
    assert read(None, ["training.gate={skill: sum, drop: 3}"]).training.gate == (Gate(skill="sum", drop=3),)
    assert fingerprint(alone.taught_by()) == fingerprint(Training().taught_by())
    assert fingerprint(Training(epochs=2).taught_by()) != fingerprint(Training().taught_by())
    own = set(Training().model_dump()) - {"gate", *MACHINE}
    assert set(Training().taught_by()) == own - {"averaging", "quantised"}, (
        "where neither is asked for, it is as before that there was"
    )
    assert set(Training.model_validate({"averaging": {}, "quantised": 4}).taught_by()) == own
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Gate(drop=-1)


@pytest.mark.parametrize(
    ("evaluations", "training", "says"),
    [
        ([], {"gate": {"drop": 1}}, r"training\.gate goes by evaluations, and the stream has none"),
        (
            ["sum"],
            {"gate": {"skill": "chart", "drop": 1}},
            r"training\.gate: no evaluation set is of skill chart; there are sum",
        ),
        (
            ["sum"],
            {"gate": {"drop": 1}, "experts": {}},
            r"training\.gate goes back to an earlier adapter; training\.experts",
        ),
    ],
)
def test_a_gate_that_cannot_judge_is_refused(
    tmp_path: Path, evaluations: list[str], training: dict[str, object], says: str
) -> None:
    sets = [{"name": f"exam-{skill}", "path": "x.json", "skill": skill} for skill in evaluations]
    stream = {"kind": "files", "releases": [{"name": n, "path": "x.json"} for n in "ab"], "evaluations": sets}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"stream": stream, "training": training}))
    with pytest.raises(ConfigError, match=says):
        settle([str(tmp_path / "c.yaml")], None)


def test_the_embedded_stream_has_evaluations() -> None:
    assert isinstance(settle(["training.gate={drop: 5}"], None), Config)
