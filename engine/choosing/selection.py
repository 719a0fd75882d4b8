"""The subset that a timestep trains on, with the reason for every sample of it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial as partial_of
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.choosing.budget import spend
from liit.engine.choosing.given import keys_given
from liit.engine.choosing.insisted import around, insisted_on
from liit.engine.data.pool import coded, ids_of, tasks
from liit.engine.run.files import read_table, write_table
from liit.engine.run.kinds import skills_of
from liit.engine.run.profiles import arrivals, read_profile, read_scores, read_vectors, taken, told_of
from liit.engine.run.progress import log
from liit.engine.run.tables import SELECTION, sort_by_key
from liit.engine.settings.config import Config
from liit.selectors import catalog
from liit.selectors.kmeans import members_of
from liit.selectors.opened import Opened
from liit.selectors.protocol import Choice, Pool, Strategy, chosen

Coded = Callable[[str], tuple[np.ndarray, list[str]]]
"""(N,) which of the names a column (`task`, `dataset`) says of each sample of a pool, -1 where none; and the names."""


def select(
    timestep: Path,
    t: int,
    timesteps: int,
    releases: list[Path],
    config: Config,
    skills: Mapping[str, str],
    partial: Path,
    asked: Mapping[str, str] | None = None,
) -> None:
    """Write the SELECTION rows of a timestep from its pool, and from profile, clusters and targets where the strategy needs
    them.

    timesteps: how many the stream has. releases: those until now. skills: the skill of each data set of the target split.
    asked: that of each evaluation set, by its key, for an oracle.
    """
    strategy = catalog.get(config.strategy.name, config.clustering.vector)
    scores = strategy.scores_for(config.strategy.options)
    pool = pool_arrays(timestep, scores, strategy.vectors, strategy.clusters)
    if strategy.targets:
        pool = replace(pool, targets=target_vectors(timestep / "targets", strategy.vectors[0], skills))
    if strategy.tasks:
        pool = of_releases(pool, strategy, releases, lambda: skills_of(timestep.parent, asked or {}))
    insisted, wishes = insisted_on(config.strategy), None
    ids = ids_of([timestep / "pool.parquet"], pool.keys_N) if insisted or strategy.given else None
    if strategy.given and ids is not None:
        pool = replace(pool, given_M=keys_given(config, t, timestep, releases, ids))
    if insisted and ids is not None:
        wishes = insisted.of(ids, partial_of(tasks, releases, ids))

    def choose(among: Pool, count: int) -> Choice:
        return chosen(strategy, among, count, config.seed, t, config.strategy.options)

    own = around(insisted, choose, pool, wishes, strategy.whole, partial_of(taken, timestep / "profile"))
    choice = spend(own, timestep, t, timesteps, releases, pool.keys_N, config, strategy.whole, bool(insisted))
    if wishes is not None and ids is not None:
        insisted.say_missing(ids, t, timesteps - 1, timestep, releases)
        insisted.say(choice, wishes)
    table = selection_rows(choice, ids_of([timestep / "pool.parquet"], pool.keys_N[choice.index_n]), pool)
    write_table(partial, table)
    log.info("selection: %d of %d samples by %s", len(table), len(pool), strategy.name)


def selection_rows(choice: Choice, ids_n: pa.ChunkedArray, pool: Pool) -> pa.Table:
    """SELECTION rows of a choice, sorted by key; ids_n: of the chosen, in the order of the choice."""
    percentile_n, index_n = percentiles(choice, pool), choice.index_n
    columns = [
        ids_n,
        pa.array(pool.keys_N[index_n], pa.uint64()),
        pa.nulls(len(index_n), pa.int32()) if pool.labels_N is None else pa.array(pool.labels_N[index_n], pa.int32()),
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
    members_K = members_of(labels_N)
    found, label_n = np.full(len(choice.index_n), np.nan, np.float32), labels_N[choice.index_n]
    for scorer in {name for name in choice.scorer_n if name in pool.scores}:
        values_N, by_scorer_n = pool.score(scorer), choice.scorer_n == scorer
        for cluster in np.unique(label_n[by_scorer_n]):
            among = values_N[members_K[cluster]]
            among = np.sort(among[np.isfinite(among)])
            mine = by_scorer_n & (label_n == cluster)
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


def with_known(pool: Pool, strategy: Strategy, named: Coded, skills: Callable[[], Mapping[str, str]]) -> Pool:
    """The pool with what an oracle looks at; a sample that names no task is of a task of its data set.

    skills: of tasks, as evaluation sets ask them. Tasks that none asks for are of one more skill.

    Raises ValueError where no sample names a task, or no evaluation set asks for one of them.
    """
    log.info("strategy %s looks at known tasks, which no method may: it is for analysis only", strategy.name)
    code_N, names = named("task")
    lacks_N = code_N < 0
    if len(pool) and lacks_N.all():
        raise ValueError(
            f"strategy {strategy.name}: none of {len(pool)} samples names its task; give rows a column task, "
            "or choose by another strategy"
        )
    tasks_N = code_N
    sets: list[str] = []
    if lacks_N.any():
        set_N, sets = named("dataset")
        tasks_N = np.where(lacks_N, len(names) + set_N, code_N).astype(np.int32)
    pool = replace(pool, tasks_N=tasks_N)
    return replace(pool, skills_K=_skills(strategy, names, len(sets), skills())) if strategy.skills else pool


def of_releases(pool: Pool, strategy: Strategy, releases: list[Path], skills: Callable[[], Mapping[str, str]]) -> Pool:
    """`with_known` from the samples of a run. Raises KeyError where one of them is in no release."""
    return with_known(pool, strategy, lambda column: coded(releases, pool.keys_N, column), skills)


def _skills(strategy: Strategy, names: list[str], others: int, of: Mapping[str, str]) -> np.ndarray:
    """(K,) the skill of each named task and of so many others, from 0; the last is of those that nothing asks for."""
    if names and not any(name in of for name in names):
        raise ValueError(
            f"strategy {strategy.name}: no evaluation set has samples of any of the {len(names)} tasks, such as {names[0]}; "
            "give the rows of evaluation sets a column task"
        )
    place = {skill: at for at, skill in enumerate(sorted(set(of.values())))}
    asked = [place[of[name]] if name in of else len(place) for name in names]
    return np.array([*asked, *[len(place)] * others], np.int32)


def pool_arrays(timestep: Path, scores: tuple[str, ...], vectors: tuple[str, ...], clusters: bool) -> Pool:
    """The arrays that a selector sees, in the order of the keys; of vectors those alone are opened that it asks for."""
    profile = timestep / "profile"
    if not (scores or vectors or clusters):
        pool = sort_by_key(read_table(timestep / "pool.parquet", ["key", "arrival"]))
        return Pool(pool["key"].to_numpy(), pool["arrival"].to_numpy())
    keys_N, columns = read_scores(profile, scores)
    labels_N = distance_N = None
    if clusters:
        path = timestep / "clusters.parquet"
        if pq.read_metadata(path).num_rows != len(keys_N):
            raise ValueError(
                f"{path} holds other samples than the profile beside it; they are not of the same timestep"
            )
        grouped = told_of(path, keys_N, cluster=np.int32, distance=np.float32)
        labels_N, distance_N = grouped["cluster"], grouped["distance"]
    return Pool(
        keys_N=keys_N,
        arrival_N=arrivals(profile, keys_N),
        scores=columns,
        vectors=Opened({name: partial_of(read_vectors, profile, name) for name in vectors}),
        labels_N=labels_N,
        distance_N=distance_N,
    )
