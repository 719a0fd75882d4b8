"""The GPU benchmark runs on a CPU with a tiny model, and what it counts on paper is what torch counts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from flops import Lengths, forward
from tiny_llava import Shape, configuration
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlavaForConditionalGeneration

ROOT = Path(__file__).resolve().parents[2]


def test_it_runs_without_a_gpu_and_reports_every_figure(tmp_path: Path) -> None:
    command = [sys.executable, "benchmarks/gpu.py", "--small", "--device", "cpu", "--samples", "6", "--tokens", "512"]
    out = tmp_path / "gpu.json"
    done = subprocess.run(
        [*command, "--json", str(out)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    report = json.loads(out.read_text())
    for kind in ("forward", "profile", "fused forward", "fused profile"):
        assert report[kind]["batches"] == 2
        assert 0 < report[kind]["share_of_matrix_rate"] < 2
        assert report[kind]["samples_per_second_end_to_end"] > 0
    theirs = report["released"]["samples_per_second_with_projection"]
    assert report["vs_released"] == pytest.approx(report["fused profile"]["samples_per_second"] / theirs)
    for pair in report["precision"].values():  # everything is float32 on a CPU
        for name in ("nll", "el2n", "entropy", "image_grounding"):
            assert pair[name]["spearman"] == pytest.approx(1)
        assert min(pair["sketch"]["smallest_cosine"], pair["embedding"]["smallest_cosine"]) > 0.999


def test_operations_on_paper_are_those_that_torch_counts() -> None:
    shape = Shape(layers=3, hidden=128, intermediate=256, vocabulary=512, image_side=32, patch=4)
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(configuration(shape)).eval()
    model.set_attn_implementation("eager")  # of which torch sees the products
    one = Lengths(text=40, response=10, image=shape.image_tokens)
    tokens = one.text + one.image
    ids = torch.full((1, tokens), 7)
    ids[0, : one.image] = 3
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=ids, pixel_values=torch.zeros(1, 3, 32, 32), use_cache=False)
    head = 2 * (tokens - one.response) * shape.vocabulary * shape.hidden  # torch's forward sees every position
    masked = shape.layers * 2 * tokens**2 * shape.hidden  # and multiplies what causality then hides
    assert counter.get_total_flops() == pytest.approx(forward(shape, one) + head + masked, rel=0.02)
