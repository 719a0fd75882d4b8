"""What a trial does: a choice from a stored profile, or a whole run.

Needs the run folder on a path that every node sees, like everything that Ray Tune's trials read.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from ray import tune
from sklearn.metrics import normalized_mutual_info_score

from liit.engine.answers.accuracy import summary
from liit.engine.choosing.selection import of_releases
from liit.engine.comparison.cells import Cell, run_cell, same_settings
from liit.engine.run.files import read_table
from liit.engine.run.fingerprints import fingerprint
from liit.engine.run.kinds import asked_in, skills_of
from liit.engine.run.profiles import read_profile, read_vectors
from liit.engine.settings.config import load
from liit.engine.settings.settling import settle
from liit.selectors import catalog
from liit.selectors.clustering import cluster
from liit.selectors.kinds import coverage, effective
from liit.selectors.protocol import Pool, chosen
from liit.tune.spaces import overrides

SHARE = "share/"
"""Of a task in a selection: how such figures are named."""


class Selection(tune.Trainable):
    """Choices from one profile. An actor reads it once and makes trial after trial from it.

    Reported: `k`, `wss` of the clusters; `nmi` of clusters and known tasks; `balance`, the entropy of the chosen samples' tasks
    over that of equal shares; `effective_kinds` and `rare_covered` of them (`selectors/kinds.py`), and `effective_skills`, where
    evaluation sets say the skill of tasks; `tasks`, how many tasks have a chosen sample; `largest_task`, the share of that which
    has most; `share/<task>`, of each known task; `overlap`, the share of samples that the first trial's settings choose too;
    `seconds`.
    """

    def setup(self, config: dict[str, Any]) -> None:
        self.source = Source(Path(config["profile"]), int(config["budget"]))
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.trial, self.first = new_config["trial"], new_config["first"]
        return True

    def step(self) -> dict[str, Any]:
        figures, picked = self.source.choose(self.trial)
        _, reference = self.source.choose({**self.first, "seed": self.trial.get("seed", 0)})
        overlap = len(np.intersect1d(picked, reference)) / max(len(picked), 1)
        return {**figures, "overlap": overlap, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: a trial is one step."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing."""


class Source:
    """A finished profile and the tasks that its samples are known to be of."""

    def __init__(self, profile: Path, budget: int) -> None:
        """budget: where a trial does not say."""
        self.profile, self.budget = profile, budget
        schema = pq.read_schema(sorted(profile.glob("*.parquet"))[0])
        self.columns = schema.names
        table = read_profile(profile, [field.name for field in schema if pa.types.is_float32(field.type)])
        self.keys_N = table["key"].to_numpy()
        self.scores = {name: table[name].to_numpy() for name in table.schema.names if name not in ("id", "key")}
        run = profile.resolve().parents[1]
        self.releases = run / "releases"
        self.arrival_N, self.task_N = self._known(table["key"])
        self.skills = skills_of(run, asked_in(run, load(run / "config.yaml", "config")))
        self._vectors: dict[str, np.ndarray] = {}
        self._found: dict[str, tuple[dict[str, Any], np.ndarray]] = {}
        self._clusters: dict[str, tuple[Any, float]] = {}

    def choose(self, trial: Mapping[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
        """Figures of a trial, and the keys that it chooses."""
        mark = fingerprint(dict(trial))
        if mark not in self._found:
            self._found[mark] = self._choose(trial)
        return self._found[mark]

    def _choose(self, trial: Mapping[str, Any]) -> tuple[dict[str, Any], np.ndarray]:
        seed, options = int(trial.get("seed", 0)), dict(trial.get("options", {}))
        options |= {name.partition(".")[2]: value for name, value in trial.items() if name.startswith("options.")}
        strategy = catalog.get(trial.get("strategy", "adapt-inf"))
        names = {name: trial.get("vector", name) if place == 0 else name for place, name in enumerate(strategy.vectors)}
        vectors = {name: self._vector(source) for name, source in names.items()}
        figures: dict[str, Any] = {}
        labels_N, distance_N, took = None, None, 0.0
        if strategy.clusters:
            k = trial.get("k")
            grid = tuple(range(5, 51)) if k is None else (int(k),)
            found, took = self._cluster(names[strategy.vectors[0]], grid, seed)
            labels_N, distance_N = found.labels_N, found.distance_N
            figures = {
                "k": found.k,
                "wss": found.wss,
                "nmi": float(normalized_mutual_info_score(self.task_N, labels_N)),
            }
        pool = Pool(self.keys_N, self.arrival_N, self.scores, vectors, labels_N, distance_N)
        if strategy.tasks:
            pool = of_releases(pool, strategy, [self.releases], lambda: self.skills)
        began = time.perf_counter()
        made = chosen(strategy, pool, int(trial.get("budget", self.budget)), seed, int(self.arrival_N.max()), options)
        figures["seconds"] = took + time.perf_counter() - began
        return figures | self._balance(made.index_n), self.keys_N[made.index_n]

    def _cluster(self, vector: str, grid: tuple[int, ...], seed: int) -> tuple[Any, float]:
        """Clusters, and the seconds that they took when they were made."""
        mark = fingerprint(vector, grid, seed)
        if mark not in self._clusters:
            began = time.perf_counter()
            found = cluster(self._vector(vector), self.keys_N, k_grid=grid, seed=seed)
            self._clusters[mark] = (found, time.perf_counter() - began)
        return self._clusters[mark]

    def _balance(self, index_n: np.ndarray) -> dict[str, float]:
        known, of_N = np.unique(self.task_N, return_inverse=True)
        pool_K, chosen_K = np.bincount(of_N, minlength=len(known)), np.bincount(of_N[index_n], minlength=len(known))
        share = chosen_K / max(len(index_n), 1)
        some = share[share > 0]
        return {
            "balance": float(-(some * np.log(some)).sum() / np.log(max(len(known), 2))),
            "effective_kinds": effective(chosen_K),
            "rare_covered": coverage(pool_K, chosen_K),
            **self._skills(known, chosen_K),
            "tasks": len(some),
            "largest_task": float(share.max(initial=0.0)),
            **{f"{SHARE}{task}": float(part) for task, part in zip(known, share, strict=True)},
        }

    def _skills(self, tasks: np.ndarray, chosen_K: np.ndarray) -> dict[str, float]:
        """`effective_skills` of so many chosen samples of each task; nothing where no evaluation set asks for one."""
        of = np.array([self.skills.get(task, "") for task in tasks.tolist()])
        counts = [chosen_K[of == skill].sum() for skill in np.unique(of[of != ""])]
        return {"effective_skills": effective(np.array(counts, np.int64))} if counts else {}

    def _vector(self, name: str) -> np.ndarray:
        if name not in self._vectors:
            if name not in self.columns:
                raise ValueError(
                    f"{self.profile} has no vector {name!r}; profile it with scoring.sketches or scoring.vectors"
                )
            self._vectors[name] = read_vectors(self.profile, name)
        return self._vectors[name]

    def _known(self, keys: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        """Arrival of every sample and its known task, its data set where there is none."""
        known = read_table(self.releases, ["key", "dataset", "arrival", "task"])
        at = pc.index_in(keys, known["key"].combine_chunks()).combine_chunks()
        if at.null_count:
            raise ValueError(f"{at.null_count} samples of {self.profile} are not in {self.releases}")
        task = pc.coalesce(known["task"], known["dataset"])
        return known["arrival"].take(at).to_numpy(), np.array(task.take(at).to_pylist(), dtype=str)


def train(config: dict[str, Any]) -> None:
    """A trial of a training study: a run, continued where an interrupted one stopped; reports the figures of its stream.

    A cell of the same settings that `config["known"]` has is taken in place of a run.
    """
    trial = config["trial"]
    settled = settle([config["config"], *overrides(trial)], None)
    cell = Cell(f"trial-{fingerprint(trial)[:8]}", settled.seed, settled)
    found = same_settings(cell, Path(config["known"])) if config["known"] else None
    found = found or run_cell(cell, Path(config["runs"]), Path(config["results"]))
    accuracy = pd.DataFrame(found["accuracy"])
    figures = {name: value for name, value in summary(accuracy).items() if isinstance(value, float)}
    last = {f"final_{skill}": float(accuracy[skill].iloc[-1]) for skill in accuracy}
    tune.report({**figures, **last, **{f"{stage}_s": value for stage, value in found["seconds"].items()}})
