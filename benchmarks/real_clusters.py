"""Is a released model's pool clustered by tasks? NMI, k and what even budgets make of it, by gradient, layer and temperature.

python benchmarks/real_clusters.py [--folder build/real] [--samples 1200] [--budget 200] [--profile FILE]
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from real.stream import AGAIN
from rich.console import Console
from sklearn.metrics import normalized_mutual_info_score

import liit
from liit.selectors.clustering import cluster
from liit.selectors.kinds import coverage, effective

SKETCHES = {
    f"{layer}-{temperature}": {"layer": layer, "dimension": 1024, "temperature": temperature}
    for layer in ("first", "middle", "last", "all")
    for temperature in (1, 8)
}
STATES = ("embedding", "instruction-input")
SEEDS = (0, 1, 2)
Folder = Annotated[Path, typer.Option(help="As `make real` leaves it.")]
Samples = Annotated[int, typer.Option(help="Of the pool at most, by the hash of their ids; 0: all.")]
Budget = Annotated[int, typer.Option(help="T.")]
Kept = Annotated[Path, typer.Option(help="A Parquet file that keeps the profile; read where it is there.")]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def table(
    folder: Folder = Path("build/real"),
    samples: Samples = 0,
    budget: Budget = 200,
    profile: Kept = Path("build/real/profile.parquet"),
) -> None:
    """Profile the pool of all releases with the model as it came, and print a row for each vector."""
    console = Console(width=160)
    rows = pool(folder / "stream", samples)
    if not profile.is_file():
        frame = liit.profile(
            [{"id": row["id"], "conversations": row["conversations"]} for row in rows], config=settings(folder)
        )
        frame[frame["status"] == "ok"].to_parquet(profile)
    frame = pd.read_parquet(profile)
    task = pd.Series({row["id"]: row["task"] for row in rows})[frame.index].to_numpy(str)
    known, of_N = np.unique(task, return_inverse=True)
    pool_K = np.bincount(of_N, minlength=len(known))
    whole = f"{len(frame)} samples of {len(known)} tasks, effectively {effective(pool_K):.1f}"
    console.print(f"{whole}; T = {budget}, means over seeds {SEEDS}")
    console.print("| vector | k | NMI | largest | adapt-inf: kinds | rare | two-level: kinds | rare |")
    console.print("|---|---|---|---|---|---|---|---|")
    even = [balance(frame, task, budget, seed, strategy="random") for seed in SEEDS]
    console.print(f"| chance | | | | {mean(even, 0)} | {mean(even, 1)} | | |")
    for vector in (*SKETCHES, *STATES):
        made = [clustered(frame, vector, task, seed) for seed in SEEDS]
        ours = [balance(frame, task, budget, seed, strategy="adapt-inf", vector=vector) for seed in SEEDS]
        both = [balance(frame, task, budget, seed, strategy="two-level", vector=vector) for seed in SEEDS]
        cells = [*(mean(made, place) for place in range(3)), mean(ours, 0), mean(ours, 1), mean(both, 0), mean(both, 1)]
        console.print(f"| {vector} | {' | '.join(cells)} |")


def pool(stream: Path, limit: int) -> list[dict[str, Any]]:
    """The rows of all releases but exact copies, in the order of their ids' hashes."""
    files = sorted(stream.glob("[0-9]-*.json"))
    rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))]
    rows = [row for row in rows if not row["id"].endswith(AGAIN)]
    rows.sort(key=lambda row: row["id"].rpartition("-")[2])
    return rows[: limit or None]


def settings(folder: Path) -> dict[str, Any]:
    """Of a profile with every vector."""
    scoring = {"samples_per_batch": 8, "sketches": SKETCHES, "vectors": (*STATES, *SKETCHES), "embedding": 256}
    return {"model": {"path": str(folder / "model"), "dtype": "bfloat16", "max_length": 256}, "scoring": scoring}


def clustered(frame: pd.DataFrame, vector: str, task: np.ndarray, seed: int) -> tuple[float, float, float]:
    """k by the elbow of 5..50, NMI with the tasks, and the largest cluster's share."""
    found = cluster(np.stack(frame[vector].to_list()), frame["key"].to_numpy(), k_grid=range(5, 51), seed=seed)
    nmi = normalized_mutual_info_score(task, found.labels_N)
    return found.k, nmi, np.bincount(found.labels_N).max() / len(task)


def balance(frame: pd.DataFrame, task: np.ndarray, budget: int, seed: int, **told: Any) -> tuple[float, float]:
    """Effective kinds of a selection, and the share of rare ones that it has."""
    chosen = liit.choose(frame, budget=budget, seed=seed, **told)
    known, of_N = np.unique(task, return_inverse=True)
    at_n = of_N[frame.index.get_indexer(chosen.index)]
    chosen_K = np.bincount(at_n, minlength=len(known))
    return effective(chosen_K), coverage(np.bincount(of_N, minlength=len(known)), chosen_K)


def mean(rows: Sequence[tuple[float, ...]], place: int) -> str:
    """Over seeds."""
    return f"{np.mean([row[place] for row in rows]):.3g}"


if __name__ == "__main__":
    app()
