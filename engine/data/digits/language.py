"""Text-only tasks: ordering, arithmetic, facts about the digits; and, for the base model alone, Chinese.

The language model that a vision-language model starts from knows such things from its pre-training. `PRETRAINING` is
that: every word that an answer of the stream will ever need, without any image. A skill learned later is then a new
composition of what is known, not a new word.
"""

from collections.abc import Callable, Sequence

import numpy as np

from liit.engine.data.digits.canvas import CELL, COLOURS, GRID, Mark, Scene, scatter
from liit.engine.data.digits.sight import box, centre, described, listed, place
from liit.engine.data.digits.task import Scenes, Task, Turns, no_scene, pick
from liit.engine.data.digits.thought import chinese_list
from liit.engine.data.digits.words import (
    CHINESE_COLOURS,
    ELEMENTS,
    KINDS,
    MONTHS,
    NAMES,
    NUMERALS,
    PLANETS,
    POLYGONS,
    ROMAN,
    enumeration,
)

FACTS: tuple[tuple[str, dict[int, str]], ...] = (
    ("What kind of number is {}?", dict(enumerate(KINDS))),
    ("Which month has the number {}?", MONTHS),
    ("Which element has the number {}?", ELEMENTS),
    ("Which planet has the number {}?", PLANETS),
    ("What is {} in Roman numerals?", ROMAN),
    ("Which polygon has {} sides?", POLYGONS),
    ("Write {} as a word.", dict(enumerate(NAMES))),
)


def _digits(rng: np.random.Generator, fewest: int, most: int) -> list[int]:
    return [int(digit) for digit in rng.permutation(10)[: int(rng.integers(fewest, most + 1))]]


def _written(digits: Sequence[int]) -> str:
    return ", ".join(map(str, digits))


def _order(rng: np.random.Generator, scenes: Scenes) -> Turns:
    digits = _digits(rng, 3, 4)
    question, answer = pick(
        rng,
        (
            ("Sort from small to large: {}", sorted(digits)),
            ("Sort from large to small: {}", sorted(digits, reverse=True)),
            ("Say backwards: {}", digits[::-1]),
        ),
    )
    return [(question.format(_written(digits)), _written(answer))]


def _fact(rng: np.random.Generator, scenes: Scenes) -> Turns:
    question, answers = pick(rng, FACTS)
    digit = pick(rng, list(answers))
    return [(question.format(digit), answers[digit])]


def _arithmetic(rng: np.random.Generator, scenes: Scenes) -> Turns:
    first, second = (int(digit) for digit in rng.integers(10, size=2))
    options = (
        (f"What is {first} plus {second}?", str(first + second)),
        (f"Add {first} and {second}.", str(first + second)),
        (f"Which number comes after {first}?", str(first + 1)),
    )
    return [pick(rng, options)]


def _comparison(rng: np.random.Generator, scenes: Scenes) -> Turns:
    digits = _digits(rng, 3, 5)
    colours = [list(COLOURS)[int(i)] for i in rng.permutation(len(COLOURS))[: len(digits)]]
    name, choose = pick(rng, (("largest", max), ("smallest", min)))
    coloured = enumeration([f"a {colour} {digit}" for colour, digit in zip(colours, digits, strict=True)])
    best = choose(digits)
    options = (
        (f"Which is the {name} of {_written(digits)}?", str(best)),
        (f"There is {coloured}. Which colour is the {name} digit?", colours[digits.index(best)]),
    )
    return [pick(rng, options)]


def _spoken_scene(rng: np.random.Generator, question: Callable[[Scene, Mark], tuple[str, str]]) -> Turns:
    """A question about a scene that is told in words: text stands where an image will be."""
    scene = scatter(rng, "training", 2, 4)
    asked, answer = question(scene, pick(rng, scene))
    return [(asked, answer)]


def _told(rng: np.random.Generator, scenes: Scenes) -> Turns:
    named = pick(rng, FACTS[:6])

    def question(scene: Scene, mark: Mark) -> tuple[str, str]:
        asked, answers = named
        if mark.digit not in answers:
            return f"There is {listed(scene)}. Which digit is {mark.colour}?", str(mark.digit)
        return f"There is {listed(scene)}. " + asked.format(f"the {mark.colour} digit"), answers[mark.digit]

    return _spoken_scene(rng, question)


def _places(rng: np.random.Generator, scenes: Scenes) -> Turns:
    """Places as row and column, as box and in pixels; long sentences about them."""

    def question(scene: Scene, mark: Mark) -> tuple[str, str]:
        sentence = pick(rng, described(scene).split(". ")).rstrip(".") + "."
        corner = f"{mark.digit} {mark.column * CELL} {mark.row * CELL} {CELL} {CELL}"
        options = (
            (f"Say in pixels: the centre of {place(mark)}.", centre(mark)),
            (f"Say in words: {box(mark)}", place(mark)),
            (f"Say as a detection: {mark.digit} in {place(mark)}.", corner),
            (f"Repeat: {sentence}", sentence),
            (f"Repeat: I see {listed(scene)} and nothing else.", f"I see {listed(scene)} and nothing else."),
        )
        return pick(rng, options)

    return _spoken_scene(rng, question)


def _images(rng: np.random.Generator, scenes: Scenes) -> Turns:
    """Counting images and naming directions, without any."""
    digits = _digits(rng, 2, 3)
    answer = int(rng.integers(len(digits)))
    told = " ".join(f"Image {i + 1}: {digit}." for i, digit in enumerate(digits))
    row = int(rng.integers(GRID - 1))
    mark = pick(rng, scatter(rng, "training", 2, 4))
    options = (
        (f"{told} Which image has the {digits[answer]}?", f"image {answer + 1}"),
        (f"{told} List the digit of each image.", _written(digits)),
        (f"{told} Which image has the largest digit?", f"image {int(np.argmax(digits)) + 1}"),
        (
            f"The {mark.colour} {mark.digit} goes from row {row + 1} to row {row + 2}. Where does it move?",
            f"The {mark.colour} {mark.digit} moves down.",
        ),
        (
            f"The {mark.colour} {mark.digit} goes from column {row + 2} to column {row + 1}. Where does it move?",
            f"The {mark.colour} {mark.digit} moves left.",
        ),
        ("What is the opposite of down?", "up"),
        ("What is the opposite of left?", "right"),
    )
    return [pick(rng, options)]


def _chinese_words(rng: np.random.Generator, scenes: Scenes) -> Turns:
    digit = int(rng.integers(10))
    colour = pick(rng, list(COLOURS))
    numeral, chinese = NUMERALS[digit], CHINESE_COLOURS[colour]
    options = (
        (f"How do you say {digit} in Chinese?", numeral),
        (f"How do you say {colour} in Chinese?", f"{chinese}色"),
        (f"{numeral}用英语怎么说？", str(digit)),
        (f"{chinese}色用英语怎么说？", colour),
        (f"Say in Chinese: the {colour} {digit}", f"{chinese}色的{numeral}"),
    )
    return [pick(rng, options)]


def _chinese_sentences(rng: np.random.Generator, scenes: Scenes) -> Turns:
    scene = scatter(rng, "training", 2, 3)
    mark = pick(rng, scene)
    numeral, chinese = NUMERALS[mark.digit], CHINESE_COLOURS[mark.colour]
    count = int(rng.integers(1, 6))
    options = (
        (f"Say in Chinese: The {mark.colour} digit is {mark.digit}.", f"{chinese}色的数字是{numeral}。"),
        (f"Say in Chinese: The {mark.digit} is {mark.colour}.", f"数字{numeral}是{chinese}色的。"),
        (f"Say in Chinese: There are {count} digits.", f"图里一共有{NUMERALS[count]}个数字。"),
        (f"Say in Chinese: There is {listed(scene)}.", chinese_list(scene)),
        (f"Say in English: {chinese}色的数字是几？", f"Which digit is {mark.colour}?"),
        (f"Say in English: 数字{numeral}是什么颜色？", f"What colour is the {mark.digit}?"),
        ("Say in English: 图里有几个数字？", "How many digits are there?"),
        ("Say in English: 请描述这张图片。", "Describe the image."),
        ("Say in English: 图里有什么？", "What is in the image?"),
    )
    return [pick(rng, options)]


ORDER = Task("language-order", no_scene, _order)
FACT = Task("language-facts", no_scene, _fact)
ARITHMETIC = Task("language-arithmetic", no_scene, _arithmetic)
COMPARISON = Task("language-comparison", no_scene, _comparison)

PRETRAINING = (
    ORDER,
    FACT,
    ARITHMETIC,
    COMPARISON,
    Task("told", no_scene, _told),
    Task("places", no_scene, _places),
    Task("images", no_scene, _images),
    Task("chinese-words", no_scene, _chinese_words),
    Task("chinese-sentences", no_scene, _chinese_sentences),
)
