"""Conversations about one canvas that change the skill at every turn: sight, knowledge, a box, and a word on numbers."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from liit.engine.data.digits import language, sight, thought
from liit.engine.data.digits.samples import Sample, held_out
from liit.engine.data.digits.stream import write_samples
from liit.engine.data.digits.task import Scenes, Task, Turns
from liit.engine.settings.streams import Metric, Release

NAME = "conversations"
TURNS: tuple[tuple[str, Metric, Task], ...] = (
    ("vqa", "exact", sight.DIGIT),
    ("knowledge", "exact", thought.KIND),
    ("grounding", "iou", sight.BOX),
    ("small talk", "exact", language.FACT),
    ("vqa", "exact", sight.COLOUR),
)
"""Skill, metric and task of each turn."""


def _ask(rng: np.random.Generator, scenes: Scenes) -> Turns:
    return [turn for *_, task in TURNS for turn in task.ask(rng, scenes)]


IN_TURNS = Task("in-turns", sight.CONVERSATION.compose, _ask)


def write_conversations(folder: Path, count: int, seed: int = 0) -> Release:
    """Write `conversations.json` and its images, of digits that no training sample has; returns where they are."""
    folder = folder.absolute()
    path = folder / f"{NAME}.json"
    write_samples(folder, path, (_conversation(seed, index) for index in range(count)))
    return Release(name=NAME, path=str(path), images=str(folder))


def _conversation(seed: int, index: int) -> Sample:
    sample = held_out(IN_TURNS, NAME, "evaluation", seed, index)
    turns = [{"skill": skill, "metric": metric} for skill, metric, _ in TURNS]
    return replace(sample, row={**sample.row, "turns": turns})
