"""One sample of the stream from its place: every sample has random numbers of its own, so any can be made alone."""

import re
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from liit.engine.data.digits.canvas import Scene, Split
from liit.engine.data.digits.releases import RELEASES, Kind, Plan
from liit.engine.data.digits.task import Scenes, Task, Turns
from liit.engine.data.digits.wordings import reworded

SCENE_POOL = 2000
"""Of each task of a release, sample i shares its images with sample i + SCENE_POOL: a million samples do not take a
million files. Questions still differ."""
PLACEHOLDER = "<image>"


@dataclass(frozen=True)
class Drawing:
    """An image file to be: its path below the stream's folder, its scene and how bright it is drawn."""

    path: str
    scene: Scene
    brightness: float


@dataclass(frozen=True)
class Sample:
    """A row of a LLaVA JSON file and the images that it names."""

    row: dict[str, Any]
    drawings: tuple[Drawing, ...]


def generator(seed: int, purpose: str, *place: int) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(purpose.encode()), *place])


def held_out(task: Task, dataset: str, split: Split, seed: int, index: int) -> Sample:
    """Sample `index` of an evaluation or target set: plain, with its own images."""
    rng = generator(seed, f"{split}/{task.name}/{dataset}", index)
    scenes = task.compose(rng, split)
    return _assemble(task, dataset, str(index), scenes, task.ask(rng, scenes), f"{dataset}-{index}", 1.0)


def composed(task: Task, dataset: str, seed: int, index: int) -> Sample:
    """A plain training sample of one task, with its own images."""
    rng = generator(seed, f"training/{task.name}/{dataset}", index)
    scenes = task.compose(rng, "training")
    return _assemble(task, dataset, str(index), scenes, task.ask(rng, scenes), f"{task.name}-{index}", 1.0)


def released(plans: list[Plan], release: int, index: int, seed: int, other_words: bool = False) -> Sample:
    """Sample `index` of a release, as its plan says: plain, with a bad answer, or a near-duplicate.

    other_words: each question is worded in one of the ways of `wordings.py`; a near-duplicate is as its source is.
    """
    plan, name = plans[release], RELEASES[release].name
    task, kind = plan.tasks[plan.task_n[index]], Kind(plan.kind_n[index])
    at, position = (release, index) if kind < Kind.REPEAT else map(int, plan.source_n2[index])
    scenes, turns = _draw(task, at, position, seed)
    if other_words:
        turns = reworded(generator(seed, f"wording/{task.name}", at, position), turns)
    rng = generator(seed, "flaws", release, index)
    if kind in (Kind.WRONG, Kind.CUT):
        turns = _spoil(rng, task, kind, turns)
    if kind < Kind.REPEAT:
        return _assemble(task, name, str(index), scenes, turns, f"{task.name}-{index % SCENE_POOL}", 1.0)
    brightness = float(rng.uniform(0.85, 0.97))
    return _assemble(task, name, str(index), scenes, turns, f"{task.name}-{index}-again", brightness)


def _draw(task: Task, release: int, index: int, seed: int) -> tuple[Scenes, Turns]:
    scenes = task.compose(generator(seed, f"scene/{task.name}", release, index % SCENE_POOL), "training")
    return scenes, task.ask(generator(seed, f"question/{task.name}", release, index), scenes)


def _spoil(rng: np.random.Generator, task: Task, kind: Kind, turns: Turns) -> Turns:
    """The last answer cut in the middle, or that of another sample; an answer of one word can only be wrong."""
    question, answer = turns[-1]
    words = re.findall(r"\s?(?:[A-Za-z]+|[\d.]+|[^\s])", answer)
    half = "".join(words[: len(words) // 2])
    if kind is Kind.CUT and half:
        return [*turns[:-1], (question, half)]
    other = answer
    while other == answer:
        other = task.ask(rng, task.compose(rng, "training"))[-1][1]
    return [*turns[:-1], (question, other)]


def _assemble(
    task: Task, dataset: str, sample_id: str, scenes: Scenes, turns: Turns, stem: str, brightness: float
) -> Sample:
    drawings = tuple(
        Drawing(f"images/{dataset}/{stem}-{position}.png", scene, brightness) for position, scene in enumerate(scenes)
    )
    conversation = []
    for position, (question, answer) in enumerate(turns):
        if position == 0 and scenes and PLACEHOLDER not in question:
            question = f"{PLACEHOLDER}\n{question}"
        conversation += [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    row: dict[str, Any] = {"id": sample_id}
    paths = [drawing.path for drawing in drawings]
    if paths:
        row["image"] = paths[0] if len(paths) == 1 else paths
    return Sample({**row, "conversations": conversation, "task": task.name}, drawings)
