"""A subset chosen from a finished profile: the arrays of a strategy read from disk; no model, no training, no Ray.

A run's own selection comes out again for the same strategy, budget, seed and timestep: clusters are made anew, and k-means is
deterministic.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.choosing.selection import selection_rows, target_vectors
from liit.engine.run.files import read_table
from liit.engine.run.profiles import read_profile, read_vectors
from liit.engine.settings.config import read as read_config
from liit.engine.settings.sections import FileStream
from liit.selectors import catalog
from liit.selectors.clustering import cluster
from liit.selectors.protocol import Pool, Strategy, chosen, rehearse


@dataclass(frozen=True)
class Chosen:
    """SELECTION rows, and the pool they are from: `id` and `cluster` (null where the strategy has none)."""

    rows: pa.Table
    pool: pa.Table


def choose(
    profile: Path,
    name: str,
    budget: int,
    *,
    k_grid: Sequence[int],
    seed: int = 0,
    timestep: int | None = None,
    options: Mapping[str, Any] | None = None,
    vector: str | None = None,
) -> Chosen:
    """Choose `budget` of the usable samples of a profile by the strategy `name`.

    Args:
        k_grid: candidate numbers of clusters, where the strategy needs clusters.
        timestep: the t of the choice; by default that of the folder `tNN` which the profile lies in, and elsewhere the
            newest arrival.
        vector: what clusters are of, in place of the strategy's own.

    Raises:
        ValueError: no finished profile, a strategy or option that is not known, a column or target split that is not
            there, a budget below 1, or values that no strategy can choose by.
    """
    options = options or {}
    strategy = catalog.get(name, vector)
    if vector is not None and not strategy.clusters:
        raise ValueError(f"strategy {name} does not choose by clusters of {vector}; leave the vector out")
    if budget < 1:
        raise ValueError(f"budget is {budget}; pass the number of samples to choose, 1 or more")
    _check(profile, strategy, options)
    scores = strategy.scores_for(options)
    table = read_profile(profile, scores)
    keys_N, arrival_N = table["key"].to_numpy(), _arrival(profile, table["key"])
    vectors = {name: read_vectors(profile, name) for name in strategy.vectors}
    found = cluster(vectors[strategy.vectors[0]], keys_N, k_grid=k_grid, seed=seed) if strategy.clusters else None
    pool = Pool(
        keys_N=keys_N,
        arrival_N=arrival_N,
        scores={name: table[name].to_numpy() for name in scores},
        vectors=vectors,
        labels_N=found.labels_N if found else None,
        distance_N=found.distance_N if found else None,
        targets=_targets(profile, strategy) if strategy.targets else {},
    )
    t = _timestep(profile, arrival_N) if timestep is None else timestep
    choice = chosen(strategy, pool, budget, seed, t, options)
    labels = pa.nulls(len(pool), pa.int32()) if found is None else pa.array(found.labels_N, pa.int32())
    return Chosen(selection_rows(choice, table["id"], labels, pool), pa.table({"id": table["id"], "cluster": labels}))


def _check(profile: Path, strategy: Strategy, options: Mapping[str, Any]) -> None:
    """Refuse what cannot be chosen before anything large is read."""
    parts = sorted(profile.glob("*.parquet"))
    if not parts or not (profile / "columns.json").is_file():
        raise ValueError(f"{profile} is no finished profile; pass a run's tNN/profile, a folder with columns.json")
    targets = profile.with_name("targets")
    if strategy.targets and not targets.is_dir():
        raise ValueError(
            f"strategy {strategy.name} needs a profiled target split, but there is no {targets}; "
            "a run with this strategy makes one"
        )
    if strategy.targets and strategy.vectors[0] not in pq.read_schema(min(targets.glob("*.parquet"))).names:
        raise ValueError(
            f"strategy {strategy.name} compares {strategy.vectors[0]}, which {targets} lacks; "
            "a run with this strategy profiles the target split so"
        )
    schema = pq.read_schema(parts[0])
    scores = [field.name for field in schema if pa.types.is_float32(field.type)]
    vectors = [field.name for field in schema if pa.types.is_fixed_size_binary(field.type)]
    needed = strategy.scores_for(options)
    lacking = [*(name for name in needed if name not in scores), *(v for v in strategy.vectors if v not in vectors)]
    if lacking:
        raise ValueError(
            f"strategy {strategy.name} needs {', '.join(lacking)}, which {profile} lacks; "
            f"it has the scores {', '.join(scores) or 'none'} and the vectors {', '.join(vectors) or 'none'}"
        )
    rehearse(strategy, options)  # an unknown option is refused here, not after an hour of clustering


def _arrival(profile: Path, keys: pa.ChunkedArray) -> np.ndarray:
    """The timestep at which each sample came, by the pool beside the profile; 0 where there is none."""
    path = profile.parent / "pool.parquet"
    if not path.is_file():
        return np.zeros(len(keys), np.int32)
    pool = read_table(path, ["key", "arrival"])
    at = pc.index_in(keys, pool["key"].combine_chunks())
    if at.null_count:
        raise ValueError(f"{at.null_count} samples of {profile} are not in {path}; they are not of the same timestep")
    return pool["arrival"].take(at).to_numpy()


def _targets(profile: Path, strategy: Strategy) -> dict[str, np.ndarray]:
    """Of the target split that a run profiled beside the pool."""
    return target_vectors(profile.with_name("targets"), strategy.vectors[0], _skills(profile.resolve().parents[1]))


def _skills(run: Path) -> dict[str, str]:
    """The skill of each data set of a run's target split: as configured, or as written down with the embedded stream."""
    written = run / "data" / "stream.json"
    if written.is_file():
        stream = FileStream.model_validate_json(written.read_text(encoding="utf-8"))
    else:
        configured = read_config(run / "config.yaml", []).stream
        if not isinstance(configured, FileStream):
            raise ValueError(f"{written} does not exist; without it the skills of the target split are unknown")
        stream = configured
    return {one.name: one.skill for one in stream.targets}


def _timestep(profile: Path, arrival_N: np.ndarray) -> int:
    step = re.fullmatch(r"t(\d+)", profile.resolve().parent.name)
    return int(step[1]) if step else int(arrival_N.max(initial=0))
