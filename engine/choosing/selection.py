"""The subset that a timestep trains on, with the reason for every sample of it."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial as partial_of
from pathlib import Path

import numpy as np
import pyarrow as pa

from liit.engine.choosing.budget import spend
from liit.engine.choosing.given import keys_given
from liit.engine.choosing.insisted import around, insisted_on
from liit.engine.data.pool import tasks
from liit.engine.run.files import read_table, write_table
from liit.engine.run.profiles import read_profile, read_vectors, taken
from liit.engine.run.progress import log
from liit.engine.run.tables import SELECTION, sort_by_key
from liit.engine.settings.config import Config
from liit.selectors import catalog
from liit.selectors.protocol import Choice, Pool, chosen


def select(
    timestep: Path,
    t: int,
    timesteps: int,
    releases: list[Path],
    config: Config,
    skills: Mapping[str, str],
    partial: Path,
) -> None:
    """Write the SELECTION rows of a timestep from its pool, and from profile, clusters and targets where the strategy needs
    them.

    timesteps: how many the stream has. releases: those until now. skills: the skill of each data set of the target split.
    """
    strategy = catalog.get(config.strategy.name, config.clustering.vector)
    scores = strategy.scores_for(config.strategy.options)
    ids, labels_N, pool = pool_arrays(timestep, scores, strategy.vectors, strategy.clusters)
    if strategy.targets:
        pool = replace(pool, targets=target_vectors(timestep / "targets", strategy.vectors[0], skills))

    if strategy.given:
        pool = replace(pool, given_M=keys_given(config, t, timestep, releases, ids))
    insisted = insisted_on(config.strategy)
    wishes = insisted.of(ids, lambda: tasks(releases, ids))

    def choose(among: Pool, count: int) -> Choice:
        return chosen(strategy, among, count, config.seed, t, config.strategy.options)

    own = around(insisted, choose, pool, wishes, strategy.whole, partial_of(taken, timestep / "profile"))
    choice = spend(own, timestep, t, timesteps, releases, pool.keys_N, config, strategy.whole)
    insisted.say_missing(ids, t, timesteps - 1, timestep, releases)
    insisted.say(choice, wishes)
    labels = pa.nulls(len(pool), pa.int32()) if labels_N is None else pa.array(labels_N, pa.int32())
    table = selection_rows(choice, ids, labels, pool)
    write_table(partial, table)
    log.info("selection: %d of %d samples by %s", len(table), len(pool), strategy.name)


def selection_rows(choice: Choice, ids: pa.ChunkedArray, labels: pa.Array, pool: Pool) -> pa.Table:
    """SELECTION rows of a choice, sorted by key; `ids` and `labels` in the order of the pool."""
    index, percentile_n = pa.array(choice.index_n), percentiles(choice, pool)
    columns = [
        ids.take(index),
        pa.array(pool.keys_N[choice.index_n], pa.uint64()),
        labels.take(index),
        pa.array(choice.scorer_n.tolist(), pa.string()),
        pa.array(choice.score_n, pa.float32(), mask=np.isnan(choice.score_n)),
        pa.array(percentile_n, pa.float32(), mask=np.isnan(percentile_n)),
        pa.array(choice.stratum_n, pa.int32(), mask=choice.stratum_n < 0),
    ]
    return sort_by_key(pa.table(columns, schema=SELECTION))


def percentiles(choice: Choice, pool: Pool) -> np.ndarray:
    """(n,): how many percent of its cluster's samples (of the pool's, without clusters) score no more.

    NaN for chance, and where the strategy made the score itself.
    """
    labels_N = np.zeros(len(pool), np.int32) if pool.labels_N is None else pool.labels_N
    found = np.full(len(choice.index_n), np.nan, np.float32)
    for scorer in {name for name in choice.scorer_n if name in pool.scores}:
        values_N = pool.score(scorer)
        for cluster in np.unique(labels_N[choice.index_n[choice.scorer_n == scorer]]):
            among = np.sort(values_N[(labels_N == cluster) & np.isfinite(values_N)])
            mine = (choice.scorer_n == scorer) & (labels_N[choice.index_n] == cluster)
            found[mine] = 100 * np.searchsorted(among, choice.score_n[mine], side="right") / len(among)
    return found


def target_vectors(profile: Path, name: str, skills: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Skill to the vectors (n, D) of its target samples, in the order of their keys.

    Raises ValueError for a sample of a data set that has no skill.
    """
    table, vectors = read_profile(profile, []), read_vectors(profile, name)
    skill_n = np.array([skills.get(sample.partition("/")[0], "") for sample in table["id"].to_pylist()])
    if "" in skill_n:
        unknown = table["id"][int(np.argmax(skill_n == ""))]
        raise ValueError(f"the run's configuration names no target set of {unknown}, so its skill is unknown")
    return {str(skill): vectors[skill_n == skill] for skill in np.unique(skill_n)}


def pool_arrays(
    timestep: Path, scores: tuple[str, ...], vectors: tuple[str, ...], clusters: bool
) -> tuple[pa.ChunkedArray, np.ndarray | None, Pool]:
    """Ids, cluster labels and the arrays that a selector sees, all in the order of the keys."""
    pool = read_table(timestep / "pool.parquet")
    if not (scores or vectors or clusters):
        return pool["id"], None, Pool(pool["key"].to_numpy(), pool["arrival"].to_numpy())
    profile = read_profile(timestep / "profile", scores)
    arrival = dict(zip(pool["key"].to_pylist(), pool["arrival"].to_pylist(), strict=True))
    keys_N = profile["key"].to_numpy()
    labels_N = distance_N = None
    if clusters:
        grouped = sort_by_key(read_table(timestep / "clusters.parquet"))
        if not np.array_equal(grouped["key"].to_numpy(), keys_N):
            raise RuntimeError(f"{timestep}: clusters and profile hold different samples")
        labels_N, distance_N = grouped["cluster"].to_numpy(), grouped["distance"].to_numpy()
    arrays = Pool(
        keys_N=keys_N,
        arrival_N=np.array([arrival[key] for key in keys_N.tolist()], dtype=np.int32),
        scores={name: profile[name].to_numpy() for name in scores},
        vectors={name: read_vectors(timestep / "profile", name) for name in vectors},
        labels_N=labels_N,
        distance_N=distance_N,
    )
    return profile["id"], labels_N, arrays
