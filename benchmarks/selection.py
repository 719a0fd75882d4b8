"""Selection at the size of millions: time as a share of what the machine can do, memory above the inputs, cost against size.

    python benchmarks/selection.py [--json FILE]

Every step is a process of its own; vectors lie in files that are mapped. Matrix products are measured in the same process, just
before. Memory is the peak of resident pages above those at the start of the step. About 6 minutes on two cores, and 3 GB of disk.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from sklearn.cluster import MiniBatchKMeans

from liit.selectors.adapt import adapt_inf
from liit.selectors.clustering import cluster
from liit.selectors.coincide import spread
from liit.selectors.directions import directions
from liit.selectors.kmeans import assign, assign_all, lloyd, start
from liit.selectors.less import influence
from liit.selectors.protocol import Pool
from liit.selectors.redundancy import prune
from liit.selectors.semdedup import greedy

SKETCHES, WIDTH, EMBEDDING = 1_000_000, 1024, 512
TASKS = 200
GRID = range(5, 51)
REPEATS = 3
Figures = dict[str, Any]
console = Console(width=110)


def make_vectors(file: Path, n_rows: int, width: int) -> None:
    """Rows around the directions of some tasks, of which a few are much larger than the others; float16."""
    chance = np.random.default_rng(0)
    tasks = chance.standard_normal((TASKS, width), np.float32) / np.sqrt(width)
    share = 1 / np.arange(1, TASKS + 1)
    partial = file.with_suffix(".partial")
    rows = np.lib.format.open_memmap(partial, "w+", np.float16, (n_rows, width))
    for first in range(0, n_rows, 10_000):
        size = min(10_000, n_rows - first)
        noise = chance.standard_normal((size, width), np.float32) / np.sqrt(width)
        rows[first : first + size] = tasks[chance.choice(TASKS, size, p=share / share.sum())] + noise
    partial.rename(file)


def keys(n_rows: int) -> np.ndarray:
    return np.arange(n_rows, dtype=np.uint64)


def mapped(folder: Path, name: str, n_rows: int) -> np.ndarray:
    rows: np.ndarray = np.load(folder / name, mmap_mode="r")[:n_rows]
    return rows


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def matrix_rate() -> float:
    """Floating-point operations a second of a float32 matrix product."""
    square = np.random.default_rng(0).standard_normal((4096, 4096), np.float32)
    return 2 * 4096**3 / seconds(lambda: square @ square, 5)


@contextmanager
def peak(figures: Figures) -> Iterator[None]:
    """Adds `peak_gb`: resident pages at their most, looked at every 2 ms, less what was resident before."""
    before, most, over = resident(), [0.0], threading.Event()

    def look() -> None:
        while not over.wait(0.002):
            most[0] = max(most[0], resident())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()
    figures["peak_gb"] = (most[0] - before) / 1e9


def resident() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * resource.getpagesize())


def sweep(largest: int, work: Callable[[int], object]) -> Figures:
    """Seconds at four sizes, each twice the one before, and the slope of their logarithms."""
    sizes = [largest // 8, largest // 4, largest // 2, largest]
    work(sizes[0])  # what is done once is not of the slope
    taken = {size: seconds(lambda size=size: work(size), 1) for size in sizes}  # type: ignore[misc]
    slope = np.polyfit(np.log(sizes), np.log(list(taken.values())), 1)[0]
    return {"seconds": taken, "slope": float(slope)}


def multiway(folder: Path) -> Figures:
    """Multi-way choice of a score and CCS, 25,000 of 4,000,000 samples, beside a sort of as many numbers."""
    n_rows, chance = 4_000_000, np.random.default_rng(0)
    scores = {
        name: chance.gamma(2, 1, n_rows).astype(np.float32) for name in ("nll", "image_grounding", "el2n", "entropy")
    }
    labels_N = chance.zipf(1.3, n_rows).clip(1, 50).astype(np.int32) - 1

    def pool(size: int) -> Pool:
        own = {name: column[:size] for name, column in scores.items()}
        return Pool(keys(size), np.zeros(size, np.int32), own, labels_N=labels_N[:size])

    pools = {size: pool(size) for size in (n_rows // 8, n_rows // 4, n_rows // 2, n_rows)}
    figures: Figures = {}
    with peak(figures):
        adapt_inf(pools[n_rows], 25_000, 0, 0, {})
    numbers = chance.random(n_rows)
    sort = seconds(lambda: np.argsort(numbers))
    whole = seconds(lambda: adapt_inf(pools[n_rows], 25_000, 0, 0, {}))
    figures |= sweep(n_rows, lambda size: adapt_inf(pools[size], 25_000, 0, 0, {}))
    return figures | {"argsort": sort, "whole": whole, "argsorts": whole / sort}


def kmeans(folder: Path) -> Figures:
    """Pseudo-tasks of 500,000 sketches: k = 50 fitted and merged, one pass that all k share, the elbow; and single passes."""
    n_rows = SKETCHES // 2
    vectors_NP = mapped(folder, "sketches.npy", n_rows)
    figures: Figures = {}
    with peak(figures):
        began = time.perf_counter()
        found = cluster(vectors_NP, keys(n_rows), k_grid=GRID, seed=0, sweeps=1)
        figures |= {"whole": time.perf_counter() - began, "k": found.k, "wss": found.wss_by_k}
    rate = matrix_rate()
    rows = directions(vectors_NP, keys(n_rows), np.arange(n_rows))
    sets = np.split(rows.take(np.arange(sum(GRID))), np.cumsum(GRID)[:-1])
    single = seconds(lambda: assign(rows, sets[-1]))
    together = seconds(lambda: assign_all(rows, sets))
    figures |= sweep(n_rows, lambda size: cluster(vectors_NP[:size], keys(size), k_grid=GRID, seed=0))
    work = 2 * n_rows * WIDTH / rate
    shares = {"single_share": work * max(GRID) / single, "grid_share": work * sum(GRID) / together}
    return figures | shares | {"matrix_gflops": rate / 1e9}


def minibatch(folder: Path) -> Figures:
    """k = 20 on 100,000 sketches, beside scikit-learn's mini-batches of 10,240, the released code's; five seeds of each.

    Theirs start from unit rows in float32, ours from the float16 sketches.
    """
    vectors_NP = np.array(mapped(folder, "sketches.npy", 100_000))
    known = keys(len(vectors_NP))
    rows = directions(vectors_NP, known, np.arange(len(known)))
    unit_NP = rows.take(slice(None))

    def theirs(seed: int) -> np.ndarray:
        centers: np.ndarray = MiniBatchKMeans(20, batch_size=10_240, random_state=seed).fit(unit_NP).cluster_centers_
        return centers

    def ours(seed: int) -> np.ndarray:
        measured = directions(vectors_NP, known, np.arange(len(known)))
        return lloyd(measured, start(measured, known, 20, seed), 25, 1e-4)[0].centroids_KP

    taken: dict[str, list[float]] = {"theirs": [], "ours": []}
    wss = dict.fromkeys(taken, 0.0)
    for seed in range(5):
        for name, fit in (("theirs", theirs), ("ours", ours)):
            began = time.perf_counter()
            centroids_KP = fit(seed)
            taken[name].append(time.perf_counter() - began)
            wss[name] += assign(rows, centroids_KP).wss
    seconds_of = {name: statistics.median(times) for name, times in taken.items()}
    return {
        **seconds_of,
        "ratio": seconds_of["theirs"] / seconds_of["ours"],
        "wss_ratio": wss["ours"] / wss["theirs"],
    }


def dedup(folder: Path) -> Figures:
    """Every row of a cluster of 40,000 compared with those that are kept before it; and a cluster cut to half."""
    n_rows = 40_000
    figures: Figures = {}
    embeddings_ND = mapped(folder, "embeddings.npy", n_rows)
    unit_ND = directions(embeddings_ND, keys(n_rows), np.arange(n_rows)).take(np.arange(n_rows))
    with peak(figures):
        greedy(unit_ND, 0.95)
    rate = matrix_rate()
    figures |= sweep(n_rows, lambda size: greedy(unit_ND[:size], 0.95))
    share = n_rows * (n_rows - 1) * EMBEDDING / rate / figures["seconds"][n_rows]
    one_cluster, order = np.zeros(n_rows, np.int32), np.arange(n_rows)
    halved = seconds(lambda: prune(embeddings_ND, one_cluster, keys(n_rows), n_rows // 2, order_N=order), 1)
    return figures | {"gemm_share": share, "pruned_to_half": halved}


def coincide(folder: Path) -> Figures:
    """10,000 clusters of 200,000 features in 10 iterations; cost against size at 1,000 clusters."""
    features_ND = mapped(folder, "embeddings.npy", 200_000)

    def choose(size: int, k: int) -> object:
        own = features_ND[:size]
        half = (EMBEDDING // 2, EMBEDDING)
        settings = {"temperature": 0.1, "width": 1.0, "language": half, "iterations": 10}
        return spread(own, keys(size), size // 10, k=k, seed=0, **settings)  # type: ignore[arg-type]

    figures: Figures = {}
    with peak(figures):
        figures["whole"] = seconds(lambda: choose(200_000, 10_000), 1)
    return figures | sweep(200_000, lambda size: choose(size, 1000))


def less(folder: Path) -> Figures:
    """Influence of 1,000,000 sketches on 7 skills of 200 target samples each."""
    vectors_NP = mapped(folder, "sketches.npy", SKETCHES)
    targets = {f"skill {skill}": np.array(vectors_NP[skill * 200 : (skill + 1) * 200]) for skill in range(7)}
    figures: Figures = {}
    with peak(figures):
        influence([vectors_NP], [targets], keys(SKETCHES))
    return figures | sweep(SKETCHES, lambda size: influence([vectors_NP[:size]], [targets], keys(size)))


STEPS = {step.__name__: step for step in (multiway, kmeans, minibatch, dedup, coincide, less)}


def measure(step: str, folder: Path) -> Figures:
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{step} failed:\n{done.stderr[-4000:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    said = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in figures.items()}
    console.print(step, said)
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS), help="some of the steps")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="for the vectors, kept; by default a temporary one")
    options = parser.parse_args(arguments)
    if options.step:
        sys.stdout.write(json.dumps(STEPS[options.step](options.folder)) + "\n")
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        for name, n_rows, width in (("sketches.npy", SKETCHES, WIDTH), ("embeddings.npy", 200_000, EMBEDDING)):
            if not (folder / name).is_file():
                make_vectors(folder / name, n_rows, width)
        found = {step: measure(step, folder) for step in options.only}
    if options.json:
        options.json.write_text(json.dumps(summary(found), indent=2) + "\n")


def summary(found: dict[str, Figures]) -> Figures:
    names = {
        "multiway": {"multiway_argsorts": "argsorts", "multiway_peak_gb": "peak_gb"},
        "kmeans": {
            "kmeans_grid_share": "grid_share",
            "kmeans_single_share": "single_share",
            "kmeans_peak_gb": "peak_gb",
        },
        "minibatch": {"kmeans_vs_minibatch": "ratio", "kmeans_wss_ratio": "wss_ratio"},
        "dedup": {"dedup_gemm_share": "gemm_share"},
    }
    chosen = {name: found[step][of] for step in found for name, of in names.get(step, {}).items()}
    return chosen | {"slopes": {step: own["slope"] for step, own in found.items() if "slope" in own}, "steps": found}


if __name__ == "__main__":
    main()
