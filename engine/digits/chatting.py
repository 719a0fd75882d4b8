"""Conversations about one canvas that change the skill at every turn: sight, knowledge, a box, and a word on numbers."""

import json
from pathlib import Path

from PIL import Image

from liit.engine.digits import language, sight, thought
from liit.engine.digits.canvas import render
from liit.engine.digits.samples import generator
from liit.engine.digits.task import Task
from liit.engine.settings import Metric, Release

TURNS: tuple[tuple[str, Metric, Task], ...] = (
    ("vqa", "exact", sight.DIGIT),
    ("knowledge", "exact", thought.KIND),
    ("grounding", "iou", sight.BOX),
    ("small talk", "exact", language.FACT),
    ("vqa", "exact", sight.COLOUR),
)
"""Skill, metric and task of each turn."""


def write_conversations(folder: Path, count: int, seed: int = 0) -> Release:
    """Write `conversations.json` and its images, of digits that no training sample has; returns where they are."""
    folder = folder.absolute()
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for index in range(count):
        rng = generator(seed, "evaluation/conversation", index)
        scenes = sight.CONVERSATION.compose(rng, "evaluation")
        asked = [task.ask(rng, scenes)[0] for *_, task in TURNS]
        asked[0] = (f"<image>\n{asked[0][0]}", asked[0][1])
        image = f"images/{index}.png"
        Image.fromarray(render(scenes[0], 1.0)).save(folder / image, format="PNG")
        said = [
            {"from": who, "value": text} for turn in asked for who, text in zip(("human", "gpt"), turn, strict=True)
        ]
        turns = [{"skill": skill, "metric": metric} for skill, metric, _ in TURNS]
        rows.append({"id": str(index), "image": image, "conversations": said, "turns": turns})
    path = folder / "conversations.json"
    path.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return Release(name="conversations", path=str(path), images=str(folder))
