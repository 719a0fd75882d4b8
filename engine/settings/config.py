"""What a run is told: YAML and dotted overrides, refused early with key and cause; its sections stand beside it."""

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from liit.engine.settings.base import OnDisk, Settings
from liit.engine.settings.phases import SECTIONS, changed, dotted
from liit.engine.settings.remote import hidden
from liit.engine.settings.sections import (
    Clustering,
    Estimate,
    Model,
    Pool,
    Resources,
    Scoring,
    Strategy,
    Tracking,
)
from liit.engine.settings.streams import DigitsStream, Evaluation, FileStream
from liit.engine.settings.training import Judged, Tasks, Training


class ConfigError(ValueError):
    """The configuration cannot be run; the message is one line for the person who wrote it."""


class Config(Settings):
    """One run over a whole stream."""

    model_config = ConfigDict(validate_by_name=True, serialize_by_alias=True)

    name: str = Field("digits", pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    output: OnDisk = "runs/{name}"
    """The run folder; on a cluster an absolute path that every node sees."""
    seed: int = Field(0, ge=0, lt=2**31)
    model: Model = Model()
    stream: Annotated[DigitsStream | FileStream, Field(discriminator="kind")] = DigitsStream()
    pool: Pool = Pool()
    strategy: Strategy = Strategy()
    scoring: Scoring = Scoring()
    clustering: Clustering = Clustering()
    training: Training = Training()
    tasks: Tasks = Tasks()
    evaluation: Evaluation = Evaluation()
    resources: Resources = Resources()
    estimate: Estimate = Estimate()
    tracking: Tracking = Tracking()
    max_bad_share: float = Field(0.05, ge=0, le=1)
    """A release with a larger share of quarantined samples stops the run before any training."""
    upper_bounds: dict[str, float] = Field(default_factory=dict)
    """Best value of each skill in a sequential run, in percent; with them relative gain is reported."""
    keep_profiles: PositiveInt | None = None
    """Keep the vectors of the newest so many timesteps only. None: keep all."""
    from_: Annotated[dict[int, dict[str, Any]], BeforeValidator(dotted)] = Field(default_factory=dict, alias="from")
    """Settings of strategy, scoring, clustering and training that hold from a timestep on, e.g.
    {4: {training.learning_rate: 1.0e-4, strategy.budget: 50000}}; what was made before it stays as it is."""

    verdicts: dict[int, Judged] = Field(default_factory=dict)
    """What `training.gate` said of the adapters of past timesteps, by the evaluation sets and metrics of then; a run writes it
    down itself, for one that replays it."""

    def at(self, t: int) -> "Config":
        """With what timestep t is told, and no word of others."""
        told = [settings for step, settings in self.from_.items() if step <= t]
        opening = self.strategy.opening
        if opening is None and not self.from_:
            return self
        none: dict[str, Any] = {"options": {}, "run": None, "quotas": None}
        other = {"name": opening.name, **none} if opening and t <= opening.timesteps else {}
        strategy = self.strategy.model_copy(update={"opening": None, **other})
        sections: dict[str, Any] = {name: getattr(self, name) for name in SECTIONS} | {"strategy": strategy}
        for settings in told:
            sections = {name: changed(section, settings, name) for name, section in sections.items()}
        return self.model_copy(update={**sections, "from_": {}})

    def phases(self) -> list["Config"]:
        """For every span of timesteps that is told the same, the configuration with it."""
        opening = self.strategy.opening
        starts = {1, *self.from_, *([opening.timesteps + 1] if opening else [])}
        return [self.at(t) for t in sorted(starts)]

    @model_validator(mode="after")
    def _opening_ends(self) -> "Config":
        opening = self.strategy.opening
        if opening is not None and opening.timesteps >= self.stream.last:
            raise ValueError(
                f"strategy.opening.timesteps={opening.timesteps} leaves nothing to strategy {self.strategy.name}: "
                f"the stream's last timestep is {self.stream.last}"
            )
        return self

    @model_validator(mode="after")
    def _pool_budget_holds_a_selection(self) -> "Config":
        for strategy in (one.strategy for one in self.phases()):
            limit, counted = strategy.pool_budget, strategy.unit == "samples" and strategy.lifetime is None
            if counted and limit is not None and limit < strategy.budget:
                raise ValueError(f"strategy.pool_budget={limit} is smaller than strategy.budget={strategy.budget}")
        return self


def read(path: str | Path | None, overrides: list[str]) -> Config:
    """The configuration of a YAML file with `dotted.key=value` overrides on top.

    Values are read as YAML. Raises ConfigError, one line that names the file or key, for a file that is missing or is
    not a mapping, an unknown key, or a value that is not allowed.
    """
    values = {} if path is None else load(path, "config file")
    for override in overrides:
        _apply(values, override)
    if isinstance(values.get("stream"), dict):
        values["stream"].setdefault("kind", "digits")
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(one_line(error)) from error


def load(path: str | Path, kind: str) -> dict[str, Any]:
    """The mapping that a YAML file holds. Raises ConfigError, one line that begins with `kind` and the file."""
    try:
        loaded = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{kind} {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{kind} {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise ConfigError(f"{kind} {path} must hold a mapping of keys to values")
    return loaded


def located(name: str, folder: Path) -> Path:
    """The file of that name: a path, else one that is shipped in `folder`."""
    shipped = folder / Path(name).name
    return Path(name) if Path(name).exists() or not shipped.is_file() else shipped


def override(key: str, value: Any) -> str:
    """`dotted.key=value` as `read` takes it."""
    text = str(yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True))
    return f"{key}={text}".removesuffix("\n").removesuffix("\n...")


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"override {override!r} must be dotted.key=value")
    key = "strategy.name" if key == "strategy" else key
    *parents, last = (
        key.split(".", 2) if key.startswith("from.") else key.split(".")
    )  # `phases.py` reads its dotted keys
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {override!r}: {parent!r} is not a section")
    try:
        values[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not YAML") from error


def one_line(error: ValidationError) -> str:
    """Every key that is wrong, and how."""
    parts = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            parts.append(f"{key}: no such key")
        elif not problem["loc"]:  # of the whole: its message names the keys
            parts.append(problem["msg"].removeprefix("Value error, "))
        else:
            parts.append(f"{key}: {problem['msg']} (got {hidden(repr(problem.get('input'))):.80})")
    return "; ".join(parts)
