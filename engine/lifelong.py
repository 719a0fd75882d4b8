"""The spine: a stream of releases, one timestep after the other.

    D_t ─ingest─▶ pool ─score─▶ profile ─cluster─▶ clusters ─select─▶ selection ─train─▶ adapter_t ─evaluate─▶ results
                    ▲                                                                        │
                    └───────────────────────────── prune (Lite) ◀────────────────────────────┘

t0 is the base model, with an adapter where it has one already, and the release it was trained on: pool and evaluation only.
Every stage is a result in the run folder; the same call continues where an earlier one was stopped. An adapter that
`training.gate` leaves aside is evaluated like the others, and none goes on from it.
"""

from typing import Any

from liit.engine.data.stream import open_stream
from liit.engine.evaluation.gate import Verdict, judged
from liit.engine.evaluation.results import write_results
from liit.engine.learning import Learning
from liit.engine.pages.report import show_report
from liit.engine.pages.tracking import track
from liit.engine.run.progress import log
from liit.engine.run.store import Made, Store
from liit.engine.settings.config import Config
from liit.engine.stages import Stages
from liit.engine.training.given_adapter import given


def run(config: Config, store: Store) -> dict[str, Any]:
    """Teach the model the whole stream; returns what `results.json` says."""
    stream = open_stream(config, store)
    stages = Stages(config, store, {one.name: one.skill for one in stream.targets})
    base = given(config)
    learning = Learning(stages, base)
    for t, release in enumerate(stream.releases):
        stages.ingest(release, t)
    exam, split = stages.exam(stream.evaluations), stages.split(stream.targets)
    asked = stages.looking.queries(exam)

    adapter = base
    left: tuple[Made, ...] = ()
    models: list[Made | None] = []
    evaluations: list[Made] = []
    verdicts: list[Verdict] = []
    for t, release in enumerate(stream.releases):
        log.info("t%d: %s", t, release.name)
        pool = stages.pool(t, left, exam)
        profile = clusters = selection = None
        if stages.strategy(t).learns(t, len(stream.releases) - 1):
            profile = stages.score(t, pool, adapter)
            clusters = stages.cluster(t, profile)
            targets = stages.targets(t, split, adapter)
            selection = stages.select(t, pool, profile, clusters, targets)
            learning.look_at(t, selection, pool, clusters)
            adapter = learning.train(t, selection, adapter)
        elif t == 0:
            learning.look_at(t, pool, pool, None)
        else:
            stages.rest(t)
        models.append(adapter)
        if exam is not None:
            evaluations.append(stages.evaluate(t, exam, stream.evaluations, adapter, asked))
            verdicts = judged(models, evaluations, config.training.gate)
            adapter = models[verdicts[-1].stands]
        learned = selection if t > 0 else pool
        if learned is not None and t + 1 < len(stream.releases) and adapter is models[t]:
            learning.weigh(t, learned, adapter)
        removed = stages.prune(t, pool, profile, clusters, selection)
        left = (pool, removed) if profile is None else (pool, removed, profile)
        stages.forget_vectors(t)
        track(store, config, t)
    results = write_results(store, config, [release.name for release in stream.releases], evaluations, verdicts)
    show_report(store, config, results)
    return results
