"""Tasks about one image: questions, captions, boxes, positions, detection and keypoints."""

import numpy as np

from liit.engine.data.digits.canvas import CELL, GRID, Mark, Scene
from liit.engine.data.digits.task import Scenes, Task, Turns, asked, asked_scene, pick, pick_mark, scenes_of
from liit.engine.data.digits.words import NAMES, enumeration


def box(mark: Mark) -> str:
    """x1, y1, x2, y2 in fractions of the image."""
    left, top = mark.column / GRID, mark.row / GRID
    return f"[{left:.2f}, {top:.2f}, {left + 1 / GRID:.2f}, {top + 1 / GRID:.2f}]"


def centre(mark: Mark) -> str:
    """x, y in pixels."""
    return f"({mark.column * CELL + CELL // 2}, {mark.row * CELL + CELL // 2})"


def place(mark: Mark) -> str:
    return f"row {mark.row + 1}, column {mark.column + 1}"


def listed(scene: Scene) -> str:
    return enumeration([f"a {mark.colour} {mark.digit}" for mark in scene])


def described(scene: Scene) -> str:
    """A long caption: a sentence for every mark."""
    sentences = [f"The image shows {NAMES[len(scene)]} handwritten digits on a black canvas."]
    for position, mark in zip(("first", "second", "third", "fourth"), scene, strict=False):
        sentences.append(f"The {position} digit is a {mark.colour} {mark.digit} in {place(mark)}.")
    return " ".join(sentences)


def _converse(rng: np.random.Generator, scenes: Scenes) -> Turns:
    """Two or three turns, each about a mark of its own."""
    turns: Turns = []
    for task in (DIGIT, COLOUR, BOX) if rng.integers(2) else (COUNT, COLOUR):
        turns.extend(task.ask(rng, scenes))
    return turns


def _listed_marks(rng: np.random.Generator, scenes: Scenes) -> Turns:
    """Several marks in an order that the question gives; the answer says each name again, and then what was asked."""
    marks = [scenes[0][int(i)] for i in rng.permutation(len(scenes[0]))]
    by_colour, want_box = pick(rng, ((True, False), (True, True), (False, False), (False, True)))
    names = [mark.colour if by_colour else str(mark.digit) for mark in marks]
    values = [box(mark) if want_box else str(mark.digit) if by_colour else mark.colour for mark in marks]
    wanted = "box" if want_box else "digit" if by_colour else "colour"
    answer = "; ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
    return [(f"List the {wanted} of each: {', '.join(names)}", answer)]


def _detect(rng: np.random.Generator, scenes: Scenes) -> Turns:
    found = "; ".join(f"{mark.digit} {mark.column * CELL} {mark.row * CELL} {CELL} {CELL}" for mark in scenes[0])
    return [(pick(rng, ("Detect all digits.", "Detect every object in the image.")), found)]


def _keypoints(rng: np.random.Generator, scenes: Scenes) -> Turns:
    mark = pick_mark(rng, scenes[0])
    asked_for = pick(rng, ("Where is the keypoint of the {} digit?", "Mark the centre of the {} digit."))
    return [(asked_for.format(mark.colour), centre(mark))]


DIGIT = Task(
    "vqa-digit",
    scenes_of(2, 4),
    asked(lambda mark: str(mark.digit), ("Which digit is {colour}?", "What is the {colour} digit?")),
)
COLOUR = Task(
    "vqa-colour",
    scenes_of(2, 4),
    asked(lambda mark: mark.colour, ("What colour is the {digit}?", "Which colour does the {digit} have?")),
)
COUNT = Task(
    "vqa-count",
    scenes_of(1, 5),
    asked_scene(lambda scene: str(len(scene)), ("How many digits are there?", "Count the digits.")),
)
BOX = Task(
    "grounding-colour",
    scenes_of(2, 4),
    asked(box, ("Give the box of the {colour} digit.", "Where is the {colour} digit? Answer with a box.")),
)
BOX_OF_DIGIT = Task(
    "grounding-digit",
    scenes_of(2, 4),
    asked(box, ("Give the box of the {digit}.", "Where is the {digit}? Answer with a box.")),
)
CAPTION = Task(
    "caption",
    scenes_of(1, 4),
    asked_scene(lambda scene: listed(scene).capitalize() + ".", ("Describe the image.", "What is in the image?")),
)
LONG_CAPTION = Task(
    "long-caption",
    scenes_of(2, 4),
    asked_scene(described, ("Describe the image in detail.", "Write a long caption for the image.")),
)
LIST = Task("grounded-list", scenes_of(2, 4), _listed_marks)
CONVERSATION = Task("conversation", scenes_of(2, 4), _converse)
CLASSIFICATION = Task(
    "classification",
    scenes_of(1, 1),
    asked_scene(lambda scene: str(scene[0].digit), ("Classify the image.", "Which class is the image?")),
)
GENERATION = Task(
    "generation",
    scenes_of(2, 3),
    asked_scene(
        lambda scene: f"I see {listed(scene)} and nothing else.",
        ("Write a sentence about the image.", "Say something about the image."),
    ),
)
POSITION = Task(
    "position",
    scenes_of(2, 4),
    asked(place, ("Where is the {colour} digit?", "In which row and column is the {colour} digit?")),
)
DETECTION = Task("detection", scenes_of(1, 4), _detect)
KEYPOINTS = Task("keypoints", scenes_of(2, 4), _keypoints)
