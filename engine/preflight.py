"""What can be found wrong with a settled configuration before anything is started: models, files, trackers that are not there."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from liit.engine.answers.metrics import check_metric
from liit.engine.data.readers.formats import read as open_release
from liit.engine.pages.tracking_wandb import signed_in
from liit.engine.settings.config import Config, ConfigError
from liit.engine.settings.streams import FileStream
from liit.selectors import catalog

if TYPE_CHECKING:
    from liit.engine.scoring.profile_spec import ProfilerSpec


def check_weights(config: Config) -> None:
    """Raises ConfigError where the folder of a model lacks weights: its results would be said to have changed."""
    from liit.engine.models.loading import locate
    from liit.engine.models.weights import missing_weights

    for path, revision in models_of(config):
        if Path(locate(path)).is_dir() and (missing := missing_weights(path, revision)):
            raise ConfigError(f"model {path}: {', '.join(missing[:3])} is not there")


def check_model(config: Config) -> None:
    """Raises ValueError, one line, when a model or its processor, or a score that is wanted, is not there, or an adapter does not
    fit."""
    from liit.engine.models.loading import load_processor
    from liit.engine.models.processors import asks_for, template_of
    from liit.engine.scoring import custom
    from liit.engine.training.given_adapter import check_given

    spec = _spec(config)
    processor = load_processor(spec.model, spec.revision, spec.template)
    for name in config.model.template_kwargs:
        if not asks_for(template_of(processor), name):
            raise ConfigError(f"model.template_kwargs.{name}: the chat template of {spec.model} does not ask for it")
    check_given(config)
    for path, revision in models_of(config)[1:]:
        load_processor(path, revision)
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
    """Raises ValueError for a release or evaluation set whose files or image folder are not here, or whose metric is not."""
    if isinstance(config.stream, FileStream):
        for held_out in (*config.stream.asked, *config.stream.targets):
            check_metric(held_out.metric, held_out.options)
        for one in (*config.stream.releases, *config.stream.asked, *config.stream.targets):
            open_release(one)


def check_tracking(config: Config) -> None:
    """Raises ConfigError where a tracker is asked for that is not installed, or that would ask for a key while it runs."""
    for extra in ("mlflow", "wandb"):
        if getattr(config.tracking, extra) is not None:
            _check_installed(extra, f"tracking.{extra}", extra)
    if config.tracking.wandb is not None and not signed_in():
        raise ConfigError("tracking.wandb needs a login: `wandb login`, WANDB_API_KEY, or WANDB_MODE=offline")


def check_quantised(config: Config) -> None:
    """Raises ConfigError where weights are to be quantised by a package that is not installed."""
    if config.training.quantised:
        _check_installed("bitsandbytes", "training.quantised", "quantised")


def _check_installed(package: str, key: str, extra: str) -> None:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:  # a folder of that name, which W&B leaves where it is run, is no package
        raise ConfigError(f"{key} needs the package {package}: pip install 'liit[{extra}]', or leave the key out")
