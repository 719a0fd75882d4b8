"""Evaluation sets from their files to a value of each: what is asked, what each timestep's model answers, and what that is worth.

    eval set ─ingest─▶ exam/<set> ─generate─▶ tNN/generations ─judge─▶ tNN/evaluation.json

An evaluation set is no input of what was trained before it came: it keeps its questions out of pools from its `since` on.
Models of all timesteps are asked what they have not been asked, and judged anew where the metric is another.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from liit.engine.data import stream
from liit.engine.data.ingest import ingest, quarantine
from liit.engine.data.readers.sample import Bad
from liit.engine.data.reading import TooManyBadSamples, unscorable
from liit.engine.evaluation.evaluation import evaluate, keep_first_of_each
from liit.engine.evaluation.generations import Asked, exam_rows, generate
from liit.engine.handing.to_serve import to_serve
from liit.engine.pages.afterwards import taught_and_asked
from liit.engine.run.deciding import finished
from liit.engine.run.files import read_json, read_table, write_json, write_table
from liit.engine.run.fingerprints import fingerprint
from liit.engine.run.progress import log
from liit.engine.run.reading import Run
from liit.engine.run.store import Clock, Made, path_of, there
from liit.engine.settings.streams import EvaluationSet
from liit.engine.stages import Stages


@dataclass(frozen=True)
class Exam:
    """An evaluation set in the run folder, and what its questions look like where there are experts."""

    of: EvaluationSet
    made: Made
    queries: Made | None

    def asked(self) -> Asked:
        return Asked(self.of, self.made.path, path_of(self.queries))


@dataclass
class Examining:
    """The stages that examine, over one stream."""

    stages: Stages
    exams: list[Exam] = field(default_factory=list)
    unscorable: dict[str, set[str]] = field(default_factory=dict)
    """By set: ids of the questions that its metric can compare nothing with."""
    first_of: dict[str, int] = field(default_factory=dict)
    """The first timestep whose model is the one with this fingerprint of its adapter."""

    def read(self, sets: tuple[EvaluationSet, ...]) -> None:
        """The evaluation sets → exam/, each through the reader and the checks that a release goes through."""
        for one in sets:
            made = self._read(one)
            asked = one.until is None
            queries = self.stages.looking.queries(made, f"exam/{one.key}.queries.parquet") if asked else None
            self.exams.append(Exam(one, made, queries))
            if asked:
                self.unscorable[one.name] = self._cannot_be_judged(one, made)
                self._say_what_was_taught(one, made)

    def _read(self, one: EvaluationSet) -> Made:
        stages = self.stages
        plain = one.model_copy(update={"metric": "stored", "options": {}})  # its rows are the same whatever judges them

        def work(partial: Path, clock: Clock) -> dict[str, int]:
            aside = partial.with_name(f"{one.key}.quarantine.parquet")
            counted = ingest((plain,), 0, stages.config, partial, aside, f"evaluation set {one.name}", clock)
            keep_first_of_each(partial, {one.name: one.limit})
            return counted

        return stages.store.make(
            f"exam/{one.key}.parquet",
            work,
            settings={**stream.reading(one, stages.store.root), "limit": one.limit, **stages.reads()},
            files=self._contents(one),
            beside=(f"{one.key}.quarantine.parquet",),
            rows=lambda: stream.rows_of(one),
        )

    def _contents(self, one: EvaluationSet) -> dict[str, str]:
        """The contents of a set's files; of one that is asked no more as they were, for its files may be gone."""
        record = finished(self.stages.store.root / f"exam/{one.key}.parquet")
        if one.until is not None and record is not None:
            return dict(record["files"])
        return stream.contents_of(one)

    def _cannot_be_judged(self, one: EvaluationSet, exam: Made) -> set[str]:
        """Ids of the rows that the set's metric can compare nothing with, quarantined with why.

        Raises TooManyBadSamples where they are a larger share than is allowed.
        """
        allowed = self.stages.config.max_bad_share
        aside = exam.path.with_name(f"{one.key}.quarantine.parquet")

        def work(partial: Path, clock: Clock) -> None:
            rows = exam_rows(exam.path).to_pylist()
            faults = {row["id"]: fault for row in rows if (fault := unscorable(one, row))}
            bad = [Bad(name, one.name, f"unusable reference: {fault}", "judge") for name, fault in faults.items()]
            quarantine(aside, {"judge"}, bad)
            if len(faults) > allowed * len(rows):
                raise TooManyBadSamples(
                    f"{one.name}: metric {one.metric} can compare nothing with the references of {len(faults)} of {len(rows)} "
                    f"questions, more than max_bad_share={allowed:g} allows; their reasons are in {aside}"
                )
            write_json(partial, sorted(faults))

        made = self.stages.store.make(
            f"exam/{one.key}.unscorable.json",
            work,
            parents=(exam,),
            more={"metric": one.metric, "options": one.options},
        )
        return set(read_json(made.path)) if self.stages.store.acts else set()

    def _say_what_was_taught(self, one: EvaluationSet, made: Made) -> None:
        """Of a set that came later: which of its questions earlier timesteps were trained on."""
        if not (one.since and made.fresh and self.stages.store.acts):
            return
        known = taught_and_asked(Run(self.stages.store.root), made.path, one.since)
        for t, rows in known.groupby("timestep"):
            few = ", ".join(rows["id"].head(3))
            log.warning("t%d was trained on %d questions of %s, such as %s", t, len(rows), one.name, few)

    def holding(self, t: int) -> tuple[Made, ...]:
        """Whose questions the pool of timestep t is kept free of."""
        held = (exam.made for exam in self.exams if exam.of.holds(t))
        return tuple(sorted(held, key=lambda made: made.path))

    def skills(self, t: int) -> dict[str, str]:
        """The skill of each set that `holding` has, by its key."""
        return {exam.of.key: exam.of.skill for exam in self.exams if exam.of.holds(t)}

    def examine(self, t: int, adapter: Made | None) -> Made | None:
        """The model of timestep t asked and judged → evaluation.json; None where nothing is asked."""
        asked = [exam for exam in self.exams if exam.of.until is None]
        if not asked:
            return None
        generations = self._generate(t, asked, adapter)
        return self._judge(t, asked, generations, adapter)

    def _speaks(self) -> dict[str, object]:
        """What an answer depends on, beside the question and the adapter."""
        config = self.stages.config
        told = config.model.model_dump(include={"dtype", "attention", "max_length"}) | config.model.told()
        return {
            "model": {"weights": self.stages.model_mark, **told},
            "evaluation": config.evaluation.answered_by(),
        }

    def _generate(self, t: int, asked: list[Exam], adapter: Made | None) -> Made:
        stages = self.stages
        first = self.first_of.setdefault(adapter.fingerprint if adapter else "", t)

        def work(partial: Path, clock: Clock) -> None:
            if first < t:
                write_table(partial, read_table(stages.step(first) / "generations.parquet"))
                return
            old = stages.step(t) / "generations.parquet"
            before = old if old.is_file() else None
            of = [exam.asked() for exam in asked]
            mine, config = path_of(adapter), stages.config
            server = config.evaluation.server
            serve = None if server is None else functools.partial(to_serve, server.command, mine, config)
            generate(of, mine, config, before, partial, f"t{t} evaluate", clock, serve)

        return stages.store.make(
            f"t{t:02d}/generations.parquet",
            work,
            settings=self._speaks(),
            parents=there(adapter),
            more={"max_new_tokens": {exam.of.name: exam.of.max_new_tokens for exam in asked}},
            more_parents=tuple(made for exam in asked for made in (exam.made, *there(exam.queries))),
        )

    def _judge(self, t: int, asked: list[Exam], generations: Made, adapter: Made | None) -> Made:
        stages, marks = self.stages, {exam.of.name: self._mark(exam) for exam in asked}

        def work(partial: Path, clock: Clock) -> Mapping[str, Any]:
            record = finished(stages.step(t) / "evaluation.json") or {}
            before = record.get("judged", {})
            kept = [name for name, mark in marks.items() if before.get(name) == mark]
            evaluate([exam.asked() for exam in asked], generations.path, partial, self.unscorable, kept)
            return {"judged": marks}

        judged = {exam.of.name: exam.of.model_dump(include={"skill", "metric", "options"}) for exam in asked}
        return stages.store.make(
            f"t{t:02d}/evaluation.json",
            work,
            settings=self._speaks(),
            parents=there(adapter),
            more={"judged": judged},
            more_parents=(generations,),
            beside=("answers.parquet",),
        )

    def _mark(self, exam: Exam) -> str:
        """What the judgement of a set depends on, beside the model."""
        of = exam.of
        return fingerprint(exam.made.fingerprint, of.metric, of.options, of.max_new_tokens)
