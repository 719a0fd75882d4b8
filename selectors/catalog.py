"""Every strategy by name."""

from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from typing import Any

import numpy as np

from liit.selectors.adapt import SCORES, adapt_inf, random_clusters, strata_of_clusters
from liit.selectors.both_strata import both_strata, cell_strata
from liit.selectors.coincide import coincide
from liit.selectors.coverage import added, ccs
from liit.selectors.d2 import d2
from liit.selectors.density import density
from liit.selectors.group_budgets import NEEDS
from liit.selectors.icons import icons
from liit.selectors.less import less
from liit.selectors.oasis import oasis
from liit.selectors.oracles import oracle_skills, oracle_tasks
from liit.selectors.priority import priority
from liit.selectors.protocol import Choice, Options, Pool, Strategy, because, choice, settled
from liit.selectors.ranking import DIRECTIONS, outwards, ranked
from liit.selectors.rds import rds_plus
from liit.selectors.semdedup import semdedup
from liit.selectors.similar import similar
from liit.selectors.two_level import fine_strata, two_level
from liit.selectors.uniform import random_replay, random_sample


def _random(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    among = np.arange(len(pool))
    if settled(options, newest=False)["newest"]:
        among = np.flatnonzero(pool.arrival_N == timestep)
    index = among[random_sample(pool.keys_N[among], budget, seed=seed, timestep=timestep)]
    return choice(pool, index, rank_n=priority(pool.keys_N[index], "random", seed, timestep))


def _replay(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    fraction = settled(options, fraction=0.1)["fraction"]
    replayed = random_replay(pool.keys_N, pool.arrival_N, seed=seed, timestep=timestep, fraction=fraction)
    return choice(pool, replayed)


def _newest(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    settled(options)
    return choice(pool, np.flatnonzero(pool.arrival_N == timestep))


def _everything(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    settled(options)
    return choice(pool, np.arange(len(pool)))


def _given(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    settled(options)
    return because(pool, np.flatnonzero(np.isin(pool.keys_N, pool.given())), "given")


def _by(score: str, direction: str) -> Callable[[Pool, int, int, int, Options], Choice]:
    def choose(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
        parts = settled(options, direction=direction, bins=50, trim=0.05)
        values_N, stratum = pool.score(score), np.asarray(-1, np.int32)
        way, chance = parts.pop("direction"), {"seed": seed, "timestep": timestep}
        if way == "ccs":
            index, stratum = ccs(values_N, pool.keys_N, budget, **parts, **chance)
            rank = added(stratum, pool.keys_N[index], seed, timestep).astype(np.float64)
        elif way in DIRECTIONS:
            index = ranked(values_N, pool.keys_N, budget, direction=way, **chance)
            rank = outwards(values_N[index], way)
        else:
            raise ValueError(f"direction is {way!r}; choose one of: {', '.join((*DIRECTIONS, 'ccs'))}")
        return choice(pool, index, score, stratum, rank)

    return choose


CLUSTERS: dict[str, Any] = {"clusters": True, "strata": strata_of_clusters, "budgets": NEEDS}
FINE: dict[str, Any] = {"own_clusters": True, "strata": fine_strata, "budgets": NEEDS}
CELLS: dict[str, Any] = {"own_clusters": True, "strata": cell_strata, "budgets": NEEDS}
BOTH = ("instruction-input", "sketch")
STRATEGIES: dict[str, Strategy] = {
    strategy.name: strategy
    for strategy in (
        Strategy("adapt-inf", adapt_inf, SCORES, ("sketch",), **CLUSTERS),
        Strategy("lite-adapt-inf", adapt_inf, SCORES, ("sketch", "embedding"), **CLUSTERS, prunes=True),
        Strategy("random-clusters-ccs", random_clusters, SCORES),
        Strategy("two-level", two_level, SCORES, ("sketch",), **FINE),
        Strategy("lite-two-level", two_level, SCORES, ("sketch", "embedding"), **FINE, prunes=True),
        Strategy("both-strata", both_strata, SCORES, BOTH, **CELLS),
        Strategy("lite-both-strata", both_strata, SCORES, (*BOTH, "embedding"), **CELLS, prunes=True),
        Strategy("random", _random),
        Strategy("random-replay", _replay, whole=True),
        Strategy("sequential", _newest, whole=True),
        Strategy("multi-task", _everything, whole=True, from_base=True, once=True),
        Strategy("given", _given, whole=True, given=True),
        Strategy("oracle-tasks", oracle_tasks, tasks=True),
        Strategy("oracle-skills", oracle_skills, tasks=True, skills=True),
        Strategy("perplexity", _by("nll", "highest"), ("nll",)),
        Strategy("image-grounding", _by("image_grounding", "highest"), ("image_grounding",)),
        Strategy("el2n", _by("el2n", "highest"), ("el2n",)),
        Strategy("entropy", _by("entropy", "highest"), ("entropy",)),
        Strategy("grad-norm", _by("grad_norm", "highest"), ("grad_norm",)),
        Strategy("learnability", _by("learnability", "highest"), ("learnability",)),
        Strategy("forgetting", _by("forgetting", "highest"), ("nll", "forgetting")),
        Strategy("semdedup", semdedup, vectors=("embedding",)),
        Strategy("density", density, vectors=("embedding",)),
        Strategy("coincide", coincide, vectors=("coincide",)),
        Strategy("d2", d2, ("el2n",), ("embedding",)),
        Strategy("less", less, vectors=("sketch",), targets=True),
        Strategy("icons", icons, vectors=("sketch",), targets=True),
        Strategy("rds-plus", rds_plus, vectors=("position-mean",), targets=True),
        Strategy("oasis", oasis, ("grad_norm",), ("sketch",), newest=True),
        Strategy("similar-gradients", similar("sketch"), vectors=("sketch",), targets=True, newest=True),
        Strategy("similar-states", similar("embedding"), vectors=("embedding",), targets=True, newest=True),
        Strategy("similar-images", similar("projector"), vectors=("projector",), targets=True, newest=True),
    )
}


GROUP = "liit.strategies"
"""Entry points of installed packages: a name and the `module:attribute` of a `Strategy`."""


def get(name: str, clustered: str | None = None) -> Strategy:
    """The strategy of a name: one of these, or one that an installed package brings.

    clustered: for a strategy that chooses by clusters, the vector that clusters are of, in place of its own.

    Raises:
        ValueError: the name is unknown, with all known ones, or what the package brings is no `Strategy`.
    """
    found = STRATEGIES.get(name) or _installed(name)
    if clustered is None or not (found.clusters or found.own_clusters):
        return found
    return replace(found, vectors=tuple(dict.fromkeys((clustered, *found.vectors[1:]))))


def _installed(name: str) -> Strategy:
    installed = {point.name: point for point in entry_points(group=GROUP)}
    if name not in installed:
        raise ValueError(f"unknown strategy {name!r}; choose one of: {', '.join((*STRATEGIES, *installed))}")
    found = installed[name].load()
    if not isinstance(found, Strategy):
        raise ValueError(f"strategy {name!r}: {installed[name].value} is {type(found).__name__}, not a Strategy")
    return found
