"""What a comparison says of its cells: against naive formulas on made-up answers."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from liit.engine.answers.accuracy import recovered_share
from liit.engine.comparison.cells import Comparison, cells, kept, read_comparison
from liit.engine.comparison.continual_page import write_benchmarks
from liit.engine.comparison.contrast import Contrast, interval
from liit.engine.comparison.contrast_page import write_contrast
from liit.engine.comparison.contrast_tables import differences, over_seeds
from liit.engine.run.progress import start_logging
from liit.engine.run.rules import RULES
from liit.engine.settings.config import ConfigError

SHIPPED = Path(__file__).parents[3] / "jobs" / "comparisons"
UNKNOWN = "{config: digits.yaml, methods: {a: {strategy: random}}, against: {a: b}}"
SKILLS = {"a1": "a", "a2": "a", "b1": "b"}


def cell(method: str, seed: int, level: float, timesteps: int = 3) -> dict[str, Any]:
    """Answers that are right with probability `level`, the same questions being hard for every method."""
    hard = {name: np.random.default_rng(seed).random(200) for name in SKILLS}
    right = {
        name: [(100.0 * (values < level + 0.1 * t)).tolist() for t in range(timesteps)] for name, values in hard.items()
    }
    of = {skill: [name for name in SKILLS if SKILLS[name] == skill] for skill in ("a", "b")}
    accuracy = [
        {skill: float(np.mean([np.mean(right[name][t]) for name in names])) for skill, names in of.items()}
        for t in range(timesteps)
    ]
    return {
        "method": method,
        "seed": seed,
        "settings": "now",
        "accuracy": accuracy,
        "answers": right,
        "skills": dict(SKILLS),
        "seconds": {"scoring": 3.0, "selection": 1.0, "training": 8.0, "evaluation": 2.0},
        "scored": 10,
        "samples": [{}, {"selection": 4}, {"selection": 5}],
        "parse_failures": [{"a1": 0}, {"a1": 2}],
        "commit": "abc",
        "date": "2026-01-01",
        "hardware": "2 CPU cores",
    }


def contrast(*levels: float) -> Contrast:
    names = ("random", "other", "sequential")
    found = [cell(name, seed, level) for name, level in zip(names, levels, strict=False) for seed in range(3)]
    return Contrast(found, "random", "sequential")


def test_figures_are_those_of_the_matrix_and_costs_are_added_up() -> None:
    figures = contrast(0.3, 0.5, 0.6).figures().set_index(["method", "seed"])
    last = cell("other", 1, 0.5)["accuracy"][-1]
    assert figures.loc[("other", 1), "average_accuracy"] == pytest.approx(np.mean(list(last.values())))
    assert figures.loc[("other", 1), "selecting_over_training"] == 0.5
    assert figures.loc[("other", 1), "trained"] == 9
    best = {skill: np.mean([cell("sequential", s, 0.6)["accuracy"][-1][skill] for s in range(3)]) for skill in "ab"}
    gain = 100 * np.mean([last[skill] / best[skill] for skill in "ab"])
    assert figures.loc[("other", 1), "relative_gain"] == pytest.approx(gain)


def test_without_the_upper_method_there_is_no_relative_gain() -> None:
    two = contrast(0.3, 0.5)
    assert "relative_gain" not in two.figures()
    assert "relative_gain" not in two.differences()


def test_a_real_difference_is_outside_the_interval_of_none() -> None:
    far = contrast(0.3, 0.5, 0.6).differences().set_index("method").loc["other"]
    assert far["average_accuracy"] == pytest.approx(20, abs=4)
    assert 0 < far["average_accuracy_low"] < far["average_accuracy"] < far["average_accuracy_high"]
    same = contrast(0.3, 0.3, 0.6).differences().set_index("method").loc["other"]
    assert same["average_accuracy_low"] == same["average_accuracy"] == same["average_accuracy_high"] == 0


def test_the_interval_is_as_wide_as_theory_says() -> None:
    """Of a difference of means of paired answers: two standard errors, the questions drawn anew for every data set."""
    one = Contrast([cell("random", 0, 0.3), cell("other", 0, 0.5)], "random", "sequential")
    found = one.differences().iloc[0]
    a, b = cell("other", 0, 0.5)["answers"], cell("random", 0, 0.3)["answers"]
    variance = {name: np.var(np.array(a[name][-1]) - np.array(b[name][-1])) / 200 for name in SKILLS}
    error = np.sqrt((variance["a1"] + variance["a2"]) / 16 + variance["b1"] / 4)
    assert found["average_accuracy_high"] - found["average_accuracy_low"] == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_the_page_has_every_method_and_every_skill(tmp_path: Path) -> None:
    results = tmp_path / "mine"
    results.mkdir()
    for one in contrast(0.3, 0.5, 0.6).found:
        (results / f"{one['method']}-s{one['seed']}.json").write_text(json.dumps(one))
    methods: dict[str, dict[str, Any]] = {name: {} for name in ("random", "other", "sequential")}
    current = {f"{name}-s{seed}": "now" for name in methods for seed in range(3)}
    (results / "other-s9.json").write_text(json.dumps({"settings": "before"}))
    write_contrast(
        results,
        tmp_path / "out",
        Comparison(config="digits.yaml", methods=methods),
        current,
        dict.fromkeys(methods, (2, 1)),
    )
    page = (tmp_path / "mine.md").read_text()
    assert all(page.count(f"| {name} | 3 |") >= 3 for name in ("random", "other", "sequential"))
    assert "| a | b |" in page
    assert (tmp_path / "mine.csv").read_text().count("\n") == 10
    over_time = (tmp_path / "mine-skills.svg").read_text()
    assert all(f">{text}<" in over_time for text in ("a", "b", "mean of skills", "other"))
    assert all(f">{text}<" in (tmp_path / "mine.svg").read_text() for text in ("average", "relative gain", "other"))
    assert (tmp_path / "out" / "report.html").is_file()


def test_cells_of_two_rules_are_never_in_one_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = tmp_path / "mine"
    results.mkdir()
    methods: dict[str, dict[str, Any]] = {name: {} for name in ("random", "other", "sequential")}
    current = {f"{name}-s{seed}": "now" for name in methods for seed in range(3)}

    def write(rules: Callable[[str, int], int]) -> list[tuple[str, int]]:
        for one in contrast(0.3, 0.5, 0.6).found:
            number = rules(one["method"], one["seed"])
            (results / f"{one['method']}-s{one['seed']}.json").write_text(json.dumps({**one, "rules": number}))
        comparison = Comparison(config="digits.yaml", methods=methods)
        found = write_contrast(results, tmp_path / "out", comparison, current, dict.fromkeys(methods, (2, 1)))
        assert found is not None
        return [(one["method"], one["seed"]) for one in found.found]

    start_logging()
    assert len(write(lambda method, seed: 1)) == 9
    assert "the tables are of rules 1; since then" in capsys.readouterr().out
    mixed = write(lambda method, seed: RULES - int(method == "other" and seed == 2))
    assert ("other", 2) not in mixed
    assert len(mixed) == 8
    assert f"left out of the tables, as they are of older rules than {RULES}: other-s2" in capsys.readouterr().out


def test_cells_are_methods_times_seeds_and_their_settings_are_all_that_matters() -> None:
    comparison = Comparison(
        config="digits.yaml", methods={"x": {"strategy": "random"}, "y": {"strategy.budget": 9}}, fewer={"y": 1}
    )
    found = cells(comparison, [], [], [])
    assert [one.name for one in found] == ["x-s0", "y-s0", "x-s1", "x-s2"]
    assert found[1].config.strategy.budget == 9
    moved = cells(comparison, ["name=other", "resources.actors=1"], [], [])
    assert [one.settings for one in moved] == [one.settings for one in found]
    assert cells(comparison, ["training.epochs=1"], [], [])[0].settings != found[0].settings
    with pytest.raises(ConfigError, match="z is not in the comparison; it has x, y"):
        cells(comparison, [], ["z"], [])


def test_a_cell_of_other_settings_is_refused(tmp_path: Path) -> None:
    one = cells(Comparison(config="digits.yaml", methods={"x": {"strategy": "random"}}), [], [], [0])[0]
    assert not kept(one, tmp_path)
    (tmp_path / "x-s0.json").write_text(json.dumps({"settings": one.settings, "rules": RULES}))
    assert kept(one, tmp_path)
    for stale in ({}, {"rules": RULES - 1}):
        (tmp_path / "x-s0.json").write_text(json.dumps({"settings": one.settings, **stale}))
        assert not kept(one, tmp_path)
    (tmp_path / "x-s0.json").write_text(json.dumps({"settings": "else", "rules": RULES}))
    with pytest.raises(ConfigError, match=r"x-s0\.json was made from other settings"):
        kept(one, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "is not YAML"), ("seeds: [0]", "config"), ("x: 1", "config"), (UNKNOWN, "against: b is not among")],
)
def test_a_broken_comparison_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"c\.yaml.*{message}"):
        read_comparison(tmp_path / "c.yaml")


def test_the_shipped_comparison_can_be_run() -> None:
    comparison = read_comparison(SHIPPED / "digits.yaml")
    found = cells(comparison, [], [], [])
    assert len(found) == 12 * 3 + 14
    assert len({one.settings for one in found}) == len(found)


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.glob("*.yaml")))
def test_every_shipped_comparison_can_be_run(name: str) -> None:
    comparison = read_comparison(SHIPPED / name)
    assert {one.method for one in cells(comparison, [], [], [])} == set(comparison.methods)


def test_both_benchmarks_stand_on_one_page_by_the_tasks_that_both_teach(tmp_path: Path) -> None:
    other = contrast(0.4, 0.4)
    for one in other.found:  # its base knows one more skill
        one["skills"]["known"] = "k"
        one["answers"]["known"] = [[50.0, 60.0]] * 3
        for row in one["accuracy"]:
            row["k"] = 55.0
    write_benchmarks(tmp_path / "page.md", {"one": ("from here", contrast(0.3, 0.5)), "two": ("from there", other)})
    first, second, both = (tmp_path / "page.md").read_text().split("## ")[1:]
    assert first.startswith("[one](one.md): from here")
    line = next(line for line in first.splitlines() if line.startswith("| other | 3 |"))
    apart = differences(contrast(0.3, 0.5)).iloc[0]
    assert line.endswith(f"| {apart['average']} | {apart['largest drop']} |")
    assert "55.0 ± 0.0 |" in second, "what the base knew has a column of its own"
    low, high = (contrast(level).figures()["average_accuracy"].mean() for level in (0.3, 0.4))
    assert f"| random | 3 | {high - low:+.1f} (" in both


def test_a_skill_is_taught_at_the_same_time_for_all_methods_though_none_is_the_upper_one() -> None:
    found = [cell(name, seed, 0.5) for name in ("random", "other") for seed in range(2)]
    for one, values in zip(found, ([0, 60, 50], [0, 60, 50], [40, 60, 50], [0, 60, 50]), strict=True):
        for row, value in zip(one["accuracy"], values, strict=True):
            row |= {"a": float(value), "b": 0.0}
    figures = Contrast(found, "random", "none").figures()
    # b counts from the start and stays; a from t1, also where a cell of its own would say t0
    assert figures["backward_transfer"].tolist() == pytest.approx([(50 - 60) / 2] * 4)


def test_a_mean_over_fewer_seeds_says_so() -> None:
    figures = pd.DataFrame({"method": ["x", "x", "y", "y"], "seed": [0, 1, 0, 1], "share": [1.0, np.nan, 2.0, 4.0]})
    assert over_seeds(figures, {"share": "share"})["share"].tolist() == ["1.0, 1 of 2 seeds", "3.0 ± 1.4"]


def test_what_is_recovered_is_of_what_was_lost() -> None:
    assert recovered_share(np.array([0.0, 60.0, 20.0, 30.0])) == pytest.approx(25)
    assert recovered_share(np.array([0.0, 60.0, 20.0, 80.0])) == pytest.approx(150)
    assert np.isnan(recovered_share(np.array([0.0, 20.0, 60.0, 30.0])))


def test_recovery_is_a_figure_with_an_interval_where_it_is_asked_for() -> None:
    found = [cell(name, seed, level) for name, level in (("random", 0.3), ("other", 0.6)) for seed in range(3)]
    for one in found:  # lose half of the answers of a at t1
        for name in ("a1", "a2"):
            one["answers"][name][1] = (np.array(one["answers"][name][1]) * (np.arange(200) % 2)).tolist()
        one["accuracy"][1]["a"] = float(np.mean([np.mean(one["answers"][name][1]) for name in ("a1", "a2")]))
    contrast = Contrast(found, "random", "none", "a")
    figures = contrast.figures().set_index(["method", "seed"])
    values = [row["a"] for row in found[0]["accuracy"]]
    assert figures.loc[("random", 0), "recovered"] == pytest.approx(
        100 * (values[2] - values[1]) / (values[0] - values[1])
    )
    row = contrast.differences().iloc[0]
    assert row["recovered_low"] < row["recovered"] < row["recovered_high"]
    for name in ("a1", "a2"):  # seed 0 of random never lost any
        found[0]["answers"][name][1] = found[0]["answers"][name][0]
    found[0]["accuracy"][1]["a"] = found[0]["accuracy"][0]["a"]
    assert differences(contrast)["recovered"].item().endswith(", 2 of 3 seeds")
    assert "seeds" not in differences(contrast)["average"].item()


def test_what_comes_back_below_every_right_answer_is_seen_in_the_losses() -> None:
    found = [cell(name, seed, 0.0) for name in ("random", "other") for seed in range(3)]
    rng = np.random.default_rng(0)
    for one in found:  # of 3 nats above the best, `other` brings back 2 and random 1
        back = 2 if one["method"] == "other" else 1
        curve = {"a1": [1.0, 4.0, 4.0 - back], "a2": [2.0, 5.0, 5.0 - back], "b1": [1.0, 1.0, 1.0]}
        one["losses"] = {
            name: [(mean + (noise := rng.normal(0, 1, 200)) - noise.mean()).tolist() for mean in curve[name]]
            for name in SKILLS
        }
    contrast = Contrast(found, "random", "none", "a")
    figures = contrast.figures().groupby("method")["recovered_loss"].mean()
    assert figures["other"] == pytest.approx(200 / 3)
    assert figures["random"] == pytest.approx(100 / 3)
    row = contrast.differences().iloc[0]
    assert row["recovered_loss"] == pytest.approx(100 / 3)
    assert row["recovered_loss_low"] < row["recovered_loss"] < row["recovered_loss_high"]
    del found[0]["losses"]
    assert "recovered_loss" not in contrast.figures(), "cells with losses beside cells without have none in common"


def test_a_share_that_is_not_defined_is_left_out_of_the_interval() -> None:
    rng = np.random.default_rng(0)
    apart, resampled, drawn = rng.normal(5, 1, 3), rng.normal(5, 1, (1000, 3)), rng.integers(3, size=(1000, 3))
    whole = interval(apart, resampled, drawn)
    holes = np.where(rng.random((1000, 3)) < 0.1, np.nan, resampled)
    assert interval(apart, holes, drawn) == pytest.approx(whole, abs=0.2)
    value, low, high = interval(np.append(apart[:2], np.nan), resampled, drawn)
    assert low < value == apart[:2].mean() < high
    assert np.isnan(interval(np.full(3, np.nan), resampled, drawn)).all()
