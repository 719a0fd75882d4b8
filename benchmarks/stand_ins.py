"""In place of a model: numbers made from the key of each sample, so that all else of a run can be measured at any size.

Sketches lie around `CENTRES` directions, as gradients of tasks do; scores are spread evenly. A mark of the moment at which a
worker begins is left in the folder that `MARKS` names. Shapes: n samples of a batch, D dimensions.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from liit.engine.data import ingest
from liit.engine.data.reading import SplitReader
from liit.engine.run.profiles import packed
from liit.engine.scoring.profile_spec import ProfilerSpec

MARKS = "LIIT_MILLIONS_MARKS"
CENTRES, SPREAD = 24, 0.6


def mark_the_first() -> None:
    """A worker has its first batch."""
    if folder := os.environ.get(MARKS):
        (Path(folder) / f"{time.time_ns()}-{os.getpid()}").touch()


def first_mark(since: float) -> float | None:
    """Seconds from a moment of `time.time` to the first batch of any worker after it."""
    marks = [int(mark.name.partition("-")[0]) / 1e9 for mark in Path(os.environ[MARKS]).iterdir()]
    return min((mark - since for mark in marks if mark >= since), default=None)


def mixed(x: np.ndarray) -> np.ndarray:
    """SplitMix64's output function: 64 bits that look like chance."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def score_of(keys_n: np.ndarray, number: int) -> np.ndarray:
    """(n,) float32 in [0, 1)."""
    return (mixed(keys_n + np.uint64(number + 1)) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)


def vectors_of(keys_n: np.ndarray, width: int) -> np.ndarray:
    """(n, D) float16."""
    centre_KD = np.random.default_rng(width).normal(size=(CENTRES, width)).astype(np.float32)
    own_n = mixed(keys_n) % np.uint64(CENTRES)
    bits_nD = mixed(keys_n[:, None] + np.arange(1, width + 1, dtype=np.uint64)) >> np.uint64(48)
    noise_nD = bits_nD.astype(np.float32) / np.float32(1 << 15) - 1
    rows: np.ndarray = (centre_KD[own_n] * (1 - SPREAD) + SPREAD * noise_nD).astype(np.float16)
    return rows


def profiled(ids: pa.Array, keys_n: np.ndarray, spec: ProfilerSpec, model: str) -> pa.Table:
    """Profile rows, as `scoring.profile_table` has them."""
    count = len(keys_n)
    columns: dict[str, Any] = {
        "id": ids,
        "key": pa.array(keys_n),
        "n_tokens": pa.array(np.full(count, 40, np.int32)),
        "n_response_tokens": pa.array(np.full(count, 8, np.int32)),
        "model": pa.array([model] * count, pa.string()),
        "status": pa.array(["ok"] * count, pa.string()),
    }
    for number, name in enumerate(spec.scores):
        columns[name] = pa.array(score_of(keys_n, number))
    for name in spec.vectors:
        width = spec.sketches[name].size if name in spec.sketches else spec.embedding
        columns[name] = packed(vectors_of(keys_n, width))
    return pa.table(columns)


class Scored:
    """The scoring worker without a model."""

    def __init__(self, spec: dict[str, Any], model: str) -> None:
        self.spec, self.model = ProfilerSpec.of(spec), model
        self.begun = False

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> pa.Table:
        if not self.begun:
            mark_the_first()
            self.begun = True
        keys_n = np.array([sample["key"] for sample in samples], np.uint64)
        ids = pa.array([sample["id"] for sample in samples], pa.string())
        return profiled(ids, keys_n, self.spec, self.model)


class Read(SplitReader):
    """The reader of splits, and a mark of when it began."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        mark_the_first()


class Written(ingest.PartWriter):
    """The checks of ingest with one token for every four characters: images are decoded and hashed, nothing is tokenized."""

    def __init__(self, *_: object, **__: object) -> None:
        setattr(ingest, "encode", encoded)  # noqa: B010 - of this process, which is a worker's
        self.checker = Checked()
        mark_the_first()


class Checked(ingest.Checker):
    def __init__(self) -> None:
        self.processor, self.max_length = None, 1 << 30


def encoded(_: object, conversation: Sequence[Mapping[str, Any]], *__: object) -> SimpleNamespace:
    return SimpleNamespace(input_ids=range(sum(len(turn["text"]) for turn in conversation) // 4 + 1), notes=())


def trained(job: Any, follow: Callable[[int, int, float], None]) -> None:
    """An adapter folder that nobody loads."""
    folder = Path(job.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps({"made": job.name}))
    follow(1, 1, 0.0)


class Answered:
    """The answering worker without a model."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> pa.Table:
        ids = [sample["id"] for sample in samples]
        return pa.table({"id": pa.array(ids, pa.string()), "answer": pa.array([str(one)[-1] for one in ids])})
