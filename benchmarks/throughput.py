"""How fast a sample is scored: LiIT beside plain batched Hugging Face and beside the released way, in one run.

    python benchmarks/throughput.py [--threads 2] [--json FILE]

Everyone starts from the same samples on disk and ends with their scores; peers run at their best of batch 8, 16 and 32; runs are
interleaved, and figures are medians of three. The released way needs `pip install traker` (the `benchmark` extra).
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from peers import Plain, Released
from rich.console import Console
from rich.table import Table
from tiny_llava import Shape, mixed_lengths, planned, samples, save_model

from liit.engine.models import loading
from liit.engine.scoring import profiler
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Prepared, Profiler
from liit.engine.settings.specs import SketchSpec

REPEATS = 3
BATCHES = (8, 16, 32)
RELEASED_SAMPLES = 16
Samples = list[dict[str, Any]]
console = Console(width=110)


class Ours:
    """The profiler over planned batches: every score, the sketch at 8,192 and the embedding."""

    def __init__(self, model: str, adapter: str) -> None:
        scores = ("nll", "el2n", "entropy", "image_grounding", "grad_norm")
        sketches = {"sketch": SketchSpec(dimension=8192)}
        spec = ProfilerSpec(model=model, adapter=adapter, max_length=4096, scores=scores, sketches=sketches)
        self.profiler = Profiler(spec, "cpu")

    def run(self, prepared: Prepared) -> None:
        done = self.profiler.run(prepared)
        assert all(row.status == "ok" for row in done), done[0].status


def chunks(mine: Samples, size: int) -> list[Samples]:
    return [mine[start : start + size] for start in range(0, len(mine), size)]


def rates(runs: dict[str, tuple[int, Callable[[], object]]]) -> dict[str, float]:
    """Samples per second of each, interleaved; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(REPEATS + 1):
        for name, (_, work) in runs.items():
            if round_ == 0 and "projection" in name:
                continue
            began = time.perf_counter()
            work()
            if round_:
                seconds[name].append(time.perf_counter() - began)
    return {name: runs[name][0] / statistics.median(taken) for name, taken in seconds.items()}


def compare(model: str, adapter: str, equal: Samples, mixed: Samples) -> dict[str, float]:
    processor = loading.load_processor(model)
    plain = Plain(processor, loading.load_model(model, adapter=adapter))
    released = Released(processor, loading.load_model(model, adapter=adapter))
    ours = Ours(model, adapter)
    few = [equal[:RELEASED_SAMPLES]]
    runs: dict[str, tuple[int, Callable[[], object]]] = {
        "released, with projection": (
            RELEASED_SAMPLES,
            partial(score, released.prepare, partial(released.run, project=True), few),
        ),
        "released": (RELEASED_SAMPLES, partial(score, released.prepare, partial(released.run, project=False), few)),
    }
    theirs, mine = partial(score, plain.prepare, plain.run), partial(score, ours.profiler.prepare, ours.run)
    for size in BATCHES:
        runs[f"plain, equal lengths, batch {size}"] = (len(equal), partial(theirs, chunks(equal, size)))
        runs[f"plain, mixed lengths, batch {size}"] = (len(mixed), partial(theirs, chunks(mixed, size)))
        runs[f"LiIT, equal lengths, batch {size}"] = (len(equal), partial(mine, planned(equal, size, 16384)))
        runs[f"LiIT, mixed lengths, batch {size}"] = (len(mixed), partial(mine, planned(mixed, size, 4096)))
    return rates(runs)


def score(prepare: Callable[[Samples], Any], run: Callable[[Any], object], batches: Sequence[Samples]) -> None:
    """Batch after batch; a thread reads and tokenizes ahead, as an actor does it."""
    with ThreadPoolExecutor(1) as loader:
        for prepared in loader.map(prepare, batches):
            run(prepared)


def best(found: dict[str, float], of: str) -> float:
    return max(rate for name, rate in found.items() if name.startswith(of))


def shares(model: str, adapter: str, equal: Samples, batch: int) -> dict[str, float]:
    """What each part takes of a pass: sketch, scores, embedding, and data loading: what the model waits for images and tokens."""
    ours, spent = Ours(model, adapter), dict.fromkeys(("sketch", "scores", "embedding", "run"), 0.0)

    def timed(part: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                spent[part] += time.perf_counter() - began

        return run

    for name, maker in ours.profiler._makers.items():
        ours.profiler._makers[name] = cast(Any, timed(name, maker))
    if ours.profiler._norm is not None:
        ours.profiler._norm.norm = timed("scores", ours.profiler._norm.norm)  # type: ignore[method-assign]
    batches = planned(equal, batch, 16384)
    score(ours.profiler.prepare, ours.run, batches[:1])
    with replaced("token_scores", timed("scores", profiler.token_scores)):
        spent.update(dict.fromkeys(spent, 0.0))
        began = time.perf_counter()
        score(ours.profiler.prepare, timed("run", ours.run), batches)
        whole = time.perf_counter() - began
    spent["data loading"] = whole - spent.pop("run")
    return {part: seconds / whole for part, seconds in spent.items()}


@contextmanager
def replaced(name: str, other: Any) -> Any:
    was = getattr(profiler, name)
    setattr(profiler, name, other)
    try:
        yield
    finally:
        setattr(profiler, name, was)


def say(found: dict[str, float], summary: dict[str, float], parts: dict[str, float]) -> None:
    table = Table(title="samples per second")
    table.add_column("")
    table.add_column("", justify="right")
    for name, rate in found.items():
        table.add_row(name, f"{rate:.2f}")
    console.print(table)
    for name, value in summary.items():
        console.print(f"{name}: {value:.3f}" if name == "overhead_share" else f"{name}: {value:.2f}×")
    console.print("of the pass: " + ", ".join(f"{part} {share:.1%}" for part, share in parts.items()))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="torch threads, the same for all")
    parser.add_argument("--samples", type=int, default=96, help="samples of each kind")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    shape = Shape()
    with tempfile.TemporaryDirectory() as folder:
        model, adapter = folder, f"{folder}/adapter"
        save_model(Path(folder), shape)
        equal = samples(Path(folder) / "equal", shape, [64] * options.samples, response=24)
        mixed = samples(Path(folder) / "mixed", shape, mixed_lengths(options.samples), response=24)
        found = compare(model, adapter, equal, mixed)
        parts = shares(model, adapter, equal, 16)
    ours = best(found, "LiIT, equal")
    summary = {
        "vs_released": ours / found["released, with projection"],
        "vs_released_without_projection": ours / found["released"],
        "vs_plain_hf_equal": ours / best(found, "plain, equal"),
        "vs_plain_hf_mixed": best(found, "LiIT, mixed") / best(found, "plain, mixed"),
        "overhead_share": sum(parts.values()),
    }
    say(found, summary, parts)
    if options.json:
        options.json.write_text(json.dumps({**summary, "rates": found, "shares": parts}, indent=2) + "\n")


if __name__ == "__main__":
    main()
