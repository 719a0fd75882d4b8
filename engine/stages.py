"""One method per arrow of a timestep: what it is made from, and which part of the engine makes it.

A stage is skipped when its result was made from the same settings and parents (`store.py`). Stages know each other by
their results only; the order is in `lifelong.py`, and what is between a selection and its adapter in `learning.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from liit.engine.choosing.clustering import cluster_pool
from liit.engine.choosing.insisted import told
from liit.engine.choosing.pruning import prune_pool, pruned_by
from liit.engine.choosing.refreshing import refresh
from liit.engine.choosing.selection import select
from liit.engine.data import stream
from liit.engine.data.ingest import ingest, quarantine
from liit.engine.data.pool import grow
from liit.engine.data.source_rows import contents_but_withdrawn
from liit.engine.holding.looking import Looking
from liit.engine.holding.task_features import feature_spec
from liit.engine.models.fingerprint import fingerprint
from liit.engine.run.files import remove
from liit.engine.run.fingerprints import fingerprint as fingerprint_of
from liit.engine.run.progress import log
from liit.engine.run.store import Clock, Made, Store, path_of, there
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.scoring import samples_of
from liit.engine.scoring.specification import made_by, mark, profiler_spec
from liit.engine.settings.config import Config
from liit.engine.settings.streams import Release
from liit.selectors import catalog
from liit.selectors.protocol import Strategy


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
    clusters: dict[int, Made] = field(default_factory=dict)
    """Likewise."""
    scored: dict[int, dict[str, object]] = field(default_factory=dict)
    """By timestep, what a profile is made by."""

    @cached_property
    def model_mark(self) -> str:
        return fingerprint(self.config.model.path, self.config.model.revision)

    def strategy(self, t: int) -> Strategy:
        """What timestep t chooses by."""
        return catalog.get(self.config.at(t).strategy.name, self.config.clustering.vector)

    def say(self, t: int, release: Release) -> None:
        """Which timestep begins."""
        if self.store.acts:
            log.info("t%d: %s", t, release.name)

    def step(self, t: int) -> Path:
        return self.store.root / f"t{t:02d}"

    def ingest(self, release: Release, t: int) -> Made:
        """D_t → releases/: every usable sample once; the others to quarantine.

        The quarantine goes with the release; a scoring puts its own rows there in place of those of an earlier one.
        """
        name = f"releases/{t:02d}-{release.name}.parquet"
        for other in set(self.store.root.glob(f"releases/{t:02d}-*.parquet")) - {self.store.root / name}:
            self.store.drop(f"releases/{other.name}")  # of another stream, that the folder had before
        made = self.store.make(
            name,
            lambda partial, clock: ingest(
                (release,),
                t,
                self.config,
                partial,
                self.step(t) / "quarantine.parquet",
                release.name,
                clock,
                self.store.root,
            ),
            settings={**stream.reading(release, self.store.root), **self.reads()},
            files=contents_but_withdrawn(self.store.root / name, release, self.config.pool, self.store.acts),
            beside=(
                f"../images/{Path(name).name}",
                f"../rows/{Path(name).name}",
                f"../t{t:02d}/quarantine.parquet",
            ),
            rows=lambda: stream.rows_of(release),
        )
        self.releases.append(made)
        return made

    def pool(self, t: int, previous: tuple[Made, ...], exams: tuple[Made, ...]) -> Made:
        """The pool at t: what stayed of the pool before, and the release; without copies of either or of the exams."""
        before = self.step(t - 1) if previous else None
        releases, rules = [made.path for made in self.releases[: t + 1]], self.config.pool
        lines = rules.withdrawn_at(t)
        withdrawn = {"withdrawn": f"{len(lines)} lines, {fingerprint_of(lines)}"} if lines else {}
        return self.store.make(
            f"t{t:02d}/pool.parquet",
            lambda partial, clock: grow(before, releases, [exam.path for exam in exams], rules, partial, t),
            settings={"pool": rules.model_dump(include={"duplicates", "contamination"}), **withdrawn},
            parents=(*previous, self.releases[t], *exams),
            beside=("copies.parquet",),
        )

    def score(self, t: int, pool: Made, adapter: Made | None) -> Made | None:
        """pool → profile, by the current model; None where the strategy needs no profile."""
        config, strategy = self.config.at(t), self.strategy(t)
        scores, vectors = strategy.scores_for(config.strategy.options), strategy.vectors
        if not (scores or vectors):
            self._not_scored(t)
            return None
        spec = profiler_spec(config, path_of(adapter), scores, vectors)
        seen = self.looking.pool(self.releases[: t + 1]) if adapter is not None else ()
        before, groups = self.profiles.get(t - 1), self.clusters.get(t - 1)
        arrival = t if strategy.newest else None
        self.scored[t] = self.scored_by(spec, t) | ({} if arrival is None else {"newest": True})
        again = self.refreshes(t)

        def work(partial: Path, clock: Clock) -> dict[str, object]:
            label, bad = f"t{t} score", self.step(t) / "quarantine.parquet"
            releases, looks = [made.path for made in self.releases[: t + 1]], [made.path for made in seen]
            samples = samples_of(releases, pool.path, path_of(before), spec, config, label, looks, arrival)
            if again and before is not None:
                return refresh(samples, before.path, path_of(groups), t, partial, bad, label, clock)
            if config.scoring.refresh is not None:
                log.info("t%d: the whole pool is scored: no rows of t%d are made by the same settings", t, t - 1)
            return samples.finish(samples.score(partial, label, clock), partial, bad)

        made = self.store.make(
            f"t{t:02d}/profile",
            work,
            settings=self.scored[t] | again,
            parents=(
                pool,
                *there(adapter),
                *seen,
                *(there(before) if again or "forgetting" in spec.scores else ()),
                *(there(groups) if again else ()),
            ),
            beside=("refresh.json",) if again else (),
        )
        self.profiles[t] = made
        return made

    def refreshes(self, t: int) -> dict[str, object]:
        """What rows of the profile before are kept by, for its record; nothing where all of the pool is scored: as told, at the
        first profile, and where it is made otherwise than the one before."""
        told = self.config.at(t).scoring.refresh
        if told is None or self.strategy(t).newest or self.scored.get(t - 1) != self.scored[t]:
            return {}
        return {"refresh": {**told.model_dump(), "seed": self.config.seed}}

    def scored_by(self, spec: ProfilerSpec, t: int = 0) -> dict[str, object]:
        """What vectors and scores are made by, at timestep t; of what must be comparable over all, at none."""
        return made_by(spec, self.config.at(t).scoring, self.model_mark)

    def cluster(self, t: int, profile: Made | None) -> Made | None:
        """profile → clusters, where the strategy wants pseudo-tasks; elsewhere what another strategy left there goes."""
        if profile is None or not self.strategy(t).clusters:
            self.store.drop(f"t{t:02d}/clusters.parquet")
            return None
        config, name, seed = self.config.at(t), self.strategy(t).vectors[0], self.config.seed
        grid = config.clustering.grid(config.strategy.budget)
        self.clusters[t] = self.store.make(
            f"t{t:02d}/clusters.parquet",
            lambda partial, clock: cluster_pool(profile.path, name, grid, seed, partial),
            settings={"vector": name, "clustering": {"k_grid": grid}, "seed": seed},
            parents=(profile,),
            beside=("wss.json",),
        )
        return self.clusters[t]

    def select(
        self,
        t: int,
        pool: Made,
        profile: Made | None,
        clusters: Made | None,
        targets: Made | None = None,
        asked: Mapping[str, str] | None = None,
    ) -> Made:
        """pool, profile, clusters, targets → selection; asked: the skill of each evaluation set that there is at t, by key."""
        config, count, releases = self.config.at(t), len(self.releases), [made.path for made in self.releases[: t + 1]]
        lifetime = config.strategy.lifetime is not None
        settings: dict[str, object] = {
            "strategy": told(config.strategy, t),
            "seed": config.seed,
            "timestep": t,
        }
        if self.strategy(t).targets:
            settings["skills"] = dict(self.skills)
        if self.strategy(t).skills:
            settings["asked"] = dict(asked or {})
        if lifetime or config.strategy.unit == "flops":
            settings |= {"timesteps": count, "training": {"epochs": config.training.epochs}}
        made = self.store.make(
            f"t{t:02d}/selection.parquet",
            lambda partial, clock: select(self.step(t), t, count, releases, config, self.skills, partial, asked),
            settings=settings,
            parents=(
                pool,
                *there(profile),
                *there(clusters),
                *there(targets),
                *(self.selections if lifetime else []),
            ),
            beside=("budget.json",),
        )
        self.selections.append(made)
        return made

    def rest(self, t: int) -> None:
        """Nothing is chosen and trained at t: what another strategy left there of this kind in an earlier run goes."""
        self._not_scored(t)
        if self.store.acts:
            remove(self.step(t) / "adapter.work")
        for name in ("clusters.parquet", "selection.parquet", "adapter"):
            if self.store.drop(f"t{t:02d}/{name}"):
                log.info("t%d: %s of an earlier run with another strategy was removed", t, name)

    def _not_scored(self, t: int) -> None:
        """What another strategy's scoring found bad at t stays in the pool."""
        if self.store.acts and (path := self.step(t) / "quarantine.parquet").is_file():
            quarantine(path, {"score"}, [])

    def prune(self, t: int, pool: Made, profile: Made | None, clusters: Made | None, selection: Made | None) -> Made:
        """pool → removed: what leaves for good. Nothing at t0, and nothing by strategies that do not prune. And the summary."""
        config, strategy = self.config.at(t), self.strategy(t)
        prunes = strategy.prunes and (clusters is not None or (strategy.strata is not None and profile is not None))
        limit = (config.strategy.pool_budget or 4 * config.strategy.budget) if prunes else None
        told = pruned_by(config, strategy, t) if prunes else {}
        return self.store.make(
            f"t{t:02d}/removed.parquet",
            lambda partial, clock: prune_pool(self.step(t), limit, partial, t, config),
            settings={"pool_budget": limit, **told},
            parents=(pool, *there(profile), *there(clusters), *there(selection)),
            beside=("summary.parquet",),
        )

    def forget_vectors(self, t: int) -> None:
        """Drop the profile of a timestep that is older than `keep_profiles` allows, when all made from it is there."""
        keep = self.config.keep_profiles
        if keep is not None and t - keep >= 0:
            self.store.forget(f"t{t - keep:02d}/profile")

    @cached_property
    def looking(self) -> Looking:
        """What samples look like, where each has to find its expert."""
        return Looking(self.store, self.config, self.scored_by(feature_spec(self.config)) | self.looked_at_by)

    @property
    def looked_at_by(self) -> dict[str, object]:
        """What vectors of tasks are made by: fingerprints in place of where encoders lie."""
        tasks = self.config.tasks
        return {"tasks": {"image_encoder": mark(tasks.image_encoder), "text_encoder": mark(tasks.text_encoder)}}

    def reads(self) -> dict[str, object]:
        """What the tokens of a sample depend on, beside its words and images."""
        model = self.config.model
        return {"model": {"weights": self.model_mark, "max_length": model.max_length, **model.told()}}
