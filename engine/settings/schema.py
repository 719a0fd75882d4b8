"""The configuration as its own documentation: every key with type, default and what it is for, as YAML or as JSON schema."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from liit.engine.settings.config import Config


def json_schema_of() -> dict[str, Any]:
    """JSON schema of a configuration file, with documentation, for editors that complete YAML by it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}


def described(section: str | None = None) -> str:
    """A configuration of all defaults, as YAML: over every key its documentation and type, keys that have none commented out.

    section: a dotted key that holds others, to describe it alone. Raises KeyError that names what there is.
    """
    model: type[BaseModel] = Config
    for part in section.split(".") if section else ():
        inside = {name: _models(field.annotation) for name, field in model.model_fields.items()}
        if not inside.get(part):
            known = ", ".join(name for name, models in inside.items() if models)
            raise KeyError(f"{part!r} is no section of {model.__name__}; sections are {known}")
        model = inside[part][-1]
    return "\n".join(_lines(model, ""))


def _lines(model: type[BaseModel], indent: str) -> Iterator[str]:
    if model.__doc__:
        yield from _comment(model.__doc__, indent)
    for name, field in model.model_fields.items():
        yield from _field(name, field, indent)


def _field(name: str, field: FieldInfo, indent: str) -> Iterator[str]:
    name = field.alias or name
    yield from _comment(field.description or "", indent)
    models, kind = _models(field.annotation), _typed(field.annotation)
    default = field.get_default(call_default_factory=True)
    if field.is_required():
        yield f"{indent}# {name}:  # {kind}, must be given"
    elif isinstance(default, BaseModel):
        yield f"{indent}{name}:"
        yield from _lines(type(default), f"{indent}  ")
        models = [one for one in models if one is not type(default)]
    else:
        yield f"{indent}{name}: {_yaml(default)}  # {kind}"
    for one in models:  # what else may stand there, or what one entry of it holds
        yield f"{indent}# {one.__name__}:"
        yield from (f"{indent}#   {line.removeprefix(indent)}" for line in _lines(one, indent))


def _comment(text: str, indent: str) -> Iterator[str]:
    if text:
        yield from (f"{indent}# {line.strip()}".rstrip() for line in text.strip().split("\n"))


def _yaml(default: Any) -> str:
    plain = list(default) if isinstance(default, tuple) else default
    text = str(yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True))
    return text.removesuffix("\n").removesuffix("\n...")


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The sections that may stand in a value of this type."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def _typed(annotation: Any) -> str:
    """A type in words that a writer of YAML knows."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _typed(inner[0])
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " | ".join(dict.fromkeys(_typed(one) for one in inner))
    if origin in (tuple, list):
        return f"list of {_typed(inner[0])}"
    if origin is dict:
        return f"mapping of {_typed(inner[0])} to {_typed(inner[1])}"
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return {str: "text", int: "integer", float: "number", bool: "true | false"}.get(annotation, "any")
