"""What samples look like to the base model, where each has to find its expert: to be scored, or to be examined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from liit.engine.holding.task_features import describe, feature_spec
from liit.engine.run.files import read_table
from liit.engine.run.store import Made, Store
from liit.engine.settings.config import Config


@dataclass(frozen=True)
class Looking:
    """Tables of looks, in the run folder; none without experts."""

    store: Store
    config: Config
    made_by: Mapping[str, object]
    """What the looks depend on beside the samples."""

    @property
    def needed(self) -> bool:
        return self.config.training.experts is not None

    def pool(self, releases: Sequence[Made]) -> tuple[Made, ...]:
        """A table for every one of these releases, to be scored with experts."""
        if not self.needed:
            return ()
        return tuple(self._at(f"looks/{at:02d}.parquet", made, False) for at, made in enumerate(releases))

    def queries(self, exam: Made | None, name: str = "exam.queries.parquet") -> Made | None:
        """A table for the evaluation sets, or what else is to be answered."""
        return self._at(name, exam, True) if exam is not None and self.needed else None

    def _at(self, name: str, samples: Made, selected: bool) -> Made:
        spec, label = feature_spec(self.config), f"look at {Path(samples.path).stem}"
        return self.store.make(
            name,
            lambda partial, clock: describe(
                read_table(samples.path, ["key"])["key"].to_numpy(),
                [samples.path],
                spec,
                self.config,
                partial,
                label,
                clock,
                selected=selected,
            ),
            settings=self.made_by,
            parents=(samples,),
        )
