"""The target split: a few samples of each skill that a strategy may select for, profiled by the current model. Never evaluation
data."""

from dataclasses import dataclass, replace
from pathlib import Path

from liit.engine.data import stream
from liit.engine.data.ingest import ingest
from liit.engine.evaluation.evaluation import keep_first_of_each
from liit.engine.run.store import Clock, Made, path_of, there
from liit.engine.scoring.scoring import score
from liit.engine.scoring.specification import profiler_spec
from liit.engine.settings.streams import EvaluationSet
from liit.engine.stages import Stages
from liit.selectors import catalog
from liit.selectors.protocol import rehearse


@dataclass(frozen=True)
class Targeting:
    """The stages of the target split, over one stream."""

    stages: Stages

    def split(self, sets: tuple[EvaluationSet, ...]) -> Made | None:
        """The target split → targets.parquet, where the strategy looks at it."""
        wanted = [each.strategy for each in self.stages.config.phases() if catalog.get(each.strategy.name).targets]
        for each in wanted:
            rehearse(catalog.get(each.name), each.options, {one.skill for one in sets})  # an option may name a skill
        if not (wanted and sets):
            return None

        aside = self.stages.store.root / "targets.quarantine.parquet"

        def work(partial: Path, clock: Clock) -> None:
            ingest(sets, 0, self.stages.config, partial, aside, "target split", clock)
            keep_first_of_each(partial, {one.name: one.limit for one in sets})

        told = {
            one.name: {
                **stream.reading(one, self.stages.store.root),
                "limit": one.limit,
                "metric": [one.metric, one.options],
            }
            for one in sets
        }
        files = {path: content for one in sets for path, content in stream.contents_of(one).items()}
        return self.stages.store.make(
            "targets.parquet",
            work,
            settings={**told, **self.stages.reads()},
            files=files,
            beside=("targets.quarantine.parquet",),
        )

    def profile(self, t: int, split: Made | None, adapter: Made | None) -> Made | None:
        """The target split profiled by the current model, where the strategy selects for it: plain gradients."""
        if split is None or not self.stages.strategy(t).targets:
            return None
        config = self.stages.config.at(t)
        spec = profiler_spec(config, path_of(adapter), (), self.stages.strategy(t).vectors[:1])
        spec = replace(spec, sketches={name: replace(one, gradient="sgd") for name, one in spec.sketches.items()})
        folder = self.stages.step(t)
        return self.stages.store.make(
            f"t{t:02d}/targets",
            lambda partial, clock: score(
                [split.path],
                split.path,
                None,
                spec,
                config,
                partial,
                folder / "targets.quarantine.parquet",
                f"t{t} targets",
                clock,
            ),
            settings=self.stages.scored_by(spec, t),
            parents=(split, *there(adapter)),
            beside=("targets.quarantine.parquet",),
        )
