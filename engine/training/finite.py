"""A training whose figures are no numbers any more ends before anything of it is saved, in one line that names the samples.

DeepSpeed passes over a step whose gradient is not finite and goes on; what is left then has learned nothing and says nothing.
Here all workers end by themselves, in the same step, and leave a note. They raise nothing: Ray Train would start them again from
the last checkpoint, to end in the same step once more.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from liit.engine.run.files import read_json, write_json

NAMED = 8
"""Samples that the line names; the note has them all."""


class NotFinite(ValueError):
    """A training that was stopped; one line for the person who started it."""


def at_fault(loss: float, penalty: float, norm: float) -> tuple[str, float] | None:
    """The first of a step's figures that is not finite, by name and value; None where all are."""
    figures = {"loss": loss, "penalty": penalty, "norm of the gradient": norm}
    return next(((name, value) for name, value in figures.items() if not math.isfinite(value)), None)


def leave_note(path: Path, step: int, steps: int, figure: tuple[str, float], samples: Sequence[str]) -> None:
    """step: counted from 1. figure: as `at_fault` names it. samples: the ids of those that may be why; none for a penalty."""
    name, value = figure
    write_json(path, {"step": step, "steps": steps, "figure": name, "value": str(value), "samples": list(samples)})


def refuse_noted(path: Path) -> None:
    """Raises NotFinite where workers have left a note."""
    if not path.is_file():
        return
    note = read_json(path)
    where = f"the {note['figure']} is {note['value']} at step {note['step']} of {note['steps']}"
    raise NotFinite(
        f"{where}{_named(note['samples'], path)}; nothing of this step was saved. The same command goes on from the last "
        f"checkpoint and stops here again: {_remedy(note['figure'])}"
    )


def _named(samples: Sequence[str], path: Path) -> str:
    if not samples:
        return ""
    more = f" and {len(samples) - NAMED} more (all in {path})" if len(samples) > NAMED else ""
    return f", of samples {', '.join(samples[:NAMED])}{more}"


def _remedy(figure: str) -> str:
    if figure == "penalty":
        return "look at training.penalties and training.regulariser, or lower training.learning_rate"
    return "lower training.learning_rate, or leave these samples out (pool.withdrawn, strategy.never)"
