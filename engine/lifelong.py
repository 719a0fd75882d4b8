"""The spine: a stream of releases, one timestep after the other.

    D_t ─ingest─▶ pool ─score─▶ profile ─cluster─▶ clusters ─select─▶ selection ─train─▶ adapter_t ─evaluate─▶ results
                    ▲                                                                        │
                    └───────────────────────────── prune (Lite) ◀────────────────────────────┘

t0 is the base model, with an adapter where it has one already, and the release it was trained on: pool and evaluation only.
Every stage is a result in the run folder; the same call continues where an earlier one was stopped. An adapter that
`training.gate` leaves aside is evaluated like the others, and none goes on from it.
"""

from dataclasses import dataclass
from typing import Any

from liit.engine.data.stream import open_stream
from liit.engine.evaluation.gate import Verdict
from liit.engine.evaluation.results import write_results
from liit.engine.examining import Examining
from liit.engine.gating import Gating
from liit.engine.learning import Learning
from liit.engine.pages.report import show_report
from liit.engine.pages.tracking import track
from liit.engine.run.store import Made, Store
from liit.engine.settings.config import Config
from liit.engine.stages import Stages
from liit.engine.targeting import Targeting
from liit.engine.training.given_adapter import given


def run(config: Config, store: Store) -> dict[str, Any]:
    """Teach the model the whole stream; returns what `results.json` says. Raises Reached as `Store.make` does."""
    walked = walk(config, store)
    results = write_results(store, config, walked.releases, walked.evaluations, walked.verdicts)
    show_report(store, config, results)
    return results


@dataclass(frozen=True)
class Walked:
    """What a stream came to."""

    releases: list[str]
    evaluations: list[Made]
    verdicts: list[Verdict]


def walk(config: Config, store: Store) -> Walked:
    """Every stage of every timestep in its order, made where it is not there; with a `planning.Plan` as store, none is."""
    stream = open_stream(config, store)
    stages = Stages(config, store, {one.name: one.skill for one in stream.targets})
    base = given(config)
    targeting, learning, examining = Targeting(stages), Learning(stages, base), Examining(stages)
    gating = Gating(stages, stream.asked)
    for t, release in enumerate(stream.releases):
        stages.ingest(release, t)
    examining.read(stream.evaluations)
    split = targeting.split(stream.targets)

    adapter = base
    left: tuple[Made, ...] = ()
    for t, release in enumerate(stream.releases):
        stages.say(t, release)
        pool = stages.pool(t, left, examining.holding(t))
        profile = clusters = selection = None
        if stages.strategy(t).learns(t, len(stream.releases) - 1):
            profile = stages.score(t, pool, adapter)
            clusters = stages.cluster(t, profile)
            targets = targeting.profile(t, split, adapter)
            selection = stages.select(t, pool, profile, clusters, targets, examining.skills(t))
            learning.look_at(t, selection, pool, clusters)
            adapter = learning.train(t, selection, adapter)
        elif t == 0:
            learning.look_at(t, pool, pool, None)
        else:
            stages.rest(t)
        evaluation = examining.examine(t, adapter)
        own, adapter = adapter, gating.judge(t, adapter, evaluation)
        learned = selection if t > 0 else pool
        if learned is not None and t + 1 < len(stream.releases) and adapter is own:
            learning.weigh(t, learned, adapter)
        removed = stages.prune(t, pool, profile, clusters, selection)
        left = (pool, removed) if profile is None else (pool, removed, profile)
        stages.forget_vectors(t)
        if store.acts:
            track(store, config, t)
    return Walked([release.name for release in stream.releases], gating.evaluations, gating.verdicts)
