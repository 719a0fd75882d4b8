"""Settings that hold from a timestep on: `from: {4: {training.learning_rate: 1.0e-4, strategy.budget: 50000}}`."""

from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from liit.engine.settings.sections import Clustering, Scoring, Strategy
from liit.engine.settings.training import Training

SECTIONS: Mapping[str, type[BaseModel]] = {
    "strategy": Strategy,
    "scoring": Scoring,
    "clustering": Clustering,
    "training": Training,
}
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
    found: Phases = {}
    for step, settings in value.items():
        if not str(step).isdigit() or int(step) < 1:
            raise ValueError(f"from.{step}: name a timestep, 1 or later, at which something is learned")
        if not isinstance(settings, Mapping):
            raise ValueError(f"from.{step}: give settings, such as {{training.learning_rate: 1.0e-4}}")
        mine = flat(settings)
        for key in mine:
            _refuse_fixed(int(step), key)
        found = merged(found, {int(step): mine})  # a file says 4, an override "4"
    return found


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Each setting by its dotted key. A mapping of names of one's own, such as `strategy.options`, is a setting as a whole."""
    return {key: told for name, value in settings.items() for key, told in _flat(str(name), value)}


def merged(first: Phases, second: Phases) -> Phases:
    """What holds from each timestep on by either; the second counts where both say something of a setting."""
    steps = sorted({*first, *second})
    return {t: _beside(first.get(t, {}), second.get(t, {})) | second.get(t, {}) for t in steps}


def from_on(told: Phases, t: int, changes: Mapping[str, Any]) -> Phases:
    """With these settings from timestep t on, whatever was told of them for later ones."""
    later = {step: of if step < t else _beside(of, changes) | _within(of, changes) for step, of in told.items()}
    return {step: of for step, of in merged(later, {t: dict(changes)}).items() if of}


def _beside(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that the changes do not replace."""
    return {key: value for key, value in settings.items() if not any(_of(key, one) for one in changes)}


def _within(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes that are a part of one of the settings."""
    return {key: value for key, value in changes.items() if any(key.startswith(f"{one}.") for one in settings)}


def _of(key: str, setting: str) -> bool:
    """Whether a key is that setting, or a part of it."""
    return key == setting or key.startswith(f"{setting}.")


def _flat(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    key = "strategy.name" if key == "strategy" and isinstance(value, str) else key
    if isinstance(value, Mapping) and value and _section(key) is not None:
        for name, inner in value.items():
            yield from _flat(f"{key}.{name}", inner)
    else:
        yield key, value


def _section(key: str) -> type[BaseModel] | None:
    """What holds the settings below a dotted key; None where the key is of a setting, or of none."""
    first, *path = key.split(".")
    section = SECTIONS.get(first)
    for part in path:
        field = section.model_fields.get(part) if section else None
        section = _model(field.annotation) if field else None
    return section


def _model(annotation: Any) -> type[BaseModel] | None:
    """Of a field that holds settings of its own, or None."""
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def why_fixed(key: str) -> str | None:
    """Why what a dotted key names cannot change during a run, and what there is instead, in words; None where it can."""
    for fixed, why in FIXED.items():
        if _of(key, fixed) or _of(fixed, key):
            same = ", and `strategy: {name: given, run: <this one>}` trains it on the same selections"
            instead = f"a run of its own, in another folder, may have it{same if fixed.startswith('training') else ''}"
            return f"{fixed} cannot change during a run: {why}; {instead}"
    return None


def _refuse_fixed(step: int, key: str) -> None:
    if key.partition(".")[0] not in SECTIONS or "." not in key:
        raise ValueError(f"from.{step}.{key}: only settings of {', '.join(SECTIONS)} can hold from a timestep on")
    if (why := why_fixed(key)) is not None:
        raise ValueError(f"from.{step}.{key}: {why}")


def changed(section: BaseModel, settings: Mapping[str, Any], name: str) -> BaseModel:
    """A section with those of the dotted settings that are its own. Raises ValueError that names the key."""
    values = section.model_dump()
    for key in sorted(settings, key=lambda each: each.count(".")):  # a part of a setting after the whole
        first, *path = key.split(".")
        if first != name:
            continue
        inside = values
        for part in path[:-1]:
            inside[part] = {} if inside.get(part) is None else inside[part]
            inside = inside[part]
            if not isinstance(inside, dict):
                raise ValueError(f"from: {key} is no setting: {part} holds no others")
        inside[path[-1]] = settings[key]
    try:
        return type(section).model_validate(values)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, (name, *problem["loc"])))
        raise ValueError(f"from: {where}: {problem['msg'].removeprefix('Value error, ')}") from error
