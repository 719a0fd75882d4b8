"""What can be found wrong with a settled configuration before anything is started: models, files, trackers that are not there."""

import importlib.util
from typing import TYPE_CHECKING

from liit.engine.data.readers.formats import read as open_release
from liit.engine.settings.config import Config, ConfigError
from liit.engine.settings.sections import FileStream
from liit.selectors import catalog

if TYPE_CHECKING:
    from liit.engine.scoring.profile_spec import ProfilerSpec


def check_model(config: Config) -> None:
    """Raises ValueError, one line, when a model or its processor, or a score that is wanted, is not there."""
    from liit.engine.models.loading import load_processor
    from liit.engine.scoring import custom

    for path, revision in models_of(config):
        load_processor(path, revision)
    spec = _spec(config)
    for name in set(spec.scores) & set(spec.custom):
        custom.load(name, spec.custom[name])


def models_of(config: Config) -> list[tuple[str, str | None]]:
    """Path and revision of every model that a run loads, the one that is taught first.

    Raises ValueError, one line, for a score or vector that no model gives.
    """
    spec = _spec(config)
    others = [*spec.proxies(), *([spec.reference] if spec.reference else [])]
    return [(spec.model, spec.revision), *((path, None) for path in others)]


def _spec(config: Config) -> "ProfilerSpec":
    from liit.engine.scoring.specification import profiler_spec

    strategies = [
        (catalog.get(each.strategy.name, each.clustering.vector), each.strategy.options) for each in config.phases()
    ]
    scores = tuple(name for strategy, options in strategies for name in strategy.scores_for(options))
    return profiler_spec(config, None, scores, tuple(name for strategy, _ in strategies for name in strategy.vectors))


def check_files(config: Config) -> None:
    """Raises ValueError for a release or evaluation set whose files or image folder are not here."""
    if isinstance(config.stream, FileStream):
        for one in (*config.stream.releases, *config.stream.evaluations, *config.stream.targets):
            open_release(one)


def check_tracking(config: Config) -> None:
    """Raises ConfigError where MLflow is asked for and not installed."""
    if config.tracking.mlflow is not None and importlib.util.find_spec("mlflow") is None:
        raise ConfigError("tracking.mlflow needs MLflow: pip install 'liit[mlflow]', or leave the key out")
