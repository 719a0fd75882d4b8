"""Tasks that need more than sight: knowledge about the digits, reasoning over them, and Chinese."""

import numpy as np

from liit.engine.data.digits.canvas import Mark, Scene
from liit.engine.data.digits.task import Scenes, Task, Turns, asked, asked_scene, pick, scene_with, scenes_of
from liit.engine.data.digits.words import CHINESE_COLOURS, ELEMENTS, KINDS, MONTHS, NUMERALS, PLANETS


def _sum(rng: np.random.Generator, scenes: Scenes) -> Turns:
    first, second = (scenes[0][int(i)] for i in rng.permutation(len(scenes[0]))[:2])
    question = pick(rng, ("What is the {} digit plus the {} digit?", "Add the {} digit and the {} digit."))
    return [(question.format(first.colour, second.colour), str(first.digit + second.digit))]


def _chinese_one(rng: np.random.Generator, scenes: Scenes) -> Turns:
    """The digit of a colour, the colour of a digit, or the number of digits; at least eight characters each."""
    mark = pick(rng, scenes[0])
    colour, numeral = CHINESE_COLOURS[mark.colour], NUMERALS[mark.digit]
    return [
        pick(
            rng,
            (
                (f"{colour}色的数字是几？", f"{colour}色的数字是{numeral}。"),
                (f"数字{numeral}是什么颜色？", f"数字{numeral}是{colour}色的。"),
                ("图里有几个数字？", f"图里一共有{NUMERALS[len(scenes[0])]}个数字。"),
            ),
        )
    ]


def chinese_list(scene: Scene) -> str:
    parts = [f"{CHINESE_COLOURS[mark.colour]}色的{NUMERALS[mark.digit]}" for mark in scene]
    return "图里有" + "和".join(filter(None, ("、".join(parts[:-1]), parts[-1]))) + "。"


def _extreme(scene: Scene, largest: bool) -> Mark:
    return (max if largest else min)(scene, key=lambda mark: mark.digit)


KIND = Task(
    "knowledge-kind",
    scenes_of(2, 4),
    asked(lambda mark: KINDS[mark.digit], ("What kind of number is the {colour} digit?",)),
)
MONTH = Task(
    "knowledge-month",
    scene_with(1, 9),
    asked(lambda mark: MONTHS[mark.digit], ("Which month has the number of the {colour} digit?",), 1, 9),
)
ELEMENT = Task(
    "knowledge-element",
    scene_with(1, 9),
    asked(lambda mark: ELEMENTS[mark.digit], ("Which element has the number of the {colour} digit?",), 1, 9),
)
PLANET = Task(
    "knowledge-planet",
    scene_with(1, 8),
    asked(lambda mark: PLANETS[mark.digit], ("Which planet has the number of the {colour} digit?",), 1, 8),
)
SUM = Task("reasoning-sum", scenes_of(2, 3), _sum)
LARGEST = Task(
    "reasoning-largest",
    scenes_of(3, 5),
    asked_scene(
        lambda scene: _extreme(scene, True).colour,
        ("Which colour is the largest digit?", "What colour has the largest digit of all?"),
    ),
)
SMALLEST = Task(
    "reasoning-smallest",
    scenes_of(3, 5),
    asked_scene(
        lambda scene: _extreme(scene, False).colour,
        ("Which colour is the smallest digit?", "What colour has the smallest digit of all?"),
    ),
)
CHINESE_VQA = Task("chinese-vqa", scenes_of(2, 4), _chinese_one)
CHINESE_CAPTION = Task(
    "chinese-caption", scenes_of(2, 3), asked_scene(chinese_list, ("请描述这张图片。", "图里有什么？"))
)
