"""One method per arrow of a timestep: what it is made from, and which part of the engine makes it.

A stage is skipped when its result was made from the same settings and parents (`store.py`). Stages know each other by
their results only; the order is in `lifelong.py`, and what is between a selection and its adapter in `learning.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from liit.engine.choosing.clustering import cluster_pool
from liit.engine.choosing.insisted import told
from liit.engine.choosing.pruning import prune_pool
from liit.engine.choosing.selection import select
from liit.engine.data import stream
from liit.engine.data.ingest import ingest, quarantine
from liit.engine.data.pool import grow
from liit.engine.evaluation.evaluation import again, evaluate, keep_first_of_each
from liit.engine.holding.looking import Looking
from liit.engine.holding.task_features import feature_spec
from liit.engine.models.fingerprint import fingerprint
from liit.engine.run.files import remove
from liit.engine.run.progress import log
from liit.engine.run.store import Clock, Made, Store, path_of, there
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.scoring import score
from liit.engine.scoring.specification import made_by, mark, profiler_spec
from liit.engine.settings.config import Config
from liit.engine.settings.streams import EvaluationSet, Release
from liit.selectors import catalog
from liit.selectors.protocol import Strategy, rehearse


@dataclass
class Stages:
    """The stages of one run over one stream."""

    config: Config
    store: Store
    skills: Mapping[str, str] = field(default_factory=dict)
    """The skill of each data set of the target split."""
    releases: list[Made] = field(default_factory=list)
    selections: list[Made] = field(default_factory=list)
    profiles: dict[int, Made] = field(default_factory=dict)
    """By timestep; none where the strategy needs none."""
    examined: dict[str, int] = field(default_factory=dict)
    """Timestep whose evaluation is of the model with this fingerprint of its adapter."""

    @cached_property
    def model_mark(self) -> str:
        return fingerprint(self.config.model.path, self.config.model.revision)

    def strategy(self, t: int) -> Strategy:
        """What timestep t chooses by."""
        return catalog.get(self.config.at(t).strategy.name, self.config.clustering.vector)

    def step(self, t: int) -> Path:
        return self.store.root / f"t{t:02d}"

    def ingest(self, release: Release, t: int) -> Made:
        """D_t → releases/: every usable sample once; the others to quarantine."""
        name = f"releases/{t:02d}-{release.name}.parquet"
        for other in set(self.store.root.glob(f"releases/{t:02d}-*.parquet")) - {self.store.root / name}:
            self.store.drop(f"releases/{other.name}")  # of another stream, that the folder had before
        made = self.store.make(
            name,
            lambda partial, clock: ingest(
                (release,), t, self.config, partial, self.step(t) / "quarantine.parquet", release.name, clock
            ),
            settings=[stream.mark(release), self.reads(), self.config.max_bad_share],
        )
        self.releases.append(made)
        return made

    def exam(self, sets: tuple[EvaluationSet, ...]) -> Made | None:
        """The evaluation sets → exam.parquet, through the same reader and checks; None where there are none."""
        return self._held_out("exam", "evaluation sets", sets)

    def split(self, sets: tuple[EvaluationSet, ...]) -> Made | None:
        """The target split → targets.parquet, where the strategy looks at it."""
        wanted = [each.strategy for each in self.config.phases() if catalog.get(each.strategy.name).targets]
        for each in wanted:
            rehearse(catalog.get(each.name), each.options, {one.skill for one in sets})  # an option may name a skill
        return self._held_out("targets", "target split", sets) if wanted else None

    def _held_out(self, name: str, label: str, sets: tuple[EvaluationSet, ...]) -> Made | None:
        def work(partial: Path, clock: Clock) -> None:
            ingest(sets, 0, self.config, partial, self.store.root / f"{name}.quarantine.parquet", label, clock)
            keep_first_of_each(partial, {one.name: one.limit for one in sets})

        if not sets:
            return None
        settings = [[stream.mark(one), one.limit, one.metric, *filter(None, [one.options])] for one in sets]
        return self.store.make(f"{name}.parquet", work, settings=[settings, self.reads(), self.config.max_bad_share])

    def pool(self, t: int, previous: tuple[Made, ...], exam: Made | None) -> Made:
        """The pool at t: what stayed of the pool before, and the release; without copies of either or of the exam."""
        before = self.step(t - 1) if previous else None
        releases, rules = [made.path for made in self.releases[: t + 1]], self.config.pool
        return self.store.make(
            f"t{t:02d}/pool.parquet",
            lambda partial, clock: grow(before, releases, path_of(exam), rules, partial),
            settings=rules,
            parents=(*previous, self.releases[t], *there(exam)),
        )

    def score(self, t: int, pool: Made, adapter: Made | None) -> Made | None:
        """pool → profile, by the current model; None where the strategy needs no profile."""
        strategy = self.strategy(t)
        scores, vectors = strategy.scores_for(self.config.at(t).strategy.options), strategy.vectors
        if not (scores or vectors):
            self._not_scored(t)
            return None
        spec = profiler_spec(self.config, path_of(adapter), scores, vectors)
        seen, before = (
            self.looking.pool(self.releases[: t + 1]) if adapter is not None else (),
            self.profiles.get(t - 1),
        )
        arrival = t if strategy.newest else None
        made = self.store.make(
            f"t{t:02d}/profile",
            lambda partial, clock: score(
                [made.path for made in self.releases[: t + 1]],
                pool.path,
                path_of(before),
                spec,
                self.config,
                partial,
                self.step(t) / "quarantine.parquet",
                f"t{t} score",
                clock,
                [made.path for made in seen],
                arrival,
            ),
            settings=self.scored_by(spec) + ([] if arrival is None else ["newest"]),
            parents=(pool, *there(adapter), *seen, *(there(before) if "forgetting" in spec.scores else ())),
        )
        self.profiles[t] = made
        return made

    def targets(self, t: int, split: Made | None, adapter: Made | None) -> Made | None:
        """The target split profiled by the current model, where the strategy selects for it: plain gradients."""
        if split is None or not self.strategy(t).targets:
            return None
        spec = profiler_spec(self.config, path_of(adapter), (), self.strategy(t).vectors[:1])
        spec = replace(spec, sketches={name: replace(one, gradient="sgd") for name, one in spec.sketches.items()})
        folder = self.step(t)
        return self.store.make(
            f"t{t:02d}/targets",
            lambda partial, clock: score(
                [split.path],
                split.path,
                None,
                spec,
                self.config,
                partial,
                folder / "targets.quarantine.parquet",
                f"t{t} targets",
                clock,
            ),
            settings=self.scored_by(spec),
            parents=(split, *there(adapter)),
        )

    def scored_by(self, spec: ProfilerSpec) -> list[object]:
        return made_by(spec, self.config.scoring, self.model_mark)

    def cluster(self, t: int, profile: Made | None) -> Made | None:
        """profile → clusters, where the strategy wants pseudo-tasks; elsewhere what another strategy left there goes."""
        if profile is None or not self.strategy(t).clusters:
            self.store.drop(f"t{t:02d}/clusters.parquet")
            return None
        name, grid, seed = self.strategy(t).vectors[0], self.config.clustering.k_grid, self.config.seed
        return self.store.make(
            f"t{t:02d}/clusters.parquet",
            lambda partial, clock: cluster_pool(profile.path, name, grid, seed, partial),
            settings=[name, grid, seed],
            parents=(profile,),
        )

    def select(
        self, t: int, pool: Made, profile: Made | None, clusters: Made | None, targets: Made | None = None
    ) -> Made:
        """pool, profile, clusters, targets → selection."""
        config, count, releases = self.config.at(t), len(self.releases), [made.path for made in self.releases[: t + 1]]
        lifetime = config.strategy.lifetime is not None
        settings = [told(config.strategy, t), config.seed, t]
        settings += [sorted(self.skills.items())] if self.strategy(t).targets else []
        made = self.store.make(
            f"t{t:02d}/selection.parquet",
            lambda partial, clock: select(self.step(t), t, count, releases, config, self.skills, partial),
            settings=[settings, count, config.training.epochs]
            if lifetime or config.strategy.unit == "flops"
            else settings,
            parents=(
                pool,
                *there(profile),
                *there(clusters),
                *there(targets),
                *(self.selections if lifetime else []),
            ),
        )
        self.selections.append(made)
        return made

    def rest(self, t: int) -> None:
        """Nothing is chosen and trained at t: what another strategy left there of this kind in an earlier run goes."""
        self._not_scored(t)
        remove(self.step(t) / "adapter.work")
        for name in ("clusters.parquet", "selection.parquet", "adapter"):
            if self.store.drop(f"t{t:02d}/{name}"):
                log.info("t%d: %s of an earlier run with another strategy was removed", t, name)

    def _not_scored(self, t: int) -> None:
        """What another strategy's scoring found bad at t stays in the pool."""
        if (path := self.step(t) / "quarantine.parquet").is_file():
            quarantine(path, {"score"}, [])

    def evaluate(
        self,
        t: int,
        exam: Made,
        sets: tuple[EvaluationSet, ...],
        adapter: Made | None,
        queries: Made | None = None,
    ) -> Made:
        """The evaluation sets answered by the model of t → evaluation.json, answers.parquet. A model is examined once."""
        limits, same = self.config.evaluation, self.examined.setdefault(adapter.fingerprint if adapter else "", t)

        def work(partial: Path, clock: Clock) -> None:
            if same < t:
                again(self.step(same) / "evaluation.json", partial)
                return
            model, asked = path_of(adapter), path_of(queries)
            evaluate(exam.path, sets, model, self.config, partial, f"t{t} evaluate", clock, asked)

        return self.store.make(
            f"t{t:02d}/evaluation.json",
            work,
            settings=[
                self.model_mark,
                self.config.model.model_dump(include={"dtype", "attention"}) | self.config.model.told(),
                limits,
                [(one.name, one.skill, one.metric, one.max_new_tokens, *filter(None, [one.options])) for one in sets],
            ],
            parents=(exam, *there(adapter), *there(queries)),
        )

    def prune(self, t: int, pool: Made, profile: Made | None, clusters: Made | None, selection: Made | None) -> Made:
        """pool → removed: what leaves for good. Nothing at t0, and nothing by strategies that do not prune. And the summary."""
        budget = self.config.strategy.pool_budget or 4 * self.config.strategy.budget
        limit = budget if self.strategy(t).prunes and clusters is not None else None
        return self.store.make(
            f"t{t:02d}/removed.parquet",
            lambda partial, clock: prune_pool(self.step(t), limit, partial),
            settings=limit,
            parents=(pool, *there(profile), *there(clusters), *there(selection)),
        )

    def forget_vectors(self, t: int) -> None:
        """Drop the profile of a timestep that is older than `keep_profiles` allows, when all made from it is there."""
        keep = self.config.keep_profiles
        if keep is not None and t - keep >= 0:
            self.store.forget(f"t{t - keep:02d}/profile")

    @cached_property
    def looking(self) -> Looking:
        """What samples look like, where each has to find its expert."""
        return Looking(self.store, self.config, [self.scored_by(feature_spec(self.config)), self.looked_at_by])

    @property
    def looked_at_by(self) -> list[object]:
        """What vectors of tasks are made by: fingerprints in place of where encoders lie."""
        return [mark(self.config.tasks.image_encoder), mark(self.config.tasks.text_encoder)]

    def reads(self) -> list[object]:
        """What the tokens of a sample depend on, beside its words and images."""
        told = self.config.model.told()
        return [self.model_mark, self.config.model.max_length, *([told] if told else [])]
