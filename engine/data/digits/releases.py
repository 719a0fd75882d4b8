"""The six releases: which tasks each holds, in what shares, after Table 1 of Adapt-∞ (arXiv 2410.10636).

Shares are samples at size 3,000; any other size scales them, and every task keeps at least one sample.

===  ===========  =====  ==============================================================================================
t    release      size   tasks
===  ===========  =====  ==============================================================================================
0    llava          500  vqa-digit 60, vqa-colour 60, vqa-count 30, grounding-colour 70, grounding-digit 60, caption 60,
                         conversation 40, grounded-list 40, language-order 30, language-facts 20,
                         language-arithmetic 15, language-comparison 15
1    m3it          1500  vqa-digit 160, vqa-colour 160, vqa-count 200, caption 160, classification 180, position 120,
                         generation 50, knowledge-kind 90, knowledge-month 80, knowledge-element 15,
                         reasoning-largest 50, reasoning-sum 15, chinese-vqa 120, chinese-caption 90, video 10
2    minigpt4        60  long-caption 60
3    mantis         300  images-which 110, images-each 110, images-largest 70, images-sum 10
4    lamm           250  detection 140, keypoints 110
5    visionflan     390  vqa-count 100, vqa-digit 70, vqa-colour 70, reasoning-largest 70, and sixteen rare tasks of 5:
                         fourteen `flan-*`, knowledge-planet, reasoning-smallest
===  ===========  =====  ==============================================================================================

Absent on purpose: grounding after t0; Chinese everywhere but t1; text-only samples after t0.

In every release 3 % of the samples have a bad answer (half of them wrong: the answer of another sample of the task;
half cut off in the middle), and 5 % repeat another sample of their release on a slightly dimmed image. From t1 on, up to
3 % so repeat a sample of an earlier release (of those drawn, the ones whose task an earlier release has: m3it and
visionflan). A task with fewer than twelve samples in its release has none of these.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from liit.engine.data.digits import flan, language, several, sight, thought
from liit.engine.data.digits.task import Task

REFERENCE_SIZE = 3000
BAD_SHARE = 0.03
REPEAT_SHARE = 0.05
ECHO_SHARE = 0.03
LEAST_FLAWED = 12


@dataclass(frozen=True)
class Release:
    """One data set of the stream and its tasks with their samples at the reference size."""

    name: str
    tasks: tuple[tuple[Task, int], ...]


RELEASES = (
    Release(
        "llava",
        (
            (sight.DIGIT, 60),
            (sight.COLOUR, 60),
            (sight.COUNT, 30),
            (sight.BOX, 70),
            (sight.BOX_OF_DIGIT, 60),
            (sight.CAPTION, 60),
            (sight.CONVERSATION, 40),
            (sight.LIST, 40),
            (language.ORDER, 30),
            (language.FACT, 20),
            (language.ARITHMETIC, 15),
            (language.COMPARISON, 15),
        ),
    ),
    Release(
        "m3it",
        (
            (sight.DIGIT, 160),
            (sight.COLOUR, 160),
            (sight.COUNT, 200),
            (sight.CAPTION, 160),
            (sight.CLASSIFICATION, 180),
            (sight.POSITION, 120),
            (sight.GENERATION, 50),
            (thought.KIND, 90),
            (thought.MONTH, 80),
            (thought.ELEMENT, 15),
            (thought.LARGEST, 50),
            (thought.SUM, 15),
            (thought.CHINESE_VQA, 120),
            (thought.CHINESE_CAPTION, 90),
            (several.VIDEO, 10),
        ),
    ),
    Release("minigpt4", ((sight.LONG_CAPTION, 60),)),
    Release("mantis", ((several.WHICH, 110), (several.EACH, 110), (several.LARGER, 70), (several.TOTAL, 10))),
    Release("lamm", ((sight.DETECTION, 140), (sight.KEYPOINTS, 110))),
    Release(
        "visionflan",
        (
            (sight.COUNT, 100),
            (sight.DIGIT, 70),
            (sight.COLOUR, 70),
            (thought.LARGEST, 70),
            *((task, 5) for task in (*flan.RARE, thought.SMALLEST)),
        ),
    ),
)


class Kind(IntEnum):
    """What a sample is made as."""

    PLAIN = 0
    WRONG = 1
    CUT = 2
    REPEAT = 3
    ECHO = 4


@dataclass(frozen=True)
class Plan:
    """What every sample of a release is: the index into `tasks` (n,), its kind (n,), and of a repeat the (release,
    index) of the sample it repeats (n, 2), -1 elsewhere."""

    tasks: tuple[Task, ...]
    task_n: np.ndarray
    kind_n: np.ndarray
    source_n2: np.ndarray


def plan_stream(size: int, seed: int, skew: float = 1.0) -> list[Plan]:
    """The plan of every release for a stream of about `size` samples. Memory: about 18 bytes a sample."""
    plans: list[Plan] = []
    for position, release in enumerate(RELEASES):
        counts = [max(1, round(samples * size / REFERENCE_SIZE)) for samples in skewed(release, skew)]
        rng = np.random.default_rng([seed, 11, position])
        task_n = rng.permutation(np.repeat(np.arange(len(counts), dtype=np.int16), counts))
        tasks = tuple(task for task, _ in release.tasks)
        kind_n = _kinds(rng, task_n, np.asarray(counts), echoes=position > 0)
        plan = Plan(tasks, task_n, kind_n, np.full((len(task_n), 2), -1, np.int64))
        _link_repeats(rng, position, plan, plans)
        plans.append(plan)
    return plans


def skewed(release: Release, skew: float) -> list[float]:
    """Samples of each task at the reference size, in proportion to its share to the power `skew`; the release keeps its size.

    Nothing else changes: bad answers, repeats and echoes fall on the larger tasks as often as they are larger.
    """
    if skew == 1:
        return [count for _, count in release.tasks]
    total = sum(count for _, count in release.tasks)
    weights = [(count / total) ** skew for _, count in release.tasks]
    return [total * weight / sum(weights) for weight in weights]


def _kinds(rng: np.random.Generator, task_n: np.ndarray, counts: np.ndarray, echoes: bool) -> np.ndarray:
    kind_n = np.zeros(len(task_n), np.int8)
    open_n = rng.permutation(np.flatnonzero(counts[task_n] >= LEAST_FLAWED))
    shares = {
        Kind.WRONG: BAD_SHARE / 2,
        Kind.CUT: BAD_SHARE / 2,
        Kind.REPEAT: REPEAT_SHARE,
        Kind.ECHO: ECHO_SHARE if echoes else 0.0,
    }
    start = 0
    for kind, share in shares.items():
        stop = start + round(share * len(task_n))
        kind_n[open_n[start:stop]] = kind
        start = stop
    return kind_n


def _link_repeats(rng: np.random.Generator, position: int, plan: Plan, earlier: list[Plan]) -> None:
    """Gives each repeat its source: a plain sample of the same task. A repeat that has none becomes plain."""
    for kind, candidates in ((Kind.REPEAT, [(position, plan)]), (Kind.ECHO, list(enumerate(earlier)))):
        for label, task in enumerate(plan.tasks):
            repeats = np.flatnonzero((plan.kind_n == kind) & (plan.task_n == label))
            sources = np.concatenate([_plain(at, other, task) for at, other in candidates] or [np.zeros((0, 2), int)])
            if len(sources) == 0:
                plan.kind_n[repeats] = Kind.PLAIN
            else:
                plan.source_n2[repeats] = sources[rng.integers(len(sources), size=len(repeats))]


def _plain(position: int, plan: Plan, task: Task) -> np.ndarray:
    """(release, index) of every plain sample of a task, (m, 2)."""
    if task not in plan.tasks:
        return np.zeros((0, 2), int)
    found = np.flatnonzero((plan.kind_n == Kind.PLAIN) & (plan.task_n == plan.tasks.index(task)))
    return np.stack([np.full_like(found, position), found], axis=1)
