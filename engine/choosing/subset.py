"""A subset chosen from what is known of samples, wherever that lies: the core of `from_profile.py` and `in_process.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from liit.engine.choosing.insisted import NOTHING, Insisted, around
from liit.engine.choosing.selection import selection_rows
from liit.selectors import catalog
from liit.selectors.clustering import cluster
from liit.selectors.protocol import Choice, Pool, Strategy, chosen, rehearse


class Profile(Protocol):
    """Profiled samples, of which only what a strategy needs is read."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def columns(self) -> tuple[list[str], list[str]]:
        """Names of the scores and of the vectors that it has. Raises ValueError where it is no profile."""
        ...

    def pool(self, scores: Sequence[str], vectors: Sequence[str]) -> tuple[pa.ChunkedArray, Pool]:
        """Ids and arrays of the usable samples, in the order of their keys."""
        ...

    def check_targets(self, strategy: Strategy) -> None:
        """Raises ValueError where the target samples are not what the strategy needs."""
        ...

    def targets(self, strategy: Strategy) -> Mapping[str, np.ndarray]:
        """Skill to the vectors (n, D) that the strategy compares with."""
        ...

    def known(self, pool: Pool, ids: pa.ChunkedArray, strategy: Strategy, t: int) -> Pool:
        """The pool with what an oracle looks at. Raises ValueError as `selection.with_known` does."""
        ...

    def tasks(self, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        """The task of each of the samples of `pool`. Raises ValueError where it is not known."""
        ...

    def taken(self, vectors_ND: np.ndarray, rows_n: np.ndarray) -> np.ndarray:
        """Rows of vectors, a copy."""
        ...

    def timestep(self, arrival_N: np.ndarray) -> int:
        """The t of the choice, where nobody says another."""
        ...


@dataclass(frozen=True)
class Chosen:
    """SELECTION rows, and the pool they are from: `id` and `cluster` (null where the strategy has none)."""

    rows: pa.Table
    pool: pa.Table


def choose_from(
    profile: Profile,
    name: str,
    budget: int,
    *,
    k_grid: Sequence[int],
    seed: int = 0,
    timestep: int | None = None,
    options: Mapping[str, Any] | None = None,
    vector: str | None = None,
    insisted: Insisted = NOTHING,
) -> Chosen:
    """Choose `budget` of the usable samples by the strategy `name`; arguments and errors as `from_profile.choose` says."""
    options = options or {}
    strategy = catalog.get(name, vector)
    if vector is not None and not (strategy.clusters or strategy.own_clusters):
        raise ValueError(f"strategy {name} does not choose by clusters of {vector}; leave the vector out")
    if budget < 1:
        raise ValueError(f"budget is {budget}; pass the number of samples to choose, 1 or more")
    if strategy.given:
        raise ValueError(
            f"strategy {name} takes what a run selected as it is: tNN/selection.parquet; choose by another"
        )
    _check(profile, strategy, options)
    insisted.check_fits(strategy, budget)
    ids, pool = profile.pool(strategy.scores_for(options), strategy.vectors)
    labels = pa.nulls(len(pool), pa.int32())
    if strategy.clusters:
        found = cluster(pool.vector(strategy.vectors[0]), pool.keys_N, k_grid=k_grid, seed=seed)
        pool = replace(pool, labels_N=found.labels_N, distance_N=found.distance_N)
        labels = pa.array(found.labels_N, pa.int32())
    if strategy.targets:
        pool = replace(pool, targets=profile.targets(strategy))
    t = profile.timestep(pool.arrival_N) if timestep is None else timestep
    if strategy.tasks:
        pool = profile.known(pool, ids, strategy, t)

    def choose(among: Pool, count: int) -> Choice:
        return chosen(strategy, among, count, seed, t, options)

    wishes = insisted.of(ids, lambda: profile.tasks(ids))
    choice = around(insisted, choose, pool, wishes, strategy.whole, profile.taken)(budget)
    insisted.say_strange(ids, profile.name)
    insisted.say(choice, wishes)
    return Chosen(
        selection_rows(choice, ids.take(pa.array(choice.index_n)), pool), pa.table({"id": ids, "cluster": labels})
    )


def _check(profile: Profile, strategy: Strategy, options: Mapping[str, Any]) -> None:
    """Refuse what cannot be chosen before anything large is read."""
    scores, vectors = profile.columns()
    if strategy.targets:
        profile.check_targets(strategy)
    needed = strategy.scores_for(options)
    lacking = [*(name for name in needed if name not in scores), *(v for v in strategy.vectors if v not in vectors)]
    if lacking:
        raise ValueError(
            f"strategy {strategy.name} needs {', '.join(lacking)}, which {profile.name} lacks; "
            f"it has the scores {', '.join(scores) or 'none'} and the vectors {', '.join(vectors) or 'none'}"
        )
    rehearse(strategy, options)  # an unknown option is refused here, not after an hour of clustering
