"""Answers of the digit tasks against the scenes they are about, read independently."""

import itertools
import re

import numpy as np
import pytest

from liit.engine.data.digits import language, several, sight, thought
from liit.engine.data.digits.canvas import CELL, GRID, Scene
from liit.engine.data.digits.evaluation import SETS
from liit.engine.data.digits.releases import RELEASES
from liit.engine.data.digits.task import Scenes, Task

TASKS = {task.name: task for release in RELEASES for task, _ in release.tasks}


def drawn(task: Task, seed: int) -> tuple[Scenes, str, str]:
    rng = np.random.default_rng(seed)
    scenes = task.compose(rng, "training")
    question, answer = task.ask(rng, scenes)[-1]
    return scenes, question, answer


def coloured(question: str, scene: Scene) -> list[int]:
    """Digits of the colours that a question names, in its order."""
    digits = {mark.colour: mark.digit for mark in scene}
    return [digits[colour] for colour in re.findall("|".join(digits), question)]


@pytest.mark.parametrize("seed", range(30))
def test_a_box_covers_the_cell_of_the_digit_that_it_is_asked_for(seed: int) -> None:
    scenes, question, answer = drawn(sight.BOX, seed)
    left, top, right, bottom = (float(number) * GRID for number in re.findall(r"[\d.]+", answer))
    (digit,) = coloured(question, scenes[0])
    (mark,) = (mark for mark in scenes[0] if mark.digit == digit)
    assert (mark.column, mark.row, mark.column + 1, mark.row + 1) == (left, top, right, bottom)


@pytest.mark.parametrize("seed", range(30))
def test_a_keypoint_lies_in_the_middle_of_its_cell(seed: int) -> None:
    scenes, question, answer = drawn(sight.KEYPOINTS, seed)
    x, y = map(int, re.findall(r"\d+", answer))
    (digit,) = coloured(question, scenes[0])
    (mark,) = (mark for mark in scenes[0] if mark.digit == digit)
    assert ((x - CELL / 2) / CELL, (y - CELL / 2) / CELL) == (mark.column, mark.row)


@pytest.mark.parametrize("seed", range(30))
def test_sums_and_extremes_are_those_of_the_scene(seed: int) -> None:
    scenes, question, answer = drawn(thought.SUM, seed)
    assert int(answer) == sum(coloured(question, scenes[0]))
    scenes, _, answer = drawn(thought.LARGEST, seed)
    assert coloured(answer, scenes[0]) == [max(mark.digit for mark in scenes[0])]
    scenes, _, answer = drawn(thought.SMALLEST, seed)
    assert coloured(answer, scenes[0]) == [min(mark.digit for mark in scenes[0])]


@pytest.mark.parametrize("seed", range(30))
def test_answers_about_several_images_name_the_right_ones(seed: int) -> None:
    scenes, question, answer = drawn(several.WHICH, seed)
    assert question.count("<image>") == len(scenes)
    wanted = int(re.findall(r"\d+", question)[-1])
    assert [wanted in {mark.digit for mark in scene} for scene in scenes].index(True) + 1 == int(answer.split()[1])
    scenes, question, answer = drawn(several.EACH, seed)
    assert list(map(int, answer.split(", "))) == [coloured(question, scene)[0] for scene in scenes]
    scenes, question, answer = drawn(several.TOTAL, seed)
    assert int(answer) == sum(coloured(question, scene)[0] for scene in scenes)


@pytest.mark.parametrize("seed", range(30))
def test_the_frames_of_a_video_show_one_digit_that_moves_by_a_cell_each(seed: int) -> None:
    scenes, _, answer = drawn(several.VIDEO, seed)
    assert len({(mark.crop, mark.colour) for (mark,) in scenes}) == 1
    steps = {
        (after[0].column - before[0].column, after[0].row - before[0].row)
        for before, after in itertools.pairwise(scenes)
    }
    names = {(1, 0): "right", (-1, 0): "left", (0, 1): "down", (0, -1): "up"}
    assert [f"moves {names[step]}." in answer for step in steps] == [True]


@pytest.mark.parametrize("seed", range(60))
def test_ordering_gives_the_digits_in_the_order_asked_for(seed: int) -> None:
    _, question, answer = drawn(language.ORDER, seed)
    digits = list(map(int, re.findall(r"\d", question)))
    order = {"small to": sorted(digits), "large to": sorted(digits)[::-1], "backwards": digits[::-1]}
    (expected,) = (order[words] for words in order if words in question)
    assert list(map(int, answer.split(", "))) == expected


def test_knowledge_is_true() -> None:
    for digit, kind in enumerate(language.FACTS[0][1].values()):
        assert ("even" in kind) == (digit % 2 == 0)
        divisors = [n for n in range(1, digit + 1) if digit and digit % n == 0]
        assert ("prime" in kind) == (len(divisors) == 2)
        assert ("composite" in kind) == (len(divisors) > 2)


@pytest.mark.parametrize("name", TASKS)
def test_a_task_draws_everything_from_its_generator(name: str) -> None:
    assert drawn(TASKS[name], 5) == drawn(TASKS[name], 5)
    assert len({drawn(TASKS[name], seed)[1:] for seed in range(20)}) > 1


def test_short_answers_leave_no_room_for_chance() -> None:
    """The most frequent answer of a set of a new skill is right at most half the time."""
    for one in SETS:
        if one.skill in ("knowledge", "multi-image", "reasoning"):
            for task in one.tasks:
                answers = [drawn(task, seed)[2] for seed in range(200)]
                assert max(map(answers.count, set(answers))) <= 100
