"""The figures of a stream against a 3 x 2 matrix worked out by hand, and their formulas written naively."""

import itertools

import numpy as np
import pandas as pd
import pytest

from liit.engine.answers import accuracy

# Timesteps t0, t1, t2; skills seeing and boxes.
BY_HAND = [{"seeing": 80.0, "boxes": 50.0}, {"seeing": 60.0, "boxes": 0.0}, {"seeing": 90.0, "boxes": 40.0}]


def random_matrix(seed: int, timesteps: int = 6, skills: int = 4) -> np.ndarray:
    accuracy_TS = np.random.default_rng(seed).integers(0, 101, (timesteps, skills)).astype(np.float64)
    accuracy_TS[1:3, 0] = 0  # 0/0 and a rise from 0
    return accuracy_TS


def test_every_figure_of_the_matrix_worked_out_by_hand() -> None:
    found = accuracy.summary(
        accuracy.accuracy_table(BY_HAND), {"seeing": 90.0, "boxes": 80.0}, {"seeing": 0, "boxes": 2}
    )
    assert found == {
        "average_accuracy": pytest.approx((90 + 40) / 2),
        "relative_gain": pytest.approx((100 * 90 / 90 + 100 * 40 / 80) / 2),
        "forgetting_rate": pytest.approx(100 * (20 / 80 + 0 + 50 / 50 + 0) / 4),
        "max_forgetting": pytest.approx(((90 - 90) + (50 - 40)) / 2),
        "backward_transfer": pytest.approx(90 - 80),  # seeing only: boxes is taught at the end
        "forward_transfer": pytest.approx(0 - 50),  # boxes only: what t1 did to it before it was taught at t2
        "gain_over_base": pytest.approx(((90 - 80) + (40 - 50)) / 2),
        "taught": {"seeing": 0, "boxes": 2},
    }


@pytest.mark.parametrize("seed", range(5))
def test_forgetting_rate_is_the_formula_written_out(seed: int) -> None:
    accuracy_TS = random_matrix(seed)
    total = 0.0
    for before, after in itertools.pairwise(accuracy_TS):
        for old, new in zip(before, after, strict=True):
            total += abs(min(new - old, 0)) / old if old >= 1 else 0.0
    assert accuracy.forgetting_rate(accuracy_TS) == pytest.approx(100 * total / (4 * 5))


def test_forgetting_rate_is_0_for_a_model_that_never_drops_and_100_for_one_that_drops_to_nothing() -> None:
    rising_TS = np.sort(random_matrix(0), axis=0)
    assert accuracy.forgetting_rate(rising_TS) == 0
    assert accuracy.forgetting_rate(np.array([[40.0, 90.0], [0.0, 0.0]])) == 100
    assert accuracy.forgetting_rate(np.zeros((3, 2))) == 0


def test_a_drop_from_less_than_a_point_is_measured_against_one_point() -> None:
    assert accuracy.forgetting_rate(np.array([[0.25], [0.0]])) == pytest.approx(25)


def test_relative_gain_is_100_at_the_bounds_and_scales_with_accuracy() -> None:
    accuracy_TS = random_matrix(1) + 1
    assert accuracy.relative_gain(accuracy_TS, accuracy_TS[-1]) == pytest.approx(100)
    assert accuracy.relative_gain(accuracy_TS / 2, accuracy_TS[-1]) == pytest.approx(50)


@pytest.mark.parametrize("seed", range(5))
def test_figures_do_not_depend_on_the_order_of_skills(seed: int) -> None:
    table = pd.DataFrame(random_matrix(seed), columns=["a", "b", "c", "d"])
    shuffled = table[["c", "a", "d", "b"]]
    bounds = {"a": 90.0, "b": 80.0, "c": 70.0, "d": 60.0}
    one, other = accuracy.summary(table, bounds), accuracy.summary(shuffled, bounds)
    assert one.pop("taught") == other.pop("taught")
    assert one == pytest.approx(other)


def test_transfer_is_what_lopez_paz_and_ranzato_define_when_each_timestep_teaches_one_skill() -> None:
    accuracy_TS = random_matrix(2, timesteps=5, skills=4)  # skill i is taught at timestep i + 1
    taught_S = np.arange(4) + 1
    backward = sum(accuracy_TS[4, i] - accuracy_TS[i + 1, i] for i in range(3)) / 3
    forward = sum(accuracy_TS[i, i] - accuracy_TS[0, i] for i in range(1, 4)) / 3
    assert accuracy.backward_transfer(accuracy_TS, taught_S) == pytest.approx(backward)
    assert accuracy.forward_transfer(accuracy_TS, taught_S) == pytest.approx(forward)


def test_without_labels_a_skill_counts_as_taught_when_it_has_half_of_its_best() -> None:
    table = accuracy.accuracy_table(
        [
            {"early": 10, "late": 5, "base": 90, "flat": 50},
            {"early": 80, "late": 15, "base": 70, "flat": 50},
            {"early": 85, "late": 75, "base": 60, "flat": 50},
            {"early": 60, "late": 70, "base": 55, "flat": 50},
        ]
    )
    found = accuracy.summary(table)
    assert found["taught"] == {"early": 1, "late": 2, "base": 0, "flat": 0}
    assert found["forward_transfer"] == pytest.approx(15 - 5)
    assert found["backward_transfer"] == pytest.approx(((60 - 80) + (70 - 75) + (55 - 90) + 0) / 4)
    assert accuracy.summary(table, taught={"late": 1})["taught"] == {"early": 1, "late": 1, "base": 0, "flat": 0}
    lost = accuracy.accuracy_table([{"lost": 98, "new": 0}, {"lost": 0, "new": 3}, {"lost": 14, "new": 60}])
    assert accuracy.summary(lost)["taught"] == {"lost": 0, "new": 2}, "what comes back a little was not taught then"


def test_a_skill_whose_release_is_still_to_come_counts_forward_but_not_backward() -> None:
    table = accuracy.accuracy_table([{"a": 10, "b": 20}, {"a": 30, "b": 25}])
    found = accuracy.summary(table, taught={"a": 4, "b": 0})
    assert found["forward_transfer"] == pytest.approx(30 - 10)
    assert found["backward_transfer"] == pytest.approx(25 - 20)


def test_figures_that_are_not_defined_are_none_for_the_base_model_alone() -> None:
    found = accuracy.summary(accuracy.accuracy_table(BY_HAND[:1]))
    assert found["average_accuracy"] == 65
    assert (found["forgetting_rate"], found["gain_over_base"]) == (0, 0)
    undefined = ("relative_gain", "max_forgetting", "backward_transfer", "forward_transfer")
    assert [found[name] for name in undefined] == [None] * 4


@pytest.mark.parametrize(
    ("timesteps", "message"),
    [
        ([], "at least one timestep and one skill"),
        ([{}], "at least one timestep and one skill"),
        ([{"a": 1.0}, {"b": 1.0}], r"timestep 1 has skills \['b'\], timestep 0 has \['a'\]"),
        ([{"a": 1001.0}], "timestep 0, skill a: 1001.0 is not a percentage"),
        ([{"a": -1.0}], "skill a: -1.0 is not a percentage"),
        ([{"a": float("nan")}], "skill a: nan is not a percentage"),
    ],
)
def test_a_matrix_with_holes_or_other_units_is_refused(timesteps: list[dict[str, float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        accuracy.accuracy_table(timesteps)


@pytest.mark.parametrize(
    ("bounds", "taught", "message"),
    [
        ({"seeing": 90.0}, {}, "upper_bounds: skill 'boxes' needs a value above 0, got None"),
        ({"seeing": 90.0, "boxes": 0.0}, {}, "upper_bounds: skill 'boxes' needs a value above 0, got 0.0"),
        ({"seeing": 90.0, "boxes": 1.0, "box": 1.0}, {}, "upper_bounds: no skill 'box' was evaluated"),
        ({}, {"box": 1}, "taught: no skill 'box' was evaluated"),
        ({}, {"boxes": -1}, "taught: skill 'boxes' at timestep -1"),
    ],
)
def test_bounds_and_timesteps_must_fit_the_skills(
    bounds: dict[str, float], taught: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        accuracy.summary(accuracy.accuracy_table(BY_HAND), bounds, taught)


def test_the_drop_table_of_the_matrix_worked_out_by_hand() -> None:
    found = accuracy.drop_table(accuracy.accuracy_table(BY_HAND))
    assert found.index.tolist() == ["seeing", "boxes"]
    assert found.loc["boxes"].to_dict() == {
        "base": 50.0,
        "best": 50.0,
        "best_at": "t0",
        "final": 40.0,
        "gain_over_base": -10.0,
        "drop_from_best": 10.0,
        "worst_step": -50.0,
        "worst_step_at": "t1",
        "forgetting_rate": 50.0,
    }
    assert found["forgetting_rate"].mean() == accuracy.summary(accuracy.accuracy_table(BY_HAND))["forgetting_rate"]


def test_the_drop_table_of_the_base_model_alone_has_no_drops() -> None:
    found = accuracy.drop_table(accuracy.accuracy_table(BY_HAND[:1]))
    assert (found[["worst_step", "drop_from_best", "forgetting_rate"]] == 0).all(axis=None)
