"""What Ray costs and gives: one actor against the same loop in process, two actors against one, 50,000 samples against 5,000.

    python benchmarks/scaling.py [--json FILE]

A 2-layer model of hidden size 64. Rates are of the steady state: from the part file that ends the third tenth, when every actor
has long started, to the one that ends the nineteenth twentieth. Every measurement is a process of its own; memory is the peak of
the driver's resident pages and of /dev/shm, where Ray keeps objects. Takes about five minutes.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

FEW, MANY, REPEATS = 5_000, 50_000, 3
PER_BATCH = 32
IMAGES = 256
console = Console(width=110)


def prepare(folder: Path, count: int) -> None:
    """The model, and a release and a pool of so many samples."""
    from tiny_llava import samples

    from liit.engine.fleet.parts import rows_of_a_part
    from liit.engine.run.files import write_table
    from liit.engine.run.tables import POOL, SAMPLE, key_of, sort_by_key

    shape = small_shape()
    rng = np.random.default_rng(0)
    base = samples(folder / "images", shape, [int(length) for length in rng.integers(24, 40, IMAGES)], response=8)
    extra = {"dataset": "scaling", "arrival": 0, "task": None, "references": []}
    rows = []
    for index in range(count):
        name = f"scaling/{index}"
        rows.append({**base[index % IMAGES], **extra, "id": name, "key": key_of(name)})
    table = sort_by_key(pa.Table.from_pylist(rows, schema=SAMPLE))
    pq.write_table(table, folder / f"release-{count}.parquet", row_group_size=rows_of_a_part(count))
    write_table(folder / f"pool-{count}.parquet", table.select(POOL.names))


def small_shape() -> Any:
    from tiny_llava import Shape

    return Shape(layers=2, hidden=64, intermediate=172, vocabulary=1024, image_side=16, patch=4, rank=8)


def child(folder: Path, count: int, actors: int) -> dict[str, float]:
    """One measurement: no actor is the loop in process."""
    import torch

    torch.set_num_threads(1)
    began = time.monotonic()
    shared = _Shared()
    rate = in_process(folder, count) if actors == 0 else through_ray(folder, count, actors)
    return {
        "rate": rate,
        "seconds": time.monotonic() - began,
        "driver_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "objects_mb": shared.stop() / 1e6,
    }


def settings(folder: Path, actors: int) -> Any:
    from liit.engine.settings.config import read

    return read(
        None,
        [
            f"model.path={folder}",
            "model.max_length=512",
            f"scoring.samples_per_batch={PER_BATCH}",
            "scoring.gradient.dimension=1024",
            "scoring.embedding=64",
            f"resources.actors={max(actors, 1)}",
            "resources.cpus_per_actor=0.45",
            "resources.num_cpus=2",
        ],
    )


def spec_of(config: Any) -> Any:
    from liit.engine.scoring.specification import profiler_spec

    return profiler_spec(config, None, ("nll", "el2n", "entropy", "image_grounding"), ("sketch", "embedding"))


def in_process(folder: Path, count: int) -> float:
    """Samples per second of the same worker over the same planned batches, part files included."""
    from liit.engine.fleet.parts import Batches, tasks_of
    from liit.engine.scoring.scoring import ProfileWorker

    config = settings(folder, 0)
    from dataclasses import asdict

    worker = ProfileWorker(asdict(spec_of(config)), "benchmark")
    release = folder / f"release-{count}.parquet"
    tasks = tasks_of([release], pq.read_table(release, columns=["key"])["key"].to_numpy())
    batches = Batches(PER_BATCH, config.scoring.tokens_per_batch)
    times, rows = [], []
    with tempfile.TemporaryDirectory() as out:
        for task in tasks:
            parts = [worker(worker.prepare(batch)) for batch in batches(**task.what)]
            pq.write_table(pa.concat_tables(parts), Path(out) / f"{task.name}.parquet", compression="none")
            times.append(time.time())
            rows.append(sum(len(part) for part in parts))
    return steady(times, rows)


def through_ray(folder: Path, count: int, actors: int) -> float:
    from liit.engine.run.store import Clock
    from liit.engine.scoring.scoring import score

    config = settings(folder, actors)
    with tempfile.TemporaryDirectory() as out:
        profile = Path(out) / "profile"
        files = [folder / f"release-{count}.parquet"], folder / f"pool-{count}.parquet", Path(out) / "none"
        score(
            *files,
            spec_of(config),
            config,
            profile,
            Path(out) / "quarantine.parquet",
            "score",
            Clock(Path(out) / "clock", {}),
        )
        parts = sorted(profile.glob("*.parquet"), key=lambda part: part.stat().st_mtime)
        return steady([part.stat().st_mtime for part in parts], [pq.read_metadata(part).num_rows for part in parts])


def steady(times: list[float], rows: list[int]) -> float:
    first, last = len(times) * 3 // 10, len(times) * 19 // 20
    return sum(rows[first + 1 : last + 1]) / (times[last] - times[first])


class _Shared:
    """The most bytes of /dev/shm in use, above what was there before."""

    def __init__(self) -> None:
        self.before, self.peak, self.running = _shm(), 0, True
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while self.running:
            self.peak = max(self.peak, _shm() - self.before)
            time.sleep(0.2)

    def stop(self) -> int:
        self.running = False
        self.thread.join()
        return self.peak


def _shm() -> int:
    usage = os.statvfs("/dev/shm")
    return (usage.f_blocks - usage.f_bfree) * usage.f_frsize


def measure(folder: Path, count: int, actors: int) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", __file__, "--child", str(folder), str(count), str(actors)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    where = "in process" if actors == 0 else f"{actors} actor{'s' if actors > 1 else ''}"
    memory = f"driver {found['driver_mb']:.0f} MB, objects {found['objects_mb']:.0f} MB"
    console.print(f"{where}, {count:,} samples: {found['rate']:.0f} samples/s, {memory}")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        folder, count, actors = options.child
        sys.stdout.write(json.dumps(child(Path(folder), int(count), int(actors))) + "\n")
        return
    from tiny_llava import save_model

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder, small_shape())
        for count in (FEW, MANY):
            prepare(folder, count)
        runs: dict[int, list[dict[str, float]]] = {0: [], 1: [], 2: []}
        for _ in range(REPEATS):
            for actors, found in runs.items():
                found.append(measure(folder, FEW, actors))
        many = measure(folder, MANY, 2)
    rate = {actors: statistics.median(one["rate"] for one in found) for actors, found in runs.items()}
    few = {name: statistics.median(one[name] for one in runs[2]) for name in ("driver_mb", "objects_mb")}
    memory = {count: one["driver_mb"] + one["objects_mb"] for count, one in ((FEW, few), (MANY, many))}
    summary = {
        "ray_vs_inprocess": rate[1] / rate[0],
        "two_actors_vs_one": rate[2] / rate[1],
        "memory_growth": memory[MANY] / memory[FEW],
        "time_per_sample_growth": rate[2] / many["rate"],
    }
    for label, value in summary.items():
        console.print(f"{label}: {value:.2f}×")
    if options.json:
        figures = {**summary, "rates": {str(actors): value for actors, value in rate.items()}, "many": many, "few": few}
        options.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
