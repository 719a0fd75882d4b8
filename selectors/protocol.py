"""What a selection strategy is given, what it declares, and what it returns.

Shapes: N samples of the pool, n chosen samples.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.opened import Opened
from liit.selectors.priority import Indices, Keys, priority


@dataclass(frozen=True)
class Pool:
    """All samples seen so far with what is known of each; rows are a set, in no particular order.

    Raises:
        ValueError: a column has another length than the keys (vectors that are `Opened` say so when they are), or a key occurs
            twice.
    """

    keys_N: Keys
    arrival_N: NDArray[np.int32]  # timestep at which each sample came
    scores: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    vectors: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    labels_N: NDArray[np.int32] | None = None
    distance_N: NDArray[np.float32] | None = None  # to the centroid of its cluster
    targets: Mapping[str, NDArray[Any]] = field(default_factory=dict)  # skill -> (n_s, P), the strategy's first vector
    given_M: Keys | None = None  # of what another run selected
    tasks_N: NDArray[np.int32] | None = None  # which known task each is of, from 0: for oracles alone
    skills_K: NDArray[np.int32] | None = None  # which skill each task is of

    def __post_init__(self) -> None:
        columns = {
            "arrival": self.arrival_N,
            "labels": self.labels_N,
            "distance": self.distance_N,
            "tasks": self.tasks_N,
        }
        at_hand = {} if isinstance(self.vectors, Opened) else self.vectors
        for name, column in [*columns.items(), *self.scores.items(), *at_hand.items()]:
            if column is not None:
                self._check(name, column)
        sorted_N = self.keys_N if (self.keys_N[1:] > self.keys_N[:-1]).all() else np.sort(self.keys_N)
        twice = sorted_N[1:][sorted_N[1:] == sorted_N[:-1]]
        if len(twice):
            count = int((self.keys_N == twice[0]).sum())
            raise ValueError(f"key {twice[0]} occurs {count} times in the pool; pass it once")

    def __len__(self) -> int:
        return len(self.keys_N)

    def _check(self, name: str, column: NDArray[Any]) -> None:
        if len(column) != len(self):
            raise ValueError(f"column {name!r} has {len(column)} rows for {len(self)} keys; pass one for each key")

    def score(self, name: str) -> NDArray[np.float32]:
        """Raises ValueError where the profile lacks the score."""
        if name not in self.scores:
            raise ValueError(f"the pool has no score {name!r}, only {sorted(self.scores)}; add it to the profile")
        return self.scores[name]

    def vector(self, name: str) -> NDArray[Any]:
        """Raises ValueError where the profile lacks the vector."""
        if name not in self.vectors:
            raise ValueError(f"the pool has no vector {name!r}, only {sorted(self.vectors)}; add it to the profile")
        self._check(name, self.vectors[name])
        return self.vectors[name]

    def first_vector(self) -> NDArray[Any]:
        """The strategy's first vector, which clusters are of. Raises ValueError where the pool has none."""
        return self.vector(next(iter(self.vectors), "sketch"))

    def labels(self) -> NDArray[np.int32]:
        """Raises ValueError where the pool was not clustered."""
        if self.labels_N is None:
            raise ValueError("the pool has no cluster labels; cluster it before this strategy chooses")
        return self.labels_N

    def wanted(self) -> Mapping[str, NDArray[Any]]:
        """The vectors of the target samples by skill. Raises ValueError where no skill has any."""
        if not self.targets:
            raise ValueError("the pool has no target vectors; profile a target split, some samples of each skill")
        return self.targets

    def given(self) -> Keys:
        """The keys that another run selected. Raises ValueError where none were given."""
        if self.given_M is None:
            raise ValueError("the pool has no selection of another run; name the run, as strategy.run does")
        return self.given_M

    def tasks(self) -> NDArray[np.int32]:
        """(N,) the known task of each sample. Raises ValueError where none are known."""
        if self.tasks_N is None:
            raise ValueError("the pool has no known tasks; pass that of each sample, which an oracle looks at")
        return self.tasks_N

    def skills(self) -> NDArray[np.int32]:
        """(N,) the skill that each sample's task is of. Raises ValueError where none are known."""
        if self.skills_K is None:
            raise ValueError("the pool has no known skills; pass that of each task, which an oracle looks at")
        return self.skills_K[self.tasks()]


@dataclass(frozen=True)
class Choice:
    """The chosen samples, sorted by key, and why each: the score that chose it and its stratum within the score."""

    index_n: Indices  # positions in the pool
    scorer_n: NDArray[np.object_]  # name of the score, or another reason; None where no score of the sample decided
    score_n: NDArray[np.float32]  # NaN where there is no scorer
    stratum_n: NDArray[np.int32]  # -1 where there is none
    rank_n: NDArray[np.float64] | None = (
        None  # those of smaller rank would be chosen of a smaller budget; None: by hash
    )


def choice(
    pool: Pool,
    index_n: Indices,
    scorer_n: NDArray[np.object_] | str | None = None,
    stratum_n: NDArray[np.int32] | int = -1,
    rank_n: NDArray[np.number] | None = None,
) -> Choice:
    """Sort by key and look up the scores; a sample whose score is missing was not chosen by it, so it has no scorer."""
    order = np.argsort(pool.keys_N[index_n])
    scorers = np.empty(len(index_n), object)
    scorers[:] = scorer_n
    strata = np.broadcast_to(np.asarray(stratum_n, np.int32), len(index_n))[order]
    index_n, scorers = index_n[order], scorers[order]
    score_n = np.full(len(index_n), np.nan, np.float32)
    for name in {name for name in scorers if name is not None}:
        mine = scorers == name
        score_n[mine] = pool.score(name)[index_n[mine]]
    scorers[~np.isfinite(score_n)] = None
    ranks = None if rank_n is None else rank_n[order].astype(np.float64)
    return Choice(index_n, scorers, np.where(np.isfinite(score_n), score_n, np.float32(np.nan)), strata, ranks)


def because(pool: Pool, index_n: Indices, reason: str) -> Choice:
    """These samples for a reason that is no score: it stands where the name of the score would."""
    index_n = index_n[np.argsort(pool.keys_N[index_n])]
    scorer_n = np.full(len(index_n), reason, object)
    return Choice(index_n, scorer_n, np.full(len(index_n), np.nan, np.float32), np.full(len(index_n), -1, np.int32))


def subset(made: Choice, rows: Indices) -> Choice:
    """Some rows, ascending, of a choice."""
    rank_n = None if made.rank_n is None else made.rank_n[rows]
    return Choice(made.index_n[rows], made.scorer_n[rows], made.score_n[rows], made.stratum_n[rows], rank_n)


def in_order(made: Choice, keys_n: Keys) -> Indices:
    """(n,) the samples of a choice in the order in which they are added to it: by rank, equals by hash."""
    hashed_n = priority(keys_n, "added")
    return np.argsort(hashed_n) if made.rank_n is None else np.lexsort((hashed_n, made.rank_n))


Options = Mapping[str, Any]
Strata = tuple[NDArray[np.int32], NDArray[np.int64]]
"""(N,) the stratum of each sample, and what each of the strata gives."""


def settled(options: Options, **defaults: Any) -> dict[str, Any]:
    """Defaults overridden by options.

    Raises:
        ValueError: an option that the strategy does not know, with those it does.
    """
    unknown = sorted(set(options) - set(defaults))
    if unknown:
        raise ValueError(f"unknown strategy options {unknown}; this strategy takes {sorted(defaults) or 'none'}")
    return {**defaults, **options}


@dataclass(frozen=True)
class Strategy:
    """A named way to choose, and what must be in the pool for it.

    `choose(pool, budget, seed, timestep, options)` depends on the set of rows of the pool, never on their order.

    Raises:
        ValueError: it prunes and looks at the newest release alone: of the rest there is nothing to prune it by; or it wants
            skills and no tasks, which skills are of.
    """

    name: str
    choose: Callable[[Pool, int, int, int, Options], Choice]
    scores: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    clusters: bool = False  # needs `labels_N`, clusters of the first of `vectors`
    own_clusters: bool = False  # makes clusters of the first of `vectors` itself, which may be another as well
    prunes: bool = False  # the pool is pruned for good at the end of the timestep
    whole: bool = False  # the budget does not apply: the choice is what the method's definition says
    targets: bool = False  # needs `targets`, the first of `vectors` for samples of each skill that is wanted
    given: bool = False  # needs `given_M`, what another run selected
    tasks: bool = False  # an oracle: needs `tasks_N`, labels that no method may look at
    skills: bool = False  # an oracle that needs `skills_K` as well
    from_base: bool = False  # trained from the base model instead of the last timestep's adapter
    newest: bool = False  # chooses among the newest release alone, and nothing else is scored
    once: bool = False  # trained a single time, when the last release is there
    strata: Callable[[Pool, int, int, int, Options], Strata] | None = (
        None  # those that `choose` balances, if there are any
    )
    budgets: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict
    )  # scores that a kind of the option `budgets` needs

    def __post_init__(self) -> None:
        if self.newest and self.prunes:
            raise ValueError(
                f"strategy {self.name}: `prunes` needs the whole pool scored, `newest` scores a part; drop one"
            )
        if self.skills and not self.tasks:
            raise ValueError(f"strategy {self.name}: `skills` are of tasks; declare `tasks` too")

    def learns(self, t: int, last: int) -> bool:
        """Whether timestep t of a stream that ends at `last` trains: t0 is the base model, and some train at the end alone."""
        return t > 0 and (t == last or not self.once)

    def scores_for(self, options: Options) -> tuple[str, ...]:
        """The scores it judges by: its own, or those that the option `scores` names instead; and those that it shares its budget
        by, of the options `weight` and `budgets`.

        Raises:
            ValueError: the options are no list of names, no name.
        """
        named = options.get("scores", self.scores)
        if not isinstance(named, list | tuple) or not all(isinstance(name, str) for name in named):
            raise ValueError(f"option scores is {named!r}; pass a list of names: scores=[nll, el2n]")
        weight = options.get("weight")
        if not isinstance(weight, str | None):
            raise ValueError(f"option weight is {weight!r}; pass the name of a score: weight=el2n")
        shared = self.budgets.get(str(options.get("budgets")), ())
        return tuple(dict.fromkeys([*named, *([weight] if weight else []), *shared]))


def rehearse(strategy: Strategy, options: Options, skills: Collection[str] = ()) -> None:
    """Let a strategy choose from nothing, so that options which it cannot use are refused before anything is computed.

    skills: of the target split, where they are known already.

    Raises:
        ValueError: what is wrong with the options.
    """
    nothing = Pool(
        keys_N=np.empty(0, np.uint64),
        arrival_N=np.empty(0, np.int32),
        scores={name: np.empty(0, np.float32) for name in strategy.scores_for(options)},
        vectors={name: np.empty((0, 2), np.float32) for name in strategy.vectors},
        labels_N=np.empty(0, np.int32),
        distance_N=np.empty(0, np.float32),
        targets={skill: np.zeros((1, 2)) for skill in skills or [str(options.get("skill"))]},
        given_M=np.empty(0, np.uint64),
        tasks_N=np.empty(0, np.int32),
        skills_K=np.empty(0, np.int32),
    )
    chosen(strategy, nothing, 1, 0, 0, options)
    if strategy.prunes and strategy.strata is not None:
        strategy.strata(nothing, 1, 0, 0, options)


def chosen(strategy: Strategy, pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """What a strategy chooses.

    Raises:
        ValueError: a column that the pool lacks, or options that the strategy cannot use.
    """
    try:
        return strategy.choose(pool, budget, seed, timestep, options)
    except TypeError as error:
        if not options:
            raise
        raise ValueError(f"strategy {strategy.name} cannot use the options {dict(options)}: {error}") from error
