"""The labels that oracles look at: the task that each sample of a pool names, and the skill that evaluation sets ask of it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from liit.engine.data.pool import coded
from liit.engine.run.progress import log
from liit.selectors.protocol import Pool, Strategy

Coded = Callable[[str], tuple[np.ndarray, list[str]]]
"""(N,) which of the names a column (`task`, `dataset`) says of each sample of a pool, -1 where none; and the names."""


def with_known(pool: Pool, strategy: Strategy, coded: Coded, skills: Callable[[], Mapping[str, str]]) -> Pool:
    """The pool with what an oracle looks at; a sample that names no task is of a task of its data set.

    skills: of tasks, as evaluation sets ask them. Tasks that none asks for are of one more skill.

    Raises ValueError where no sample names a task, or no evaluation set asks for one of them.
    """
    log.info("strategy %s looks at known tasks, which no method may: it is for analysis only", strategy.name)
    code_N, names = coded("task")
    lacks_N = code_N < 0
    if len(pool) and lacks_N.all():
        raise ValueError(
            f"strategy {strategy.name}: none of {len(pool)} samples names its task; give rows a column task, "
            "or choose by another strategy"
        )
    tasks_N = code_N
    sets: list[str] = []
    if lacks_N.any():
        set_N, sets = coded("dataset")
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
