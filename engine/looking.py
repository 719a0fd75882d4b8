"""What samples look like to the base model, where each has to find its expert: to be scored, or to be examined."""

from pathlib import Path
from typing import TYPE_CHECKING

from liit.engine.store import Made, read_table
from liit.engine.task_features import describe, feature_spec

if TYPE_CHECKING:
    from liit.engine.stages import Stages


def looks(stages: "Stages", t: int) -> tuple[Made, ...]:
    """A table for every release so far; none without experts."""
    if stages.config.training.experts is None:
        return ()
    return tuple(_looked_at(stages, f"looks/{at:02d}.parquet", stages.releases[at], False) for at in range(t + 1))


def queries(stages: "Stages", exam: Made | None, name: str = "exam.queries.parquet") -> Made | None:
    """A table for the evaluation sets, or what else is to be answered; None without experts."""
    if exam is None or stages.config.training.experts is None:
        return None
    return _looked_at(stages, name, exam, True)


def _looked_at(stages: "Stages", name: str, samples: Made, selected: bool) -> Made:
    spec = feature_spec(stages.config)
    label = f"look at {Path(samples.path).stem}"
    return stages.store.make(
        name,
        lambda partial, clock: describe(
            read_table(samples.path), spec, stages.config, partial, label, clock, selected=selected
        ),
        settings=[stages.scored_by(spec), stages.looked_at_by],
        parents=(samples,),
    )
