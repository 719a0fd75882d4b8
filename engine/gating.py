"""Which adapter the next timestep goes on from: a verdict on each one, made when it was evaluated, and kept as a result.

    evaluation.json ─▶ tNN/gate.json ─▶ the parent of the next adapter

Evaluation sets that come later judge no adapter of the past. Nor do those of today where the run is replayed: `config.yaml`
has the verdicts of timesteps that were judged by others (`verdicts`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from liit.engine.evaluation.gate import Fall, Verdict, fallen
from liit.engine.run.files import read_json, write_json
from liit.engine.run.progress import log
from liit.engine.run.store import Clock, Made, there
from liit.engine.settings.streams import EvaluationSet
from liit.engine.stages import Stages


@dataclass
class Gating:
    """The verdicts of one stream."""

    stages: Stages
    sets: tuple[EvaluationSet, ...]
    models: list[Made | None] = field(default_factory=list)
    """That were evaluated at each timestep."""
    evaluations: list[Made] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)

    def judge(self, t: int, model: Made | None, evaluation: Made | None) -> Made | None:
        """The adapter that stands after timestep t, whose own is `model`."""
        before = self.verdicts[-1].stands if self.verdicts else 0
        self.models.append(model)
        if evaluation is not None:
            self.evaluations.append(evaluation)
        rules = self.stages.config.at(t).training.gate
        if t == 0 or _mark(model) == _mark(self.models[before]):
            verdict = Verdict.after(t, before, (), same=True)
        elif not rules or not self._judged(t, evaluation):
            verdict = Verdict.after(t, before, ())
        else:
            verdict = Verdict.after(t, before, self._falls(t, before, model))
            if verdict.falls and self.stages.store.acts:
                log.warning("%s", verdict)
        self.verdicts.append(verdict)
        return self.models[verdict.stands]

    def _judged(self, t: int, evaluation: Made | None) -> bool:
        """Whether something was asked at t, by which its adapter could fall."""
        asked = evaluation is not None and any(one.since <= t for one in self.sets)
        return asked or t in self.stages.config.verdicts

    def _falls(self, t: int, before: int, model: Made | None) -> tuple[Fall, ...]:
        rules = self.stages.config.at(t).training.gate

        def found() -> tuple[Fall, ...]:
            if len(self.evaluations) <= t:  # nothing is asked any more
                return ()
            first, second = (self._values(self.evaluations[step].path, t) for step in (before, t))
            return fallen(first, second, rules)

        def work(partial: Path, clock: Clock) -> None:
            told = self._told(t, clock.record["fingerprint"])
            falls = found() if told is None else told
            write_json(partial, Verdict.after(t, before, falls).record())

        made = self.stages.store.make(
            f"t{t:02d}/gate.json",
            work,
            parents=(*there(model), *there(self.models[before])),
            more={"training": {"gate": [rule.model_dump() for rule in rules]}},
        )
        if self.stages.store.acts or not made.fresh:
            return Verdict.of(t, read_json(made.path)).falls
        if (told := self._told(t, made.fingerprint)) is not None:
            return told
        known = all(self.evaluations[step].stands for step in (before, t) if step < len(self.evaluations))
        return found() if known else ()  # a plan takes a model that is not there yet for one that stands

    def _told(self, t: int, of: str) -> tuple[Fall, ...] | None:
        """What `config.yaml` says of just this adapter, bounds and adapter before; None where it says nothing."""
        told = self.stages.config.verdicts.get(t)
        return Verdict.of(t, told.model_dump()).falls if told is not None and told.of == of else None

    def _values(self, evaluation: Path, t: int) -> Mapping[str, float]:
        """The value of each skill by the data sets that timestep t knew, in percent."""
        names = {one.name for one in self.sets if one.since <= t}
        found: dict[str, float] = {}
        for skill, entry in read_json(evaluation).items():
            values = [data["value"] for name, data in entry["datasets"].items() if name in names and _has_value(data)]
            if values:
                found[skill] = sum(values) / len(values)
        return found


def _mark(model: Made | None) -> str:
    return model.fingerprint if model else ""


def _has_value(data: Mapping[str, Any]) -> bool:
    return data["value"] is not None
