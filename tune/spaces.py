"""Studies: what is varied, and which figure says what is best. A YAML file each; those that are shipped are in `studies/`."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from liit.engine.settings.base import Settings
from liit.engine.settings.config import ConfigError, load, one_line, override

SHIPPED = Path(__file__).resolve().parent / "studies"


class Study(Settings):
    """A grid: every combination of the values of `space` is a trial."""

    kind: Literal["selection", "training"]
    """selection: choices from one stored profile, nothing is trained. training: a whole run for each trial."""
    space: dict[str, list[Any]] = Field(min_length=1)
    """selection: `k`, `budget`, `strategy`, `vector`, `seed`, `options` or `options.<name>`. training: dotted keys of a run,
    or `settings`: mappings of several."""
    fixed: dict[str, Any] = Field(default_factory=dict)
    """The same keys, the same in every trial."""
    config: str = "digits-compare.yaml"
    """Of a training study: the configuration that is varied."""
    metric: str
    mode: Literal["min", "max"]

    @model_validator(mode="after")
    def _says_every_key_once(self) -> "Study":
        several = [self.fixed.get("settings", {}), *self.space.get("settings", [])]
        if not all(isinstance(one, dict) for one in several):
            raise ValueError("settings must be mappings of dotted keys to values")
        alone = {*self.fixed, *self.space} - {"settings"}
        twice = sorted(alone & {key for one in several for key in one})
        if twice:
            raise ValueError(f"{twice[0]} is in settings and beside them; give it once")
        return self

    def trials(self) -> list[dict[str, Any]]:
        """Every combination with what is fixed, the last key varying fastest."""
        found = [self.fixed | dict(zip(self.space, values, strict=True)) for values in product(*self.space.values())]
        fixed = self.fixed.get("settings", {})
        return [one | {"settings": fixed | one["settings"]} if "settings" in one else one for one in found]


def overrides(trial: Mapping[str, Any]) -> list[str]:
    """A training trial as `dotted.key=value`; under `settings` it has several keys at once."""
    alone = {key: value for key, value in trial.items() if key != "settings"}
    return [override(key, value) for key, value in {**alone, **trial.get("settings", {})}.items()]


def names() -> list[str]:
    """The shipped studies."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def read_study(name: str, changes: list[str]) -> Study:
    """A shipped study by its name, or a YAML file; `key=value` overrides, the value a list for `space.<key>`.

    Raises ConfigError, one line, for a study that is not there or cannot be used.
    """
    path = SHIPPED / f"{name}.yaml" if name in names() else Path(name)
    if not path.is_file():
        raise ConfigError(f"study {name}: no such file; shipped are {', '.join(names())}")
    values = load(path, "study")
    for one in changes:
        _apply(values, one)
    try:
        return Study.model_validate(values)
    except ValidationError as error:
        raise ConfigError(f"study {name}: {one_line(error)}") from error


def _apply(values: dict[str, Any], change: str) -> None:
    """`space.KEY=[...]` replaces one axis, `fixed.KEY=...` and any other key what they name."""
    key, equals, text = change.partition("=")
    if not equals:
        raise ConfigError(f"override {change!r} must be key=value")
    section, dot, rest = key.partition(".")
    if section in ("space", "fixed") and dot:
        values.setdefault(section, {})[rest] = yaml.safe_load(text)
    else:
        values[key] = yaml.safe_load(text)
