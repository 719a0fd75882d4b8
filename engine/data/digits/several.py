"""Tasks over several images: which image, what in each image, sums across images, and the frames of a video."""

import numpy as np

from liit.engine.data.digits.canvas import COLOURS, GRID, Split, compose
from liit.engine.data.digits.task import Compose, Scenes, Task, Turns, pick
from liit.engine.data.digits.words import NAMES

MOVES = {"right": (0, 1), "left": (0, -1), "down": (1, 0), "up": (-1, 0)}


def _images(count: int) -> str:
    """`Image 1: <image>` for every image, so that a question can name them."""
    return " ".join(f"Image {i + 1}: <image>" for i in range(count))


def _album(fewest: int, most: int) -> Compose:
    """Images that share one colour and hold distinct digits: two marks each."""

    def album(rng: np.random.Generator, split: Split) -> Scenes:
        shared, *others = (list(COLOURS)[int(i)] for i in rng.permutation(len(COLOURS)))
        digits = [int(digit) for digit in rng.permutation(10)]
        return tuple(
            compose(rng, split, (digits[2 * i], digits[2 * i + 1]), (shared, others[i]))
            for i in range(int(rng.integers(fewest, most + 1)))
        )

    return album


def _shared_colour(scenes: Scenes) -> str:
    (colour,) = set.intersection(*({mark.colour for mark in scene} for scene in scenes))
    return colour


def _digits_of(scenes: Scenes, colour: str) -> list[int]:
    return [mark.digit for scene in scenes for mark in scene if mark.colour == colour]


def _which(rng: np.random.Generator, scenes: Scenes) -> Turns:
    answer = int(rng.integers(len(scenes)))
    digit = pick(rng, scenes[answer]).digit
    question = pick(rng, ("Which image has the {}?", "In which image is the {}?")).format(digit)
    return [(f"{_images(len(scenes))} {question}", f"image {answer + 1}")]


def _each(rng: np.random.Generator, scenes: Scenes) -> Turns:
    colour = _shared_colour(scenes)
    question = pick(rng, ("List the {} digit of each image.", "Which digit is {} in each image?")).format(colour)
    return [(f"{_images(len(scenes))} {question}", ", ".join(map(str, _digits_of(scenes, colour))))]


def _total(rng: np.random.Generator, scenes: Scenes) -> Turns:
    colour = _shared_colour(scenes)
    question = f"Add the {colour} digit of all images."
    return [(f"{_images(len(scenes))} {question}", str(sum(_digits_of(scenes, colour))))]


def _larger(rng: np.random.Generator, scenes: Scenes) -> Turns:
    colour = _shared_colour(scenes)
    digits = _digits_of(scenes, colour)
    question = f"Which image has the largest {colour} digit?"
    return [(f"{_images(len(scenes))} {question}", f"image {int(np.argmax(digits)) + 1}")]


def _video(rng: np.random.Generator, split: Split) -> Scenes:
    """Three frames in which one digit moves by a cell each."""
    name = pick(rng, list(MOVES))
    down, right = MOVES[name]
    across = int(rng.integers(GRID))
    start = int(rng.integers(GRID - 2))
    steps = [start + i for i in range(3)] if down + right > 0 else [start + 2 - i for i in range(3)]
    cells = [(step, across) if down else (across, step) for step in steps]
    first = compose(rng, split, (int(rng.integers(10)),), (pick(rng, list(COLOURS)),), cells[:1])
    return tuple(tuple(mark._replace(row=row, column=column) for mark in first) for row, column in cells)


def _direction(scenes: Scenes) -> str:
    (before,), (after,) = scenes[0], scenes[1]
    step = (after.row - before.row, after.column - before.column)
    return next(name for name, move in MOVES.items() if move == step)


def _watch(rng: np.random.Generator, scenes: Scenes) -> Turns:
    frames = " ".join("<image>" for _ in scenes)
    (mark,) = scenes[0]
    return [
        (
            f"{frames} These are {NAMES[len(scenes)]} frames of a video. Where does the digit move?",
            f"The {mark.colour} {mark.digit} moves {_direction(scenes)}.",
        )
    ]


WHICH = Task("images-which", _album(2, 3), _which)
EACH = Task("images-each", _album(2, 3), _each)
TOTAL = Task("images-sum", _album(2, 2), _total)
LARGER = Task("images-largest", _album(2, 3), _larger)
VIDEO = Task("video", _video, _watch)
