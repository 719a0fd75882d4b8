"""Between a selection and its adapter: what it is like, what must not be forgotten meanwhile, and the training itself.

    clusters ─names─▶ pseudo-tasks ─┐ (or the timestep itself)
    selection ─task─▶ what its tasks look like ─similarity─┐
    selection t-1, adapter t-1 ─importance of its tasks───▶ train ─▶ adapter t

The side branches exist only where `training.regulariser` or `training.experts` asks for them.
"""

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial as partial_of
from pathlib import Path

import numpy as np
import pyarrow as pa

from liit.engine.choosing.pseudo_tasks import name_tasks, names_of
from liit.engine.data.pool import samples, streamed
from liit.engine.holding.averaging import average, balanced
from liit.engine.holding.importance import measure
from liit.engine.holding.task_features import describe, feature_spec, similarity
from liit.engine.run.files import read_table, remove
from liit.engine.run.progress import log
from liit.engine.run.store import Clock, Made, path_of, there
from liit.engine.run.tables import sort_by_key
from liit.engine.scoring.specification import fresh_lora, plain_spec
from liit.engine.settings.config import Config
from liit.engine.settings.training import MACHINE
from liit.engine.stages import Stages
from liit.engine.training.expanding import expand
from liit.engine.training.teaching import teach
from liit.selectors.priority import smallest


@dataclass
class Learning:
    """The stages that teach, over one stream."""

    stages: Stages
    given: Made | None = None
    """The adapter that the stream starts from; None where it starts from the bare model."""
    importances: list[Made] = field(default_factory=list)
    tasks: list[Made] = field(default_factory=list)
    """Of all timesteps so far."""
    names: Made | None = None
    """Of the newest timestep, with pseudo-tasks."""

    def look_at(self, t: int, learned: Made, pool: Made, clusters: Made | None) -> None:
        """What timestep t is trained on (at t0: its pool) → its tasks, and what they look like to the base model."""
        config = self.stages.config
        rules = [phase.training.regulariser for phase in config.phases()]
        if not any(rules) and config.training.experts is None:
            return
        if config.tasks.of == "clusters":
            self.names = self._name(t, pool, clusters)
        if config.training.experts is None and not any(rule and rule.similarity for rule in rules):
            return
        spec, named = feature_spec(config), self.names

        def work(partial: Path, clock: Clock) -> None:
            few, names_n = self._few(t, learned, named, config.tasks.samples, "task")
            keys_n = few["key"].to_numpy()
            describe(keys_n, self._releases(t), spec, config, partial, f"t{t} task", clock, names_N=names_n)

        looked = self.stages.scored_by(spec) | self.stages.looked_at_by
        settings = {**looked, "samples": config.tasks.samples}
        made = self.stages.store.make(
            f"t{t:02d}/task.parquet", work, settings=settings, parents=(learned, *there(named))
        )
        self.tasks.append(made)

    def _name(self, t: int, pool: Made, clusters: Made | None) -> Made:
        before, least = self.names, self.stages.config.tasks.overlap
        return self.stages.store.make(
            f"t{t:02d}/pseudo-tasks.parquet",
            lambda partial, clock: name_tasks(t, pool.path, path_of(clusters), path_of(before), least, partial),
            settings={"overlap": least},
            parents=(pool, *there(clusters), *there(before)),
        )

    def weigh(self, t: int, learned: Made, adapter: Made | None) -> None:
        """What timestep t has taught (at t0: its pool) → how much each adapter weight matters for each task of it."""
        config = self._weighed_for(t)
        if config is None or (rule := config.training.weighed_by()) is None:
            return
        fresh = fresh_lora(config)
        spec, named = replace(plain_spec(config, path_of(adapter)), lora=fresh, merge=False), self.names

        def work(partial: Path, clock: Clock) -> None:
            few, names_n = self._few(t, learned, named, rule.samples, "importance")
            chosen = samples(self._releases(t), few["id"])
            measure(chosen, names_n, spec, rule, config, partial, f"t{t} importance", clock)

        made = self.stages.store.make(
            f"t{t:02d}/importance",
            work,
            settings={
                **self.stages.scored_by(spec, t + 1),
                "regulariser": rule.model_dump(include={"kind", "samples", "tokens_per_batch"}),
                "lora": fresh,
            },
            parents=(learned, *there(adapter), *there(named)),
        )
        self.importances.append(made)

    def _weighed_for(self, t: int) -> Config | None:
        """The settings of the first timestep after t that goes by the importance of weights; None where none does."""
        config = self.stages.config
        for later in (config.at(step) for step in range(t + 1, config.stream.last + 1)):
            if later.training.weighed_by() is not None:
                return later
        return None

    def train(self, t: int, selection: Made, adapter: Made | None) -> Made:
        """selection → the adapter of t, continued from the last one that stands."""
        config, parent = self.stages.config.at(t), self.given if self.stages.strategy(t).from_base else adapter
        rule, named, averaging = config.training.regulariser, self.names, config.training.averaging
        old = tuple(self.importances) if rule and rule.kind != "lwf" else ()
        if averaging and averaging.alpha == "fisher":
            old = tuple(self.importances[-1:])  # earlier ones are of weights that averaging has turned since
        tasks = tuple(self.tasks) if config.training.experts or (rule and rule.similarity) else ()
        looks = [made.path for made in tasks]

        def work(partial: Path, clock: Clock) -> dict[str, object]:
            chosen = read_table(selection.path, ["id", "key"])
            names_n = names_of(chosen["key"].to_numpy(), t, path_of(named))
            rows = partial_of(streamed, self._releases(t))
            if config.training.experts is not None:
                expand(chosen, names_n, rows, t, path_of(adapter), config, looks, partial, clock)
                return {}
            files = [file for made in old for file in sorted(made.path.glob("*.safetensors"))]
            alike = similarity(looks, partial, t, Counter(names_n.tolist()))[1] if looks else {}
            held = [(str(file), 1 - alike.get(file.stem, 0.0)) for file in files]
            trained = partial if averaging is None else partial.with_name(f"{partial.name}.trained")
            weighed = () if averaging else held
            teach(rows(chosen["id"]), len(chosen), t, path_of(parent), config, trained, clock, weighed)
            return self._average(t, selection, trained, path_of(parent), files, partial, clock) if averaging else {}

        return self.stages.store.make(
            f"t{t:02d}/adapter",
            work,
            settings=self._taught_by(config),
            parents=(selection, *there(parent), *old, *tasks, *there(named)),
            beside=("similarity.json",),
            layout=config.training.model_dump(include=MACHINE),
        )

    def _average(
        self, t: int, selection: Made, trained: Path, parent: Path | None, old: list[Path], partial: Path, clock: Clock
    ) -> dict[str, object]:
        """What was trained → what is handed on, and how much of each it has."""
        config = self.stages.config.at(t)
        rule, averaging = config.training.weighed_by(), config.training.averaging
        assert averaging is not None
        alpha, fisher = averaging.alpha, partial.with_name(f"{partial.name}.fisher")
        if isinstance(alpha, str):
            assert rule is not None
            few, names_n = self._few(t, selection, self.names, rule.samples, "importance")
            spec, chosen = replace(plain_spec(config, trained), merge=False), samples(self._releases(t), few["id"])
            measure(chosen, names_n, spec, rule, config, fisher, f"t{t} importance of what was trained", clock)
            alpha = balanced(trained, parent, old, sorted(fisher.glob("*.safetensors")))
        made = average(trained, parent, alpha, partial)
        cut = "the cut to the adapter's rank took %.2f %% of the mean's norm, of a linear's at most %.2f %%"
        shares = made["alpha"], 100 * made["cut"], 100 * made["largest_cut"]
        log.info(f"t%d: averaged, %.3f of what was trained; {cut}", t, *shares)
        remove(trained)
        remove(fisher)
        return {"averaging": made}

    def _taught_by(self, config: Config) -> dict[str, object]:
        """What an adapter depends on, beside what is trained on."""
        told = config.model.model_dump(include={"dtype", "attention", "max_length"}) | config.model.told()
        return {
            "model": {"weights": self.stages.model_mark, **told},
            "training": config.training.taught_by(),
            "seed": config.seed,
        }

    def _few(self, t: int, learned: Made, named: Made | None, count: int, salt: str) -> tuple[pa.Table, np.ndarray]:
        """Of every task up to `count` samples of a selection or pool, by hash: id and key, by key, and the task of each."""
        known = sort_by_key(read_table(learned.path, ["id", "key"]))
        if not len(known):
            raise ValueError(f"t{t}: no sample to learn from; is the pool empty?")
        keys_n = known["key"].to_numpy()
        names_n = names_of(keys_n, t, path_of(named))
        groups = [np.flatnonzero(names_n == name) for name in set(names_n)]
        few = np.sort(np.concatenate([of[smallest(keys_n[of], count, salt)] for of in groups]))
        return known.take(pa.array(few)), names_n[few]

    def _releases(self, t: int) -> list[Path]:
        return [made.path for made in self.stages.releases[: t + 1]]
