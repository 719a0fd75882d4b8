"""A sample whose scores or vectors are no numbers under this model says so, and harms no other of its batch."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Profiler
from liit.engine.scoring.scoring import profile_table
from liit.engine.settings.specs import SketchSpec

SPEC = ProfilerSpec(
    model="",
    max_length=200,
    scores=("nll", "el2n", "grad_norm"),
    vectors=("sketch",),
    sketches={"sketch": SketchSpec(dimension=64)},
)


def sample(name: str, question: str, answer: str) -> dict[str, Any]:
    turns = [{"role": "user", "text": question}, {"role": "assistant", "text": answer}]
    return {"id": name, "key": len(name), "conversation": turns, "images": []}


def spoiled(model: str, folder: Path, value: float) -> str:
    """The model with one token, `~`, whose embedding is this value."""
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    token = AutoTokenizer.from_pretrained(model)("~", add_special_tokens=False)["input_ids"][0]
    weights["model.embed_tokens.weight"][token] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_no_row_of_the_profile(tiny_llama: str, tmp_path: Path, value: float) -> None:
    spec = replace(SPEC, model=spoiled(tiny_llama, tmp_path / "model", value))
    good = [sample("a", "Two and two?", "four"), sample("bb", "Yes or no?", "y")]
    rows = Profiler(spec).profile([good[0], sample("ccc", "What is ~?", "a wave"), good[1]])
    assert [row.status for row in rows if row.id != "ccc"] == ["ok", "ok"]
    assert rows[1].status.startswith("not finite under this model: nll is nan")
    alone = Profiler(spec).profile(good)
    for mine, other in zip((rows[0], rows[2]), alone, strict=True):
        assert (mine.scores or {})["nll"] == pytest.approx((other.scores or {})["nll"], rel=1e-5)
        np.testing.assert_allclose((mine.vectors or {})["sketch"], (other.vectors or {})["sketch"], atol=2e-3)
    table = profile_table([*good, sample("ccc", "", "")], rows, spec, "m")
    assert np.isnan(table["nll"].to_numpy()[1])


def test_a_gradient_whose_length_overflows_is_not_finite(tiny_llama: str) -> None:
    profiler = Profiler(replace(SPEC, model=tiny_llama, scores=("nll",)))
    raw = {"sketch": torch.tensor([[1.0, 2.0], [3e38, 3e38]])}
    prepared = profiler.prepare([sample("a", "Two?", "2"), sample("bb", "One?", "1")])
    bad = profiler._not_finite(prepared, {"nll": [0.5, 0.5]}, raw)
    assert bad == {1: "not finite under this model: sketch has length inf"}
