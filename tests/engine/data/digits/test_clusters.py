"""On real gradients, those of the digits' base model, the cheap projection groups samples as the paper's dense one does."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import normalized_mutual_info_score

from liit.engine.data.digits.canvas import render
from liit.engine.data.digits.sight import CLASSIFICATION, GENERATION, POSITION
from liit.engine.data.digits.thought import CHINESE_CAPTION
from liit.engine.run.tables import key_of
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Profiler
from liit.engine.settings.specs import SketchSpec
from liit.selectors.clustering import cluster

TASKS = (CLASSIFICATION, GENERATION, POSITION, CHINESE_CAPTION)
PER_TASK = 30
SKETCHES = {
    "base dense": SketchSpec(dimension=8192, projection="dense"),
    "base factored": SketchSpec(dimension=8192),
    "base sparse": SketchSpec(dimension=8192, projection="sparse"),
    "lora dense": SketchSpec(dimension=8192, projection="dense", parameters="lora"),
    "lora factored": SketchSpec(dimension=8192, parameters="lora"),
}


def samples() -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    made = []
    for task in TASKS:
        for index in range(PER_TASK):
            scenes = task.compose(rng, "training")
            ((question, answer),) = task.ask(rng, scenes)
            stored = io.BytesIO()
            Image.fromarray(render(scenes[0])).save(stored, "png")
            turns = [("user", f"<image>\n{question}"), ("assistant", answer)]
            made.append(
                {
                    "id": f"{task.name}/{index}",
                    "conversation": [{"role": role, "text": text} for role, text in turns],
                    "images": [{"path": None, "bytes": stored.getvalue()}],
                }
            )
    return made


@pytest.fixture(scope="module")
def found() -> dict[str, np.ndarray]:
    """Clusters of each sketch; the LoRA's r = 4 is far below the projection's sides of 64 and 128."""
    lora = {"r": 4, "alpha": 8, "dropout": 0.0, "targets": (), "projector": False, "seed": 0}
    spec = ProfilerSpec(
        "digits-base", max_length=256, scores=("nll",), vectors=tuple(SKETCHES), sketches=SKETCHES | MAIN, lora=lora
    )
    mine = samples()
    rows = Profiler(spec, "cpu").profile(mine)
    keys = np.array([key_of(sample["id"]) for sample in mine], np.uint64)
    vectors = {name: np.stack([(row.vectors or {})[name] for row in rows]) for name in SKETCHES}
    return {name: cluster(one, keys, k_grid=[len(TASKS)], seed=0).labels_N for name, one in vectors.items()}


MAIN = {"sketch": SketchSpec(dimension=64)}


@pytest.mark.parametrize(
    ("cheap", "dense"),
    [("base factored", "base dense"), ("base sparse", "base dense"), ("lora factored", "lora dense")],
)
def test_clusters_agree_with_those_of_the_dense_projection(
    cheap: str, dense: str, found: dict[str, np.ndarray]
) -> None:
    assert normalized_mutual_info_score(found[dense], found[cheap]) >= 0.95


def test_the_clusters_are_the_tasks(found: dict[str, np.ndarray]) -> None:
    tasks = np.repeat(np.arange(len(TASKS)), PER_TASK)
    assert normalized_mutual_info_score(tasks, found["base factored"]) >= 0.95
