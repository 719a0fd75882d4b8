"""Settings that hold from a timestep on: `from: {4: {training.learning_rate: 1.0e-4, strategy.budget: 50000}}`."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

SECTIONS = ("strategy", "scoring", "clustering", "training")
"""Whose settings may change during a run."""
Phases = dict[int, dict[str, Any]]
"""Dotted settings by the timestep from which they hold."""
FIXED = {
    "training.lora.r": "an adapter keeps its shape",
    "training.lora.alpha": "an adapter keeps its shape",
    "training.lora.targets": "an adapter keeps its shape",
    "training.experts": "an adapter keeps its shape",
    "training.modules": "what is trained beside an adapter is there from the start",
    "training.projector_learning_rate": "whether the projector is trained is settled at the start",
    "strategy.opening": "it is of the first timesteps",
    "strategy.lifetime": "it is of all timesteps together",
}
"""What may not, and why."""


def dotted(value: Any) -> Any:
    """Timesteps as numbers, settings as dotted keys, however they were nested. Raises ValueError for what cannot change."""
    if not isinstance(value, Mapping):
        return value
    found: dict[int, dict[str, Any]] = {}
    for step, settings in value.items():
        if not str(step).isdigit() or int(step) < 1:
            raise ValueError(f"from.{step}: name a timestep, 1 or later, at which something is learned")
        if not isinstance(settings, Mapping):
            raise ValueError(f"from.{step}: give settings, such as {{training.learning_rate: 1.0e-4}}")
        mine = {key: told for name, at in settings.items() for key, told in _flat(str(name), at)}
        for key in mine:
            _refuse_fixed(int(step), key)
        found.setdefault(int(step), {}).update(mine)  # a file says 4, an override "4"
    return dict(sorted(found.items()))


def merged(first: Phases, second: Phases) -> Phases:
    """What holds from each timestep on by either; the second counts where both say something of a setting."""
    return {t: {**first.get(t, {}), **second.get(t, {})} for t in sorted({*first, *second})}


def from_on(told: Phases, t: int, changes: Mapping[str, Any]) -> Phases:
    """With these settings from timestep t on, whatever was told of them for later ones."""
    later = {step: {k: v for k, v in of.items() if step < t or k not in changes} for step, of in told.items()}
    return {step: of for step, of in merged(later, {t: dict(changes)}).items() if of}


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    key = "strategy.name" if key == "strategy" and isinstance(value, str) else key
    if isinstance(value, Mapping) and key.count(".") == 0:
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}", inner)
    else:
        yield key, value


def _refuse_fixed(step: int, key: str) -> None:
    if key.partition(".")[0] not in SECTIONS or "." not in key:
        raise ValueError(f"from.{step}.{key}: only settings of {', '.join(SECTIONS)} can hold from a timestep on")
    for fixed, why in FIXED.items():
        if key == fixed or key.startswith(f"{fixed}.") or fixed.startswith(f"{key}."):
            raise ValueError(
                f"from.{step}.{key}: {fixed} cannot change during a run: {why}; `liit fork` starts another"
            )


def changed(section: BaseModel, settings: Mapping[str, Any], name: str) -> BaseModel:
    """A section with those of the dotted settings that are its own. Raises ValueError that names the key."""
    values = section.model_dump()
    for key, value in settings.items():
        first, *path = key.split(".")
        if first != name:
            continue
        inside = values
        for part in path[:-1]:
            inside[part] = {} if inside.get(part) is None else inside[part]
            inside = inside[part]
            if not isinstance(inside, dict):
                raise ValueError(f"from: {key} is no setting: {part} holds no others")
        inside[path[-1]] = value
    try:
        return type(section).model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, (name, *problem["loc"])))
        raise ValueError(f"from: {where}: {problem['msg'].removeprefix('Value error, ')}") from error
