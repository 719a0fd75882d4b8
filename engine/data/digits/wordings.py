"""Many ways to say one thing: the instructions of the stream in other words, as M3IT has ten for each of its sets.

What is wanted, a noun phrase, stands in a frame that all tasks share: `Say {}.`, `What is {}?` So instructions of different
tasks have most of their words in common, and those of one task can have few. Each has ten frames or more for each of its
phrases, beside its own words. Chinese has frames of its own. Nearly all words are in the base models' vocabulary.
"""

import re
from functools import cache
from typing import NamedTuple

import numpy as np

from liit.engine.data.digits.canvas import COLOURS
from liit.engine.data.digits.task import Turns, pick
from liit.engine.data.digits.words import CHINESE_COLOURS, NUMERALS


class Meaning(NamedTuple):
    """What questions in these words want, as noun phrases with the same slots."""

    questions: tuple[str, ...]
    wanted: tuple[str, ...]


PLAIN = (
    "Say {}.",
    "Write {}.",
    "Give {}.",
    "What is {}?",
    "Which is {}?",
    "Do say {}.",
    "Do give {}.",
    "You see it: what is {}?",
    "Say it in English: {}.",
    "After all, what is {}?",
)
SEEN = (
    *PLAIN,
    "There is an image. Say {}.",
    "There is an image. What is {}?",
    "What do you see in the image? Say {}.",
    "In the image, what is {}?",
)
CHINESE = (
    "请说{}。",
    "说说{}。",
    "请描述{}。",
    "请你说说{}。",
    "请用数字和颜色说{}。",
    "图里{}是什么？",
    "这张图片里{}是什么？",
    "{}是什么？",
    "看图，说{}。",
    "请看这张图片，说{}。",
)
SLOTS = {
    "colour": "|".join(COLOURS),
    "other": "|".join(COLOURS),
    "digit": r"\d",
    "hue": "|".join(CHINESE_COLOURS.values()),
    "numeral": f"[{NUMERALS}]",
    "side": "largest|smallest",
}
"""What a slot of this name can hold; one of another name, anything."""

TEXT_MEANINGS = (
    Meaning(("Sort from small to large: {of}",), ("{of} from small to large", "the digits from small to large: {of}")),
    Meaning(("Sort from large to small: {of}",), ("{of} from large to small", "the digits from large to small: {of}")),
    Meaning(("Say backwards: {of}",), ("{of} backwards", "the digits backwards: {of}")),
    Meaning(("What kind of number is {digit}?",), ("the kind of number of {digit}", "the kind of {digit}")),
    Meaning(("Which month has the number {digit}?",), ("the month with the number {digit}", "month {digit}")),
    Meaning(("Which element has the number {digit}?",), ("the element with the number {digit}", "element {digit}")),
    Meaning(("Which planet has the number {digit}?",), ("the planet with the number {digit}", "planet {digit}")),
    Meaning(("What is {digit} in Roman numerals?",), ("{digit} in Roman numerals", "the Roman numerals for {digit}")),
    Meaning(("Which polygon has {digit} sides?",), ("the polygon with {digit} sides",)),
    Meaning(("Write {digit} as a word.",), ("{digit} as a word", "the word for {digit}")),
    Meaning(("What is {one} plus {two}?", "Add {one} and {two}."), ("{one} plus {two}", "the sum of {one} and {two}")),
    Meaning(("Which number comes after {digit}?",), ("the number after {digit}",)),
    Meaning(("Which is the {side} of {of}?",), ("the {side} of {of}", "the {side} digit of all of {of}")),
    Meaning(
        ("There is {told}. Which colour is the {side} digit?",),
        ("the colour of the {side} digit where there is {told}", "the colour of the {side} of {told}"),
    ),
)
CHINESE_MEANINGS = (
    Meaning(("{hue}色的数字是几？",), ("{hue}色的数字", "{hue}色的是几")),
    Meaning(("数字{numeral}是什么颜色？",), ("数字{numeral}的颜色", "{numeral}的颜色")),
    Meaning(("图里有几个数字？",), ("有几个数字", "一共有几个")),
    Meaning(("请描述这张图片。", "图里有什么？"), ("这张图片里的数字", "图里有的")),
)
SEEN_MEANINGS = (
    Meaning(
        ("Which digit is {colour}?", "What is the {colour} digit?"), ("the {colour} digit", "the digit in {colour}")
    ),
    Meaning(
        ("What colour is the {digit}?", "Which colour does the {digit} have?"),
        ("the colour of the {digit}", "the colour of the digit {digit}"),
    ),
    Meaning(("How many digits are there?", "Count the digits."), ("the number of digits", "the number of all digits")),
    Meaning(
        ("Give the box of the {colour} digit.", "Where is the {colour} digit? Answer with a box."),
        ("the box of the {colour} digit", "the box with the {colour} digit"),
    ),
    Meaning(
        ("Give the box of the {digit}.", "Where is the {digit}? Answer with a box."),
        ("the box of the {digit}", "the box with the digit {digit}"),
    ),
    Meaning(
        ("Describe the image.", "What is in the image?"),
        ("a caption for the image", "every digit with the colour of it"),
    ),
    Meaning(
        ("Describe the image in detail.", "Write a long caption for the image."),
        ("a long caption for the image", "every digit with the colour, the row and the column of it"),
    ),
    Meaning(("List the {value} of each: {of}",), ("the {value} of each of {of}", "each {value} of {of}")),
    Meaning(("Classify the image.", "Which class is the image?"), ("the class of the image", "the digit as a class")),
    Meaning(
        ("Write a sentence about the image.", "Say something about the image."),
        ("a sentence about the image", "something about the digits you see"),
    ),
    Meaning(
        ("Where is the {colour} digit?", "In which row and column is the {colour} digit?"),
        ("the row and column of the {colour} digit", "the row and the column with the {colour} digit"),
    ),
    Meaning(
        ("Detect all digits.", "Detect every object in the image."),
        ("a detection of all digits", "every object in the image as a detection"),
    ),
    Meaning(
        ("Where is the keypoint of the {colour} digit?", "Mark the centre of the {colour} digit."),
        ("the keypoint of the {colour} digit", "the centre of the {colour} digit"),
    ),
    Meaning(
        ("Which image has the {digit}?", "In which image is the {digit}?"),
        ("the image with the {digit}", "which of the images has the {digit}"),
    ),
    Meaning(
        ("List the {colour} digit of each image.", "Which digit is {colour} in each image?"),
        ("the {colour} digit of each image", "the {colour} digit in every image"),
    ),
    Meaning(
        ("Add the {colour} digit of all images.",),
        ("the sum of the {colour} digit of all images", "the {colour} digit of one image plus that of the other"),
    ),
    Meaning(
        ("Which image has the largest {colour} digit?",),
        ("the image with the largest {colour} digit", "the image which has the largest digit in {colour}"),
    ),
    Meaning(
        ("These are {count} frames of a video. Where does the digit move?",),
        ("where the digit moves in {count} frames of a video", "the move of the digit in the video"),
    ),
    Meaning(
        ("What is the {colour} digit plus the {other} digit?", "Add the {colour} digit and the {other} digit."),
        ("the {colour} digit plus the {other} digit", "the sum of the {colour} digit and the {other} digit"),
    ),
    Meaning(
        ("What kind of number is the {colour} digit?",),
        ("the kind of number of the {colour} digit", "the kind of the digit in {colour}"),
    ),
    *(
        Meaning(
            (f"Which {thing} has the number of the {{colour}} digit?",),
            (f"the {thing} with the number of the {{colour}} digit", f"the {thing} of the {{colour}} digit"),
        )
        for thing in ("month", "element", "planet")
    ),
    Meaning(
        ("Which colour is the {side} digit?", "What colour has the {side} digit of all?"),
        ("the colour of the {side} digit", "the colour of the {side} digit of all"),
    ),
    Meaning(("In which row is the {colour} digit?",), ("the row of the {colour} digit",)),
    Meaning(("In which column is the {colour} digit?",), ("the column of the {colour} digit",)),
    Meaning(("Is the {digit} up or down?",), ("the half with the {digit}, up or down",)),
    Meaning(("Is the {digit} left or right?",), ("the half with the {digit}, left or right",)),
    Meaning(
        ("Write the {colour} digit as a word.",), ("the word for the {colour} digit", "the {colour} digit as a word")
    ),
    Meaning(("Which number comes after the {colour} digit?",), ("the number after the {colour} digit",)),
    Meaning(("Which digit is the most left?",), ("the most left digit", "the first digit from the left")),
    Meaning(("Which colour is the first digit?",), ("the colour of the first digit",)),
    Meaning(("Which colour is the last digit?",), ("the colour of the last digit",)),
    Meaning(("List the colours.",), ("the colours", "the colour of each digit")),
    Meaning(("List the digits.",), ("the digits", "each digit")),
    Meaning(("How many digits are even?",), ("the number of even digits",)),
    Meaning(
        ("What is the {colour} digit in Roman numerals?",),
        ("the {colour} digit in Roman numerals", "the Roman numerals for the {colour} digit"),
    ),
    Meaning(("Which polygon has the {colour} digit of sides?",), ("the polygon with the {colour} digit of sides",)),
)
IMAGES = re.compile(r"(?:(?:Image \d: )?<image> )*")


def reworded(rng: np.random.Generator, turns: Turns) -> Turns:
    """The same turns with every question in words drawn from all there are for it, its own among them."""
    return [(pick(rng, ways(question)), answer) for question, answer in turns]


def ways(question: str) -> tuple[str, ...]:
    """Every way to ask this: what names its images stays in front.

    Raises:
        ValueError: a question that no meaning has.
    """
    start = IMAGES.match(question)
    images = start[0] if start else ""
    for pattern, meaning, frames in _patterns():
        found = pattern.fullmatch(question[len(images) :])
        if found:
            said = [wording.format(**found.groupdict()) for wording in meaning.questions]
            wanted = [wanted.format(**found.groupdict()) for wanted in meaning.wanted]
            return tuple(images + way for way in (*said, *(frame.format(one) for one in wanted for frame in frames)))
    raise ValueError(f"{question!r} has no other words; add what it wants to engine/data/digits/wordings.py")


@cache
def _patterns() -> list[tuple[re.Pattern[str], Meaning, tuple[str, ...]]]:
    groups = ((SEEN_MEANINGS, SEEN), (CHINESE_MEANINGS, CHINESE), (TEXT_MEANINGS, PLAIN))
    return [
        (_pattern(question), meaning, frames)
        for meanings, frames in groups
        for meaning in meanings
        for question in meaning.questions
    ]


def _pattern(question: str) -> re.Pattern[str]:
    """The question with any values in its slots."""
    parts = re.split(r"\{(\w+)\}", question)
    held = [f"(?P<{part}>{SLOTS.get(part, '.+?')})" if at % 2 else re.escape(part) for at, part in enumerate(parts)]
    return re.compile("".join(held))
