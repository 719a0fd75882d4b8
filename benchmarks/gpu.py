"""Scoring with LLaVA-1.5-7B's architecture on one GPU: samples per second, and the share of what the card can do.

    python benchmarks/gpu.py --json FILE            # at most 8 minutes; needs torch, transformers and peft only
    python benchmarks/gpu.py --small --device cpu   # the same on a tiny model, to see that it runs

Random weights in bfloat16, 576 image tokens, text lengths as LLaVA's. FLOPs are counted on paper (`flops.py`), and the matrix
rate is measured in the same run. The batch is halved until it fits. The released way (batch one, a backward through every LoRA
layer, a second full forward) runs beside it, its projection to 8,192 timed apart.
"""

import argparse
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
from flops import Lengths, forward, profile
from peers import Released
from tiny_llava import LLAVA_7B, Shape, configuration, processor, samples, with_adapter
from transformers import LlavaForConditionalGeneration

from liit.engine.profile_spec import ProfilerSpec
from liit.engine.profiler import Prepared, Profiler
from liit.engine.projections import sides
from liit.engine.sketch_spec import SketchSpec

Samples = list[dict[str, Any]]
DIMENSION = 8192
LOADERS = 8
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


def timed(work: Callable[[], object], device: str, repeats: int = 1) -> float:
    """Seconds of one call, after one that warms up."""
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


def batches_of(mine: Samples, size: int) -> list[Samples]:
    ordered = sorted(mine, key=lambda sample: sample["length"])
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def largest_batch(run: Callable[[int], object], device: str, limit: int) -> int:
    """The largest power of two that fits; an out-of-memory halves it and goes on."""
    size = limit
    while size > 1:
        try:
            run(size)
            return size
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            size //= 2
    return size


class Ours:
    def __init__(self, loaded: tuple[Any, Any], device: str, dtype: str, everything: bool) -> None:
        scores = SCORES if everything else ("nll",)
        vectors = ("sketch", "embedding") if everything else ()
        sketches = {"sketch": SketchSpec(dimension=DIMENSION)}
        spec = ProfilerSpec(
            model="llava", dtype=dtype, max_length=4096, scores=scores, vectors=vectors, sketches=sketches
        )
        self.profiler = Profiler(spec, device, loaded)

    def prepared(self, mine: Samples, size: int) -> list[Prepared]:
        with ThreadPoolExecutor(LOADERS) as threads:
            return list(threads.map(self.profiler.prepare, batches_of(mine, size)))

    def run(self, prepared: Sequence[Prepared]) -> None:
        for one in prepared:
            rows = self.profiler.run(one)
            assert all(row.status == "ok" for row in rows), rows[0].status

    def end_to_end(self, mine: Samples, size: int) -> None:
        """Images from disk and all, read ahead by threads as a scoring actor does."""
        with ThreadPoolExecutor(LOADERS) as threads:
            for one in threads.map(self.profiler.prepare, batches_of(mine, size)):
                self.profiler.run(one)


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


def measure(shape: Shape, device: str, count: int, small: bool, limit: int) -> dict[str, Any]:
    dtype = torch.float32 if small else torch.bfloat16
    name = str(dtype).removeprefix("torch.")
    report: dict[str, Any] = {"device": _device_name(device), "dtype": name, "torch": torch.__version__}
    report["matrix_flops"] = matrix_rate(device, dtype, 512 if small else 8192)
    with tempfile.TemporaryDirectory() as folder:
        mine = samples(Path(folder), shape, text_lengths(count, small), response=48)
        paper = [Lengths(one["length"] - shape.image_tokens, one["response"], shape.image_tokens) for one in mine]
        loaded = processor(shape), build(shape, device, dtype)
        for kind in ("forward", "profile"):
            report[kind] = share(shape, loaded, mine, paper, kind == "profile", device, name, limit)
            report[kind]["share_of_matrix_rate"] /= report["matrix_flops"]
            _say(report)
        few = mine[: min(count, 16)]
        report["released"] = released((loaded[0], with_adapter(loaded[1], shape)), few, device)
    report["vs_released"] = report["profile"]["samples_per_second"] / report["released"]["samples_per_second"]
    return report


def share(
    shape: Shape,
    loaded: tuple[Any, Any],
    mine: Samples,
    paper: Sequence[Lengths],
    everything: bool,
    device: str,
    dtype: str,
    limit: int,
) -> dict[str, float]:
    """Samples per second of the forward alone or of everything; FLOP/s by the count on paper; peak memory."""
    ours = Ours(loaded, device, dtype, everything)
    longest = sorted(mine, key=lambda sample: int(sample["length"]))
    size = largest_batch(lambda size: ours.run(ours.prepared(longest[-size:], size)), device, limit)
    prepared = ours.prepared(mine, size)
    _reset_peak(device)
    seconds = timed(partial(ours.run, prepared), device)
    flops = sum(profile(shape, one, sides(DIMENSION)) if everything else forward(shape, one) for one in paper)
    found = {
        "batch": float(size),
        "samples_per_second": len(mine) / seconds,
        "share_of_matrix_rate": flops / seconds,
        "peak_gb": _peak(device),
    }
    if everything:
        found["samples_per_second_end_to_end"] = len(mine) / timed(partial(ours.end_to_end, mine, size), device)
    return found


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
    parser.add_argument("--largest", type=int, default=64, help="batch to try first")
    parser.add_argument("--json", type=Path, help="file for the report")
    options = parser.parse_args()
    shape = Shape(layers=4, hidden=64, intermediate=172, vocabulary=512) if options.small else LLAVA_7B
    report = measure(shape, options.device, options.samples, options.small, options.largest)
    _say(report)
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
