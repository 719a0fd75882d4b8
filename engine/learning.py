"""Between a selection and its adapter: what it is like, what must not be forgotten meanwhile, and the training itself.

    selection ─task─▶ what it looks like ─similarity─┐
    selection t-1, adapter t-1 ─importance──────────▶ train ─▶ adapter t

The side branches exist only where `training.regulariser` or `training.experts` asks for them.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from liit.engine.expanding import expand
from liit.engine.importance import measure
from liit.engine.pool import samples
from liit.engine.specification import profiler_spec
from liit.engine.stages import Stages, path_of, there
from liit.engine.store import Clock, Made, read_table
from liit.engine.task_features import describe, similarity
from liit.engine.teaching import teach
from liit.selectors.priority import smallest


@dataclass
class Learning:
    """The stages that teach, over one stream."""

    stages: Stages
    importances: list[Made] = field(default_factory=list)
    tasks: list[Made] = field(default_factory=list)
    """Of all timesteps so far."""

    def look_at(self, t: int, learned: Made) -> None:
        """What timestep t is trained on (at t0: its pool) → what it looks like to the base model."""
        config, rule = self.stages.config, self.stages.config.training.regulariser
        if not (rule and rule.similarity) and config.training.experts is None:
            return
        spec = profiler_spec(config, None, (), ())

        def work(partial: Path, clock: Clock) -> None:
            describe(self._few(t, learned, config.tasks.samples, "task"), spec, config, partial, f"t{t} task", clock)

        settings = [self.stages.scored_by(spec), self.stages.looked_at_by]
        name = f"t{t:02d}/task.parquet"
        self.tasks.append(self.stages.store.make(name, work, settings=settings, parents=(learned,)))

    def weigh(self, t: int, learned: Made, adapter: Made | None) -> None:
        """What timestep t has taught (at t0: its pool) → how much each adapter weight matters for it."""
        config, rule = self.stages.config, self.stages.config.training.regulariser
        if rule is None or rule.kind == "lwf":
            return
        fresh = config.training.lora.model_dump() | {"projector": False, "seed": config.seed + 1}  # as t1 begins
        spec = replace(profiler_spec(config, path_of(adapter), (), ()), lora=fresh)

        def work(partial: Path, clock: Clock) -> None:
            chosen = self._few(t, learned, rule.samples, "importance")
            measure(chosen, spec, config, partial, f"t{t} importance", clock)

        made = self.stages.store.make(
            f"t{t:02d}/importance.safetensors",
            work,
            settings=[self.stages.scored_by(spec), rule.kind, rule.samples, fresh],
            parents=(learned, *there(adapter)),
        )
        self.importances.append(made)

    def train(self, t: int, selection: Made, adapter: Made | None) -> Made:
        """selection → the adapter of t, continued from the adapter before it."""
        config, parent = self.stages.config, None if self.stages.strategy(t).from_base else adapter
        old, tasks = tuple(self.importances), tuple(self.tasks)

        def work(partial: Path, clock: Clock) -> None:
            chosen = samples(
                [made.path for made in self.stages.releases[: t + 1]], read_table(selection.path, ["id"])["id"]
            )
            if config.training.experts is not None:
                expand(chosen, t, path_of(adapter), config, [made.path for made in tasks], partial, clock)
                return
            weights = 1 - similarity([made.path for made in tasks], partial, t) if tasks else np.ones(len(old))
            held = [(str(made.path), float(weight)) for made, weight in zip(old, weights, strict=True)]
            teach(chosen, t, path_of(parent), config, partial, clock, held)

        return self.stages.store.make(
            f"t{t:02d}/adapter",
            work,
            settings=[self.stages.model_mark, config.model, config.training, config.seed],
            parents=(selection, *there(parent), *old, *tasks),
        )

    def _few(self, t: int, learned: Made, count: int, salt: str) -> pa.Table:
        """Some of the samples of a selection or pool, by hash, as SAMPLE rows."""
        ids = read_table(learned.path, ["id", "key"])
        few = ids.take(smallest(ids["key"].to_numpy(), count, salt))
        return samples([made.path for made in self.stages.releases[: t + 1]], few["id"])
