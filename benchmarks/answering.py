"""How fast a model answers: the adapter in its weights or apart, batches by count or by tokens, continuous batching.

    python benchmarks/answering.py [--threads 2] [--prompts 64] [--json FILE]

Everyone has the same tokenized prompts of mixed lengths, whose answers end at mixed lengths: each has a limit of its own, and a
plain batch goes on until its longest has ended, as it does where answers end by themselves. `transformers` has continuous
batching of its own (`ContinuousBatchingManager`), for text alone, where what has ended makes room at once. Runs are interleaved,
and figures are medians of three. On a GPU where there is one.
"""

import argparse
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from rich.console import Console
from rich.table import Table
from tiny_llava import Shape, configuration, mixed_lengths, processor
from transformers import GenerationConfig, LlamaForCausalLM
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from liit.engine.evaluation.answering import write_answers
from liit.engine.evaluation.merging import merge_into
from liit.engine.fleet.batching import plan
from liit.engine.models.encoding import Encoded, tokenizer_of
from liit.engine.models.loading import load_model, load_processor

REPEATS = 3
LONGEST = 64
"""Tokens of an answer; the median has 12."""
MOST = 256
"""Of a prompt; the median has 64."""
PAGES = (16, 256)
"""Tokens of a page of the cache of continuous batching, of which the better counts."""
console = Console(width=110)
Answers = dict[int, str]


def save(folder: Path) -> None:
    """A language model of random weights with its tokenizer, and beside it in `adapter` a LoRA of every linear."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(configuration(Shape()).text_config)
    model.save_pretrained(folder)
    tokenizer_of(processor(Shape())).save_pretrained(folder)
    every = LoraConfig(r=16, lora_alpha=32, init_lora_weights=False, target_modules="all-linear")
    get_peft_model(model, every).save_pretrained(folder / "adapter")


def asked(count: int) -> tuple[list[Encoded], np.ndarray]:
    """Prompts of mixed lengths, and how many tokens each one's answer has."""
    rng, vocabulary = np.random.default_rng(0), Shape().vocabulary
    lengths = [min(length, MOST) for length in mixed_lengths(count)]
    drawn = [torch.from_numpy(rng.integers(6, vocabulary, length)) for length in lengths]
    prompts = [Encoded(ids, torch.zeros(len(ids), dtype=torch.bool)) for ids in drawn]
    limits = np.clip(np.exp(rng.normal(np.log(12), 1.0, count)), 1, LONGEST).astype(int)
    return prompts, limits


def in_batches(model: Any, reader: Any, prompts: Sequence[Encoded], limits: np.ndarray, batch_N: np.ndarray) -> Answers:
    """As evaluation does it, batch by batch."""
    found: Answers = {}
    for number in np.unique(batch_N):
        rows = np.flatnonzero(batch_N == number).tolist()
        said = write_answers(model, reader, [prompts[row] for row in rows], limits[rows].tolist())
        found.update(zip(rows, said, strict=True))
    return found


def continuously(model: Any, reader: Any, prompts: Sequence[Encoded], limits: np.ndarray, page: int) -> Answers:
    """All at once, by the scheduler of transformers; the cache has room for every prompt and answer."""
    tokens = sum(-(-(len(one.input_ids) + LONGEST) // page) * page for one in prompts)
    told = ContinuousBatchingConfig(page_size=page, num_blocks=tokens // page + 1, max_batch_tokens=4096)
    generation = GenerationConfig(do_sample=False, max_new_tokens=LONGEST, eos_token_id=2, pad_token_id=0)
    found: Answers = {}
    with model.continuous_batching_context_manager(generation, continuous_batching_config=told) as manager:
        for row, (one, limit) in enumerate(zip(prompts, limits.tolist(), strict=True)):
            manager.add_request(one.input_ids.tolist(), request_id=str(row), max_new_tokens=limit)
        while len(found) < len(prompts):
            done = manager.get_result(timeout=60)
            assert done is not None, "continuous batching says nothing for a minute"
            if done.is_finished():
                text = reader.decode(done.generated_tokens, skip_special_tokens=True).strip()
                found[int(done.request_id)] = text
    return found


def plans(prompts: Sequence[Encoded]) -> dict[str, np.ndarray]:
    """Batches (N,) of every way to plan them."""
    lengths = np.array([len(one.input_ids) for one in prompts])
    keys, room = np.arange(len(prompts), dtype=np.uint64), lengths + LONGEST
    found = {"as they come, 16 each": np.arange(len(prompts)) // 16, "by length, 16 each": plan(keys, room, 16, 10**9)}
    return found | {f"by length, {tokens} tokens": plan(keys, room, 10**9, tokens) for tokens in (4096, 16384)}


def compare(folder: Path, count: int) -> tuple[dict[str, float], dict[str, float]]:
    """Answers per second of each way, and the share of its answers that are those of one at a time."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    reader, (prompts, limits) = load_processor(str(folder)), asked(count)
    apart: Any = load_model(str(folder), adapter=str(folder / "adapter")).to(device)
    merged = merge_into(load_model(str(folder)), folder / "adapter")[0].to(device)
    runs: dict[str, Callable[[], Answers]] = {}
    for name, batch_N in plans(prompts).items():
        runs[f"merged, {name}"] = partial(in_batches, merged, reader, prompts, limits, batch_N)
    runs[f"apart, {name}"] = partial(in_batches, apart, reader, prompts, limits, batch_N)
    for page in PAGES:
        other = merge_into(load_model(str(folder)), folder / "adapter")[0].to(device)  # its attention is switched
        runs[f"continuous, pages of {page}"] = partial(continuously, other, reader, prompts, limits, page)
    alone = in_batches(merged, reader, prompts, limits, np.arange(count))
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    same: dict[str, float] = {}
    for _ in range(REPEATS + 1):  # the first warms up
        for name, work in runs.items():
            began = time.perf_counter()
            found = work()
            seconds[name].append(time.perf_counter() - began)
            same[name] = sum(found[row] == alone[row] for row in alone) / count
    return {name: count / statistics.median(taken[1:]) for name, taken in seconds.items()}, same


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2, help="torch threads, the same for all")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        found, same = compare(Path(folder), options.prompts)
    table = Table("", "answers per second", "as one at a time")
    for name, rate in found.items():
        table.add_row(name, f"{rate:.1f}", f"{same[name]:.0%}")
    console.print(table)
    plain, own = (max(rate for name, rate in found.items() if name.startswith(of)) for of in ("merged", "continuous"))
    console.print(f"continuous batching / plain batches, each at its best: {own / plain:.2f}×")
    if options.json:
        told = {"continuous_vs_plain": own / plain, "rates": found, "same": same}
        options.json.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
