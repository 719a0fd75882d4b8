"""Real handwritten digits in colours on a small canvas: one digit to an 8×8 cell of a 4×4 grid, 32×32 RGB in all.

The 1,797 digits of scikit-learn (Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI) fall into three
disjoint sets, class by class, the same for every seed: the base model is trained on the training set once and for all.
"""

from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple

import numpy as np

GRID = 4
CELL = 8
SIDE = GRID * CELL
COLOURS = {
    "red": (255, 40, 40),
    "green": (40, 230, 60),
    "blue": (60, 90, 255),
    "yellow": (255, 235, 50),
    "white": (255, 255, 255),
    "purple": (190, 50, 240),
}

Split = Literal["training", "evaluation", "target"]
SHARES: dict[Split, float] = {"training": 0.65, "evaluation": 0.25, "target": 0.10}


class Mark(NamedTuple):
    """One digit of a scene: what it is, and which of the 1,797 handwritten digits it is drawn with."""

    digit: int
    colour: str
    row: int
    column: int
    crop: int


Scene = tuple[Mark, ...]
"""Marks in reading order; digits and colours are distinct, so that either names one mark."""


@cache
def crops() -> np.ndarray:
    """The handwritten digits, (1797, 8, 8) float32 between 0 and 1."""
    from sklearn.datasets import load_digits  # a second and a half, which no worker needs

    return (load_digits().images / 16).astype(np.float32)


@cache
def split_crops(split: Split) -> tuple[np.ndarray, ...]:
    """For each digit 0 to 9, the indices into `crops()` of one set. The three sets are disjoint and cover all."""
    from sklearn.datasets import load_digits

    labels = load_digits().target
    rng = np.random.default_rng(1797)
    chosen = []
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(labels == digit))
        first = round(SHARES["training"] * len(members))
        second = first + round(SHARES["evaluation"] * len(members))
        parts = dict(zip(SHARES, np.split(members, [first, second]), strict=True))
        chosen.append(np.sort(parts[split]))
    return tuple(chosen)


def compose(
    rng: np.random.Generator,
    split: Split,
    digits: Sequence[int],
    colours: Sequence[str],
    cells: Sequence[tuple[int, int]] | None = None,
) -> Scene:
    """A scene of these digits in these colours, handwriting drawn from one set; cells are drawn too unless given."""
    if cells is None:
        places = rng.permutation(GRID * GRID)[: len(digits)]
        cells = [(int(place) // GRID, int(place) % GRID) for place in places]
    marks = [
        Mark(digit, colour, row, column, int(rng.choice(split_crops(split)[digit])))
        for digit, colour, (row, column) in zip(digits, colours, cells, strict=True)
    ]
    return tuple(sorted(marks, key=lambda mark: (mark.row, mark.column)))


def scatter(rng: np.random.Generator, split: Split, fewest: int, most: int) -> Scene:
    """A scene of `fewest` to `most` distinct digits in distinct colours anywhere on the canvas."""
    count = int(rng.integers(fewest, most + 1))
    digits = [int(digit) for digit in rng.permutation(10)[:count]]
    names = list(COLOURS)
    return compose(rng, split, digits, [names[int(i)] for i in rng.permutation(len(names))[:count]])


def render(scene: Scene, brightness: float = 1.0) -> np.ndarray:
    """The canvas of a scene, (32, 32, 3) uint8 on black."""
    canvas = np.zeros((SIDE, SIDE, 3), np.float32)
    for mark in scene:
        top, left = mark.row * CELL, mark.column * CELL
        colour = np.asarray(COLOURS[mark.colour], np.float32)
        canvas[top : top + CELL, left : left + CELL] = crops()[mark.crop][:, :, None] * colour
    return np.rint(canvas * brightness).astype(np.uint8)
