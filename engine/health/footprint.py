"""How much a run writes, in bytes, by what it is: the forecast's samples times the widths of their vectors, and the adapters."""

from dataclasses import dataclass

from liit.engine.data.readers.formats import files_of
from liit.engine.forecast import Step, forecast
from liit.engine.health.at_hand import data_sets
from liit.engine.run.storage.places import size_of
from liit.engine.settings.config import Config
from liit.engine.settings.streams import EvaluationSet
from liit.selectors import catalog

WEIGHT_AND_MOMENT = 8
"""Bytes of a trained parameter in a finished adapter: the weight and its second moment, in float32."""
CHECKPOINTS = 24
"""Bytes of a trained parameter meanwhile: the weight and both moments, in the last checkpoint and in the one being written."""


@dataclass(frozen=True)
class Footprint:
    """Bytes below `output` at the fullest moment, about. Images are read where they are, unless they stand in Parquet."""

    vectors: float
    """Of all timesteps that are kept, and a copy of one vector while it is clustered."""
    adapters: float
    """With their second moments, and the checkpoints of one training."""
    samples: float
    """Their rows, and once more those of the release that is being read."""

    @property
    def total(self) -> float:
        return self.vectors + self.adapters + self.samples


def footprint(config: Config) -> Footprint:
    """Raises ValueError, one line, for a release that is not here and states no size, and for a model that is not here."""
    steps, rows = forecast(config), _bytes_of_rows(config)
    return Footprint(
        vectors=_vectors(config, steps),
        adapters=_adapters(config, steps),
        samples=sum(rows) + max(rows, default=0),
    )


def _bytes_of_rows(config: Config) -> list[int]:
    """Of the files of each release; none for the digits, whose samples are small."""
    releases = [one for one in data_sets(config) if not isinstance(one, EvaluationSet)]
    return [sum(size_of(file) for file in files_of(one)) for one in releases]


def _vectors(config: Config, steps: list[Step]) -> float:
    from liit.engine.scoring.scoring import width
    from liit.engine.scoring.specification import profiler_spec

    sizes, copies = [], [0.0]
    for t, step in enumerate(steps):
        of = config.at(t)
        strategy = catalog.get(of.strategy.name, of.clustering.vector)
        spec = profiler_spec(of, None, (), strategy.vectors)
        widths = [width(name, spec) for name in spec.vectors] if step.profiled else []
        sizes.append(2.0 * step.profiled * sum(widths))
        copies.append(2.0 * step.profiled * max(widths, default=0))
    kept = (
        len(steps) if config.keep_profiles is None else config.keep_profiles + 1
    )  # the oldest goes when the newest is done
    return max(sum(sizes[max(t + 1 - kept, 0) : t + 1]) for t in range(len(steps))) + max(copies)


def _adapters(config: Config, steps: list[Step]) -> float:
    count, parameters = sum(step.selected > 0 for step in steps), _trained(config)
    return parameters * (count * WEIGHT_AND_MOMENT + (CHECKPOINTS if count else 0))


def _trained(config: Config) -> int:
    """Parameters that a timestep trains, but for those of the user's own `training.modules`."""
    from liit.engine.models.adapters import add_lora
    from liit.engine.models.loading import outline

    training = config.training
    model = add_lora(
        outline(config.model.path, config.model.revision),
        **training.lora.model_dump(),
        projector=training.projector_learning_rate is not None,
        seed=config.seed,
        of=training.experts.of if training.experts else "language",
    )
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
