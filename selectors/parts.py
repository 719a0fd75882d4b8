"""A part of a pool as a pool of its own, and choices of parts as one of the whole.

Shapes: N samples, n samples of a part.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.opened import Opened
from liit.selectors.priority import Indices
from liit.selectors.protocol import Choice, Pool


def part(pool: Pool, rows_n: Indices, taken: Callable[[NDArray[Any], Indices], NDArray[Any]]) -> Pool:
    """These rows of a pool; the pool itself where they are all, in order. Clusters of which none is left are left out.

    taken: rows of vectors.
    """
    if len(rows_n) == len(pool) and np.array_equal(rows_n, np.arange(len(pool))):
        return pool
    labels_n = None if pool.labels_N is None else np.unique(pool.labels_N[rows_n], return_inverse=True)[1]
    return Pool(
        keys_N=pool.keys_N[rows_n],
        arrival_N=pool.arrival_N[rows_n],
        scores={name: score_N[rows_n] for name, score_N in pool.scores.items()},
        vectors=Opened({name: partial(_taken, pool, name, rows_n, taken) for name in pool.vectors}),
        labels_N=None if labels_n is None else labels_n.astype(np.int32),
        distance_N=None if pool.distance_N is None else pool.distance_N[rows_n],
        targets=pool.targets,
        given_M=pool.given_M,
        tasks_N=None if pool.tasks_N is None else pool.tasks_N[rows_n],
        skills_K=pool.skills_K,
    )


def _taken(
    pool: Pool, name: str, rows_n: Indices, taken: Callable[[NDArray[Any], Indices], NDArray[Any]]
) -> NDArray[Any]:
    return taken(pool.vector(name), rows_n)


def joined(pool: Pool, parts: Sequence[tuple[Indices, Choice]]) -> Choice:
    """The choices of parts, each with the rows that its part has of the pool, as one choice of the pool."""
    index_n = np.concatenate([rows_n[made.index_n] for rows_n, made in parts])
    order = np.argsort(pool.keys_N[index_n])
    scorer_n, score_n, stratum_n = (
        np.concatenate([getattr(made, name) for _, made in parts])[order]
        for name in ("scorer_n", "score_n", "stratum_n")
    )
    return Choice(index_n[order], scorer_n, score_n, stratum_n)
