"""What a profile takes on disk, and how fast its vectors are written and read: beside a bare `.npy` and a Parquet list column.

    python benchmarks/storage.py [--json FILE]

8,192 samples with a sketch of 8,192 float16 numbers, 134 MB; everything stays in the system's cache, and interleaved runs give
medians of five.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from liit.engine.run.profiles import read_vectors
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Row
from liit.engine.scoring.scoring import profile_table
from liit.engine.settings.specs import SketchSpec

SAMPLES, DIMENSION, PARTS, REPEATS = 8192, 8192, 16, 5
SCORES = ("nll", "image_grounding", "el2n", "entropy")
ON_PAPER = 2 * DIMENSION + 4 * len(SCORES) + 8 + 2 * 4
"""Bytes of a sample: vector, scores, key and two counts. Its id, model and status are text."""
console = Console(width=110)


def profile_part(vectors_ND: np.ndarray, keys: np.ndarray) -> pa.Table:
    """As an actor makes it of its rows."""
    scores = dict.fromkeys(SCORES, 1.0)
    rows = [
        Row(f"{key:09d}", "ok", 9, 9, scores, {"sketch": vector}) for key, vector in zip(keys, vectors_ND, strict=True)
    ]
    spec = ProfilerSpec("", scores=SCORES, vectors=("sketch",), sketches={"sketch": SketchSpec(dimension=DIMENSION)})
    return profile_table([{"key": key} for key in keys], rows, spec, "model")


def write_profile(folder: Path, vectors_ND: np.ndarray, keys: np.ndarray) -> None:
    size = SAMPLES // PARTS
    for number in range(PARTS):
        part = slice(number * size, (number + 1) * size)
        table = profile_part(vectors_ND[part], keys[part])
        pq.write_table(table, folder / f"part-{number:07d}.parquet", compression="none", use_dictionary=False)


def write_list(file: Path, vectors_ND: np.ndarray) -> None:
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.ravel()), DIMENSION)
    pq.write_table(pa.table({"sketch": column}), file, compression="none", use_dictionary=False)


def read_list(file: Path) -> np.ndarray:
    column = pq.read_table(file)["sketch"].combine_chunks()
    rows: np.ndarray = column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
    return rows


def seconds(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(REPEATS):
        for name, work in works.items():
            began = time.perf_counter()
            work()
            taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(times) for name, times in taken.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args(arguments)
    vectors_ND = np.random.default_rng(0).standard_normal((SAMPLES, DIMENSION), np.float32).astype(np.float16)
    keys = np.random.default_rng(1).permutation(SAMPLES)  # parts are in the order of lengths, not of keys
    with tempfile.TemporaryDirectory() as out:
        folder, array, listed = Path(out) / "profile", Path(out) / "vectors.npy", Path(out) / "list.parquet"
        folder.mkdir()
        found = seconds(
            {
                "write profile": lambda: write_profile(folder, vectors_ND, keys),
                "write .npy": lambda: np.save(array, vectors_ND),
                "write list column": lambda: write_list(listed, vectors_ND),
                "read profile, sorted": lambda: read_vectors(folder, "sketch"),
                "read .npy": lambda: np.load(array),
                "read list column": lambda: read_list(listed),
            }
        )
        assert np.array_equal(read_vectors(folder, "sketch"), vectors_ND[np.argsort(keys)])
        bytes_per_sample = sum(part.stat().st_size for part in folder.iterdir()) / SAMPLES
    for name, time_ in found.items():
        console.print(f"{name}: {time_:.3f} s, {vectors_ND.nbytes / time_ / 1e9:.2f} GB/s")
    console.print(f"bytes per sample: {bytes_per_sample:,.0f}, on paper {ON_PAPER:,} and its texts")
    if options.json:
        figures = {"seconds": found, "bytes_per_sample": bytes_per_sample, "bytes_on_paper": ON_PAPER}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
