"""Metrics of one's own: found by module:function or entry point, and refused where they are none."""

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from liit.engine.answers.metrics import check_metric, check_references, score
from liit.engine.settings.streams import EvaluationSet


def close(answer: str, references: list[str], tolerance: int = 0) -> float | None:
    """How many references are as long as the answer, give or take; a reference may not be empty."""
    if "" in references:
        raise ValueError("reference '' has no length to compare")
    if not answer:
        return None
    return sum(abs(len(answer) - len(reference)) <= tolerance for reference in references) / len(references)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> str:
    module: Any = ModuleType("metrics_of_mine")
    module.close, module.percent, module.text, module.number = close, lambda *_: 50, lambda *_: "x", 3
    monkeypatch.setitem(sys.modules, "metrics_of_mine", module)
    return "metrics_of_mine:close"


def test_a_function_is_a_metric_with_its_own_options(place: str) -> None:
    answers, references = ["abc", "abcd", ""], [["xyz", "xyzw"], ["x"], ["x"]]
    found = score(place, answers, references)
    assert (found.values, found.parse_failures) == ([50, 0, 0], 1)
    assert score(place, answers, references, {"tolerance": 3}).values == [100, 100, 0]
    one = EvaluationSet(name="mine", path="x", skill="s", metric=place, options={"tolerance": 3})
    assert one.options == {"tolerance": 3}


def test_an_installed_metric_has_a_name(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"unknown metric 'as-long'; known are exact, .* and module:function"):
        EvaluationSet(name="mine", path="x", skill="s", metric="as-long")
    about = tmp_path / "metrics_of_mine-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: metrics-of-mine\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(f"[liit.metrics]\nas-long = {place}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert EvaluationSet(name="mine", path="x", skill="s", metric="as-long").metric == "as-long"
    assert score("as-long", ["abc"], [["xyz"]]).value == 100


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("metrics_of_mine:nothing", "is not module:function of an importable module"),
        ("no_such_module:close", "is not module:function of an importable module"),
        ("metrics_of_mine:number", "is not a function"),
        ("metrics_of_mine:percent", "returned 50.0; it must return 0 to 1"),
        ("metrics_of_mine:text", "returned str; it must return a number or None"),
    ],
)
def test_what_is_no_metric_is_refused(place: str, metric: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        score(metric, ["a"], [["b"]])


def test_a_metric_that_is_not_there_is_found_before_anything_is_read(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_metric(place, {})
    with pytest.raises(ValueError, match="no_such_module:close"):
        check_metric("no_such_module:close", {})
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    judge = {"base_url": "http://127.0.0.1/v1", "model": "m", "key_env": "JUDGE_KEY"}
    with pytest.raises(ValueError, match="environment variable JUDGE_KEY"):
        check_metric("judge", judge)
    monkeypatch.setenv("JUDGE_KEY", "secret")
    check_metric("judge", judge)


def test_a_reference_that_it_cannot_compare_with_and_an_option_that_it_does_not_take_are_found_early(
    place: str,
) -> None:
    check_references(place, ["a"])
    with pytest.raises(ValueError, match="has no length to compare"):
        check_references(place, [""])
    with pytest.raises(ValueError, match="unexpected keyword argument 'tolerence'"):
        check_references(place, ["a"], {"tolerence": 3})
