"""Which adapter stands: one that falls below `training.gate` is kept, and the next timestep goes on from the last that stands.

    timestep     t0   t1   t2   t3
    value        70   80   60   78
    stands       t0   t1   t1   t3     drop: 10. t2 is 20 points below t1, the model that it was to replace; t3 is 2 below t1

A function of the evaluations and the rules alone: no training depends on it but by its parent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from liit.engine.run.files import read_json
from liit.engine.run.reading import Run
from liit.engine.settings.training import Gate

ROUNDING = 1e-9
"""Points that a difference of percentages may be off."""


@dataclass(frozen=True)
class Fall:
    """A skill that a timestep lost more of than its bound: percent before and after, and the points that it may lose."""

    skill: str
    before: float
    after: float
    drop: float


@dataclass(frozen=True)
class Verdict:
    """Of one timestep. stands: whose adapter stands after it. against: whose model its own was to replace."""

    timestep: int
    stands: int
    against: int
    falls: tuple[Fall, ...] = ()

    @classmethod
    def after(cls, timestep: int, before: int, falls: Sequence[Fall], same: bool = False) -> "Verdict":
        """The model that stood at `before` goes on standing where a skill fell, or where nothing was trained: `same`."""
        return cls(timestep, before if falls or same else timestep, before, tuple(falls))

    @classmethod
    def of(cls, timestep: int, record: Mapping[str, Any]) -> "Verdict":
        """As `record` has it."""
        return cls(timestep, record["stands"], record["against"], tuple(Fall(**fall) for fall in record["falls"]))

    def record(self) -> dict[str, Any]:
        """What gate.json says."""
        return {"stands": self.stands, "against": self.against, "falls": [asdict(fall) for fall in self.falls]}

    def __str__(self) -> str:
        falls = (
            f"{one.skill} fell from {one.before:.1f} (t{self.against}) to {one.after:.1f}, more than {one.drop:g} points"
            for one in self.falls
        )
        return (
            f"t{self.timestep}: {', '.join(falls)}, so training.gate leaves its adapter aside; "
            f"the {'model' if self.stands == 0 else 'adapter'} of t{self.stands} stands"
        )


def fallen(before: Mapping[str, float], after: Mapping[str, float], rules: Sequence[Gate]) -> tuple[Fall, ...]:
    """The skills that are further below what they were than they may be. A skill's own rules go before those of `*`."""
    for rule in rules:
        if rule.skill not in ("*", *before):
            known = ", ".join(before) or "none"
            raise ValueError(
                f"training.gate: skill {rule.skill} has no value to be judged by; skills with one: {known}"
            )
    falls = []
    for skill, value in before.items():
        own = [rule.drop for rule in rules if rule.skill == skill] or [rule.drop for rule in rules if rule.skill == "*"]
        if own and value - after[skill] > min(own) + ROUNDING:
            falls.append(Fall(skill, value, after[skill], min(own)))
    return tuple(falls)


def told(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """For results.json: the timestep whose adapter stands after each, and every fall."""
    falls = [
        {"timestep": one.timestep, "against": one.against, **asdict(fall)} for one in verdicts for fall in one.falls
    ]
    return {"stands": [one.stands for one in verdicts], "falls": falls}


def verdicts_of(run: Run) -> list[Verdict]:
    """Of the timesteps of a run folder on which there is one, finished or not."""
    paths = {t: run.step(t) / "gate.json" for t in run.timesteps}
    return [Verdict.of(t, read_json(path)) for t, path in paths.items() if path.is_file()]
