"""A fused model says what the model says: scores and vectors of one profile beside the other's."""

import importlib
import shutil
from dataclasses import replace

import numpy as np
import pytest

from liit.engine.models import fusing
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Profiler
from liit.engine.settings.specs import SketchSpec


@pytest.fixture
def llama(monkeypatch: pytest.MonkeyPatch) -> str:
    """The module of the family, as it was again afterwards."""
    home = "transformers.models.llama.modeling_llama"
    functions = importlib.import_module(home)
    monkeypatch.setattr(functions, "apply_rotary_pos_emb", functions.apply_rotary_pos_emb)
    return home


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler, which torch.compile needs")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The .grad attribute")  # of torch's compiler
def test_a_fused_model_gives_the_same_profile(tiny_llama: str, llama: str) -> None:
    samples = [
        {
            "id": str(index),
            "images": [],
            "conversation": [{"role": "user", "text": "one two " * index}, {"role": "assistant", "text": "three four"}],
        }
        for index in range(1, 4)
    ]
    scores = ("nll", "el2n", "entropy", "grad_norm")
    spec = ProfilerSpec(tiny_llama, max_length=200, scores=scores, sketches={"sketch": SketchSpec(dimension=64)})
    plain = Profiler(spec, "cpu").profile(samples)
    fused = Profiler(replace(spec, fuse=True), "cpu")
    rope = importlib.import_module(llama).apply_rotary_pos_emb
    for _ in range(2):  # the second batch has other lengths
        for mine, theirs in zip(fused.profile(samples), plain, strict=True):
            assert mine.scores == pytest.approx(theirs.scores, rel=1e-4)
            for name, vector in (theirs.vectors or {}).items():
                assert float(np.dot((mine.vectors or {})[name].astype(float), vector.astype(float))) > 0.999
        samples, plain = samples[:2], plain[:2]
    norms = [one for one in fused.model.modules() if type(one).__name__.endswith("RMSNorm")]
    assert norms
    assert all("forward" in vars(norm) for norm in norms)
    fusing.fuse(fused.model)
    assert importlib.import_module(llama).apply_rotary_pos_emb is rope  # twice is once
