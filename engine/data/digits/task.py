"""What a task is: it composes the scenes of a sample and asks about them, all drawn from the generator it is given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from liit.engine.data.digits.canvas import Mark, Scene, Split, scatter

Scenes = tuple[Scene, ...]
Turns = list[tuple[str, str]]
"""Questions and answers. A first question without a placeholder gets `<image>` and a line break before it."""
Compose = Callable[[np.random.Generator, Split], Scenes]
Ask = Callable[[np.random.Generator, Scenes], Turns]
T = TypeVar("T")


@dataclass(frozen=True)
class Task:
    """A named kind of sample; the name goes into the data as metadata, no selector sees it."""

    name: str
    compose: Compose
    ask: Ask


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    return options[int(rng.integers(len(options)))]


def pick_mark(rng: np.random.Generator, scene: Scene, least: int = 0, most: int = 9) -> Mark:
    """A mark whose digit lies between two bounds."""
    return pick(rng, [mark for mark in scene if least <= mark.digit <= most])


def no_scene(rng: np.random.Generator, split: Split) -> Scenes:
    return ()


def scenes_of(fewest: int, most: int) -> Compose:
    """Composes one scene of `fewest` to `most` marks."""

    def compose(rng: np.random.Generator, split: Split) -> Scenes:
        return (scatter(rng, split, fewest, most),)

    return compose


def scene_with(least: int, most: int) -> Compose:
    """Composes one scene of two to four marks, at least one of whose digits lies between two bounds."""

    def compose(rng: np.random.Generator, split: Split) -> Scenes:
        while True:
            scene = scatter(rng, split, 2, 4)
            if any(least <= mark.digit <= most for mark in scene):
                return (scene,)

    return compose


def asked(answer: Callable[[Mark], str], questions: Sequence[str], least: int = 0, most: int = 9) -> Ask:
    """Asks about one mark, named by its colour `{colour}` or its digit `{digit}` in one of the wordings."""

    def ask(rng: np.random.Generator, scenes: Scenes) -> Turns:
        mark = pick_mark(rng, scenes[0], least, most)
        return [(pick(rng, questions).format(colour=mark.colour, digit=mark.digit), answer(mark))]

    return ask


def asked_scene(answer: Callable[[Scene], str], questions: Sequence[str]) -> Ask:
    """Asks about a whole scene in one of the wordings."""

    def ask(rng: np.random.Generator, scenes: Scenes) -> Turns:
        return [(pick(rng, questions), answer(scenes[0]))]

    return ask
