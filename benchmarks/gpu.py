"""Scoring with LLaVA-1.5-7B's architecture on one GPU: samples per second, and the share of what the card can do.

    python benchmarks/gpu.py --json FILE            # about 3 minutes; needs torch, transformers and peft only
    python benchmarks/gpu.py --small --device cpu   # the same on a tiny model, to see that it runs

Random weights in bfloat16, 576 image tokens, text lengths as LLaVA's, batches planned as scoring plans them. FLOPs are counted on
paper (`flops.py`), and the matrix rate is measured in the same run. The released way (batch one, a backward through every LoRA
layer, a second full forward) runs beside it, its projection to 8,192 timed apart. Scores and vectors are compared with float32's.
"""

import argparse
import copy
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import torch
from agreement import agreement, profiled
from flops import Lengths, forward, profile
from peers import Released
from tiny_llava import LLAVA_7B, Shape, configuration, planned, processor, samples, with_adapter
from transformers import LlavaForConditionalGeneration

from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Prepared, Profiler
from liit.engine.scoring.projections import sides
from liit.engine.settings.specs import SketchSpec

Samples = list[dict[str, Any]]
DIMENSION = 8192
LOADERS = 8
SAMPLES_PER_BATCH = 64
TINY = Shape(layers=4, hidden=64, intermediate=172, vocabulary=512)
SCORES = ("nll", "el2n", "entropy", "image_grounding")


def build(shape: Shape, device: str, dtype: torch.dtype) -> LlavaForConditionalGeneration:
    """The model with random weights, made on the device."""
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model = LlavaForConditionalGeneration(configuration(shape))
    finally:
        torch.set_default_dtype(torch.float32)
    return model.requires_grad_(False).eval()


def text_lengths(count: int, small: bool) -> list[int]:
    """Text tokens as in LLaVA's instruction data: log-normal, median 128, σ = 0.7, clipped to 32..1,024."""
    drawn = np.exp(np.random.default_rng(0).normal(np.log(128), 0.7, size=count))
    return [int(length) for length in np.clip(drawn / (8 if small else 1), 16, 1024)]


def matrix_rate(device: str, dtype: torch.dtype, side: int) -> float:
    """FLOP/s of square matrix products."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = timed(lambda: a @ b, device, repeats=20)
    return 2 * side**3 / seconds


def timed(work: Callable[[], object], device: str, repeats: int = 1, warm: bool = True) -> float:
    """Seconds of one call, after one that warms up."""
    if warm:
        work()
    _wait(device)
    began = time.perf_counter()
    for _ in range(repeats):
        work()
    _wait(device)
    return (time.perf_counter() - began) / repeats


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


class Ours:
    """The profiler: everything that selection wants of a sample, or the forward alone."""

    def __init__(self, loaded: tuple[Any, Any], device: str, everything: bool = True, fuse: bool = False) -> None:
        scores = SCORES if everything else ("nll",)
        vectors = ("sketch", "embedding") if everything else ()
        sketches = {"sketch": SketchSpec(dimension=DIMENSION)}
        spec = ProfilerSpec("llava", max_length=4096, scores=scores, vectors=vectors, sketches=sketches, fuse=fuse)
        self.everything = everything
        self.profiler = Profiler(spec, device, loaded)

    def prepared(self, batches: list[Samples]) -> list[Prepared]:
        with ThreadPoolExecutor(LOADERS) as threads:
            return list(threads.map(self.profiler.prepare, batches))

    def run(self, prepared: Sequence[Prepared]) -> None:
        for one in prepared:
            rows = self.profiler.run(one)
            assert all(row.status == "ok" for row in rows), rows[0].status

    def end_to_end(self, batches: list[Samples]) -> None:
        """Images from disk and all, read ahead by threads as a scoring actor does."""
        with ThreadPoolExecutor(LOADERS) as threads:
            for one in threads.map(self.profiler.prepare, batches):
                self.profiler.run(one)


def precision(loaded: tuple[Any, Any], mine: Samples, device: str) -> dict[str, Any]:
    """Agreement of the model with the same weights in float32, of what is fused with what is not, and of a tiny model in float32
    on the card with the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        few = samples(Path(folder), TINY, text_lengths(32, small=True), response=48)
        tiny = processor(TINY), build(TINY, "cpu", torch.float32)
        here, there = (profiled(Ours(tiny, where).profiler, few, 8) for where in ("cpu", device))
    plain = profiled(Ours(loaded, device).profiler, mine, 4)
    wide = profiled(Ours((loaded[0], copy.deepcopy(loaded[1]).float()), device).profiler, mine, 4)
    fused = profiled(Ours(loaded, device, fuse=True).profiler, mine, 4)
    return {
        "dtype_vs_float32": agreement(plain, wide),
        "fused_vs_float32": agreement(fused, wide),
        "tiny_float32_vs_cpu": agreement(there, here),
    }


def released(loaded: tuple[Any, Any], mine: Samples, device: str) -> dict[str, float]:
    """Samples per second of the released way, and seconds of projecting sixteen of its gradients."""
    peer = Released(*loaded, device)
    seconds = timed(lambda: peer.run(peer.prepare(mine), project=False), device)
    gradients = torch.randn(16, peer.size, device=device, dtype=next(peer.model.parameters()).dtype)
    projection = timed(lambda: block_projection(gradients), device) / 16
    return {
        "samples_per_second": len(mine) / seconds,
        "projection_seconds_per_sample": projection,
        "samples_per_second_with_projection": 1 / (seconds / len(mine) + projection),
    }


def block_projection(gradients: torch.Tensor, block: int = 128) -> torch.Tensor:
    """A dense Rademacher projection in blocks of columns that are made anew, as the released way's package does."""
    parts = []
    for _ in range(DIMENSION // block):
        signs = torch.empty(gradients.shape[1], block, device=gradients.device, dtype=gradients.dtype)
        signs.bernoulli_(0.5).mul_(2).sub_(1)
        parts.append(gradients @ signs)
    return torch.cat(parts, 1)


def measure(shape: Shape, device: str, count: int, small: bool, tokens: int) -> dict[str, Any]:
    dtype = torch.float32 if small else torch.bfloat16
    report: dict[str, Any] = {"device": _device_name(device), "dtype": str(dtype), "torch": torch.__version__}
    report["matrix_flops"] = matrix_rate(device, dtype, 512 if small else 8192)
    with tempfile.TemporaryDirectory() as folder:
        mine = samples(Path(folder), shape, text_lengths(count, small), response=48)
        loaded = processor(shape), build(shape, device, dtype)
        batches = planned(mine, SAMPLES_PER_BATCH, tokens)
        for kind in ("forward", "profile"):
            report[kind] = speed(
                shape, Ours(loaded, device, kind == "profile"), batches, report["matrix_flops"], device
            )
            _say(report)
        few = mine[: min(count, 16)]
        peer = with_adapter(loaded[1], shape)
        report["released"] = released((loaded[0], peer), few, device)
        peer.unload()
        report["precision"] = precision(loaded, few, device)
        for kind in ("forward", "profile"):  # the model is fused now
            report[f"fused {kind}"] = speed(
                shape, Ours(loaded, device, kind == "profile", fuse=True), batches, report["matrix_flops"], device
            )
            _say(report)
    theirs = report["released"]["samples_per_second_with_projection"]
    report["vs_released"] = report["fused profile"]["samples_per_second"] / theirs
    return report


def speed(shape: Shape, ours: "Ours", batches: list[Samples], rate: float, device: str) -> dict[str, float]:
    """Samples per second with everything prepared and from disk, the share of the matrix rate by the count on paper, and GB."""
    mine = [sample for batch in batches for sample in batch]
    paper = [Lengths(one["length"] - shape.image_tokens, one["response"], shape.image_tokens) for one in mine]
    prepared = ours.prepared(batches)
    _reset_peak(device)
    seconds = timed(partial(ours.run, prepared), device)
    flops = sum(profile(shape, one, sides(DIMENSION)) if ours.everything else forward(shape, one) for one in paper)
    return {
        "batches": len(batches),
        "samples_per_second": len(mine) / seconds,
        "share_of_matrix_rate": flops / seconds / rate,
        "peak_gb": _peak(device),
        "samples_per_second_end_to_end": len(mine) / timed(partial(ours.end_to_end, batches), device, warm=False),
    }


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else "cpu"


def _reset_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def _peak(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if device.startswith("cuda") else 0.0


def _say(report: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="a tiny model instead of 7 billion parameters")
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=16384, help="of a batch, padding included")
    parser.add_argument("--json", type=Path, help="file for the report")
    options = parser.parse_args()
    shape = TINY if options.small else LLAVA_7B
    report = measure(shape, options.device, options.samples, options.small, options.tokens)
    _say(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
