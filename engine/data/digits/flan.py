"""Many small, rare tasks about one image, in the manner of Vision-FLAN."""

from collections.abc import Callable

from liit.engine.data.digits.canvas import GRID, Mark, Scene
from liit.engine.data.digits.task import Task, asked, asked_scene, scene_with, scenes_of
from liit.engine.data.digits.thought import PLANET
from liit.engine.data.digits.words import NAMES, POLYGONS, ROMAN


def _about_mark(name: str, question: str, answer: Callable[[Mark], str]) -> Task:
    return Task(f"flan-{name}", scenes_of(2, 4), asked(answer, (question,)))


def _about_scene(name: str, question: str, answer: Callable[[Scene], str]) -> Task:
    return Task(f"flan-{name}", scenes_of(2, 4), asked_scene(answer, (question,)))


def _leftmost(scene: Scene) -> Mark:
    return min(scene, key=lambda mark: (mark.column, mark.row))


RARE = (
    _about_mark("row", "In which row is the {colour} digit?", lambda mark: f"row {mark.row + 1}"),
    _about_mark("column", "In which column is the {colour} digit?", lambda mark: f"column {mark.column + 1}"),
    _about_mark("half", "Is the {digit} up or down?", lambda mark: "up" if mark.row < GRID // 2 else "down"),
    _about_mark("side", "Is the {digit} left or right?", lambda mark: "left" if mark.column < GRID // 2 else "right"),
    _about_mark("word", "Write the {colour} digit as a word.", lambda mark: NAMES[mark.digit]),
    _about_mark("next", "Which number comes after the {colour} digit?", lambda mark: str(mark.digit + 1)),
    _about_scene("leftmost", "Which digit is the most left?", lambda scene: str(_leftmost(scene).digit)),
    _about_scene("first", "Which colour is the first digit?", lambda scene: scene[0].colour),
    _about_scene("last", "Which colour is the last digit?", lambda scene: scene[-1].colour),
    _about_scene("colours", "List the colours.", lambda scene: ", ".join(mark.colour for mark in scene)),
    _about_scene("digits", "List the digits.", lambda scene: ", ".join(str(mark.digit) for mark in scene)),
    _about_scene("parity", "How many digits are even?", lambda scene: str(sum(m.digit % 2 == 0 for m in scene))),
    Task(
        "flan-roman",
        scene_with(1, 9),
        asked(lambda mark: ROMAN[mark.digit], ("What is the {colour} digit in Roman numerals?",), 1, 9),
    ),
    Task(
        "flan-polygon",
        scene_with(3, 9),
        asked(lambda mark: POLYGONS[mark.digit], ("Which polygon has the {colour} digit of sides?",), 3, 9),
    ),
    PLANET,
)
