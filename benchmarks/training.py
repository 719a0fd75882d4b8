"""How fast a LoRA is trained: LiIT's loop beside `transformers.Trainer` with PEFT and TRL's `SFTTrainer`, in one run.

    python benchmarks/training.py [--threads 2] [--json FILE]        # a tiny LLaVA and its language model alone, float32
    python benchmarks/training.py --apart                            # what each measure brings
    python benchmarks/training.py --large --json FILE                # LLaVA-1.5-7B's shape in bfloat16; without Ray and pydantic

The same samples, LoRA, global batch and precision. A first round without dropout warms up and compares losses: the same samples
in each step must give the same. Then rounds are interleaved, and figures are medians. Memory is the peak above what was held
before.
"""

import argparse
import ctypes
import gc
import importlib.util
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyarrow as pa
import torch
from flops import Lengths, training
from gpu import matrix_rate, text_lengths
from rich.console import Console
from rich.table import Table
from tiny_llava import LLAVA_7B, Shape, mixed_lengths, samples, save_language_model, save_model, spoken
from trainers import Ours, Task, Theirs, TheirSft, Without, drop

from liit.engine.data.rows import write_rows
from liit.engine.run.tables import SAMPLE

CLOSE = 2e-3
"""Relative: Trainer rounds the losses that it tells to four digits."""
Makers = dict[str, Callable[[], Any]]
console = Console(width=110)


def task(folder: Path, shape: Shape, mine: list[dict[str, Any]], options: argparse.Namespace) -> Task:
    """The model, saved, and the samples as rows of a training."""
    save, device = (save_model, save_language_model)[not mine[0]["images"]], options.device
    save(folder / "model", shape)
    nothing = dict.fromkeys(SAMPLE.names) | {"dataset": "d", "arrival": 1}
    rows = [nothing | {name: one[name] for name in SAMPLE.names if name in one} for one in mine]
    write_rows(folder / "rows.arrow", [pa.Table.from_pylist(rows, schema=SAMPLE)])
    dtype = "bfloat16" if options.large else "float32"
    model, data = folder / "model", folder / "rows.arrow"
    return Task(model, data, shape.rank, options.batch, device=device, dtype=dtype, checkpointing=options.checkpointing)


def makers(of: Task, options: argparse.Namespace, text: bool) -> Makers:
    """Everyone, each made when it is called."""
    sizes = {"micro_batch_size": options.batch, "micro_batch_tokens": options.tokens}
    found: Makers = {"LiIT": partial(Ours, of, options.deepspeed, **sizes)}
    if options.apart:
        left_out = {f"LiIT without {of_it}": of_it for of_it in Without.MEASURES}
        return found | {
            name: partial(Without, of_it, of, options.deepspeed, **sizes) for name, of_it in left_out.items()
        }
    for micro in options.micro:
        found[f"Trainer, {micro}"] = partial(Theirs, of, micro)
        if importlib.util.find_spec("trl"):
            found[f"SFTTrainer, {micro}"] = partial(TheirSft, of, micro)
    if text and importlib.util.find_spec("trl"):
        found["SFTTrainer, packed"] = partial(TheirSft, of, options.micro[0], packed=options.tokens)
    return found


def compare(everyone: Makers, repeats: int, device: str) -> dict[str, dict[str, Any]]:
    """Seconds of a pass over all samples, peak memory, and the losses without dropout."""
    trainers = {name: make() for name, make in everyone.items()}
    found: dict[str, dict[str, Any]] = {}
    for name, one in trainers.items():
        drop(one.model, 0.0)
        found[name] = {"losses": one.run(), "seconds": [], "memory": []}
        drop(one.model, 0.05)
    expected = found["LiIT"]["losses"]
    for name, of in found.items():
        same = "packed" in name or all(
            abs(a - b) <= CLOSE * abs(b) for a, b in zip(of["losses"], expected, strict=True)
        )
        assert same, f"{name} trains something else: {of['losses']} are not {expected}"
    for _ in range(repeats):
        for name, one in trainers.items():
            held, began = reset_peak(device), time.perf_counter()
            one.run()
            found[name]["seconds"].append(time.perf_counter() - began)
            found[name]["memory"].append(peak(device) - held)
    return found


def reset_peak(device: str) -> float:
    """GB that are held now; the peak is counted from here."""
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 1e9
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what others have left behind hides the peak
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() / 1e9
    return _status("VmHWM")


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024 / 1e9


def figures(
    found: dict[str, dict[str, Any]], mine: list[dict[str, Any]], shape: Shape, rate: float
) -> dict[str, dict[str, float]]:
    image = shape.image_tokens if mine[0]["images"] else 0
    flops = sum(training(shape, Lengths(one["length"] - image, one["response"], image)) for one in mine)
    tokens = sum(one["length"] for one in mine)
    report = {}
    for name, of in found.items():
        seconds = statistics.median(of["seconds"])
        report[name] = {
            "samples_per_second": len(mine) / seconds,
            "tokens_per_second": tokens / seconds,
            "share_of_matrix_rate": flops / seconds / rate,
            "peak_gb": max(of["memory"]),
        }
    return report


def ratio(report: dict[str, dict[str, float]]) -> float:
    """LiIT to the better peer, or to itself with a measure left out."""
    rates = {name: of["samples_per_second"] for name, of in report.items()}
    return rates.pop("LiIT") / max(rates.values())


def say(title: str, report: dict[str, dict[str, float]]) -> None:
    table = Table(title=f"{title}: LiIT to the better peer {ratio(report):.2f}")
    for column in ("", "samples/s", "tokens/s", "share of the matrix rate", "peak GB"):
        table.add_column(column, justify="right" if column else "left")
    for name, of in report.items():
        table.add_row(name, *(f"{value:.3g}" for value in of.values()))
    console.print(table)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--large", action="store_true", help="LLaVA-1.5-7B's shape, on a GPU")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=2, help="torch threads, the same for all")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16, help="samples of an optimizer step")
    parser.add_argument(
        "--micro", type=int, nargs="+", default=[4, 8], help="samples per forward of the peers, each tried"
    )
    parser.add_argument("--tokens", type=int, default=2048, help="tokens per forward of LiIT, and of a packed row")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="+", default=["llava", "text"], choices=["llava", "text"])
    parser.add_argument("--apart", action="store_true", help="no peers: LiIT beside itself with one measure left out")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    options.deepspeed = importlib.util.find_spec("deepspeed") is not None and not options.large
    return options


def main() -> None:
    options = parsed()
    torch.set_num_threads(options.threads)
    alone = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=alone, rank=0, world_size=1)
    shape = LLAVA_7B if options.large else Shape()
    count = options.samples
    lengths = {"equal": [64] * count, "mixed": text_lengths(count, False) if options.large else mixed_lengths(count)}
    dtype = torch.bfloat16 if options.large else torch.float32
    report: dict[str, Any] = {
        "matrix_flops": max(matrix_rate(options.device, dtype, 8192 if options.large else 1024) for _ in range(5))
    }
    for model in options.models:
        for kind, of in lengths.items():
            with tempfile.TemporaryDirectory() as folder:
                mine = samples(Path(folder) / "images", shape, of, response=24)
                mine = spoken(mine, shape) if model == "text" else mine
                one = task(Path(folder), shape, mine, options)
                found = compare(makers(one, options, model == "text"), options.repeats, options.device)
            title = f"{model}, {kind} lengths"
            report[title] = figures(found, mine, shape, report["matrix_flops"])
            report[f"{title}: to the better peer"] = ratio(report[title])
            say(title, report[title])
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
