"""Every key of a configuration as tables, from the schema that `liit config --json-schema` prints."""

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MARK = "<!-- every key -->"
"""Where a page wants the tables."""
HEAD = "| key | values | default | |\n|---|---|---|---|\n"
Schema = Mapping[str, Any]


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    return markdown.replace(MARK, tables(schema())) if MARK in markdown else markdown


def schema() -> Schema:
    """The schema of `engine/settings`; importing it needs pydantic, and neither Ray nor torch."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from liit.engine.settings.config import Config

    return Config.model_json_schema()


def tables(whole: Schema) -> str:
    """A heading and a table for each section, in the order of the models."""
    return "\n".join(_section("", whole, whole["$defs"], {}))


def _section(name: str, section: Schema, parts: Schema, shown: dict[str, str]) -> Iterator[str]:
    """A section's own keys, then the sections inside. shown: where each model stands already, so that none is said twice."""
    rows, inside = [], []
    for key, value in section.get("properties", {}).items():
        below = list(_sections(f"{name.partition(':')[0]}.{key}" if name else key, value))
        links = [f"[`{shown.get(of, under)}`](#{_anchor(shown.get(of, under))})" for under, of in below]
        rows.append(_row(key, value, key in section.get("required", ()), links))
        inside += [(under, of) for under, of in below if of not in shown]
        shown.update((of, under) for under, of in below if of not in shown)
    depth, about = "##" if "." not in name else "###", section.get("description", "") if name else ""
    yield f"{depth} {f'`{name}`' if name else 'The whole'} {{ #{_anchor(name or 'whole')} }}\n\n{about}\n\n{HEAD}{''.join(rows)}"
    for under, of in inside:
        yield from _section(under, parts[of], parts, shown)


def _sections(dotted: str, value: Schema) -> Iterator[tuple[str, str]]:
    """Dotted key and model of the sections that a value may hold."""
    if "oneOf" in value:
        for kind, of in value["discriminator"]["mapping"].items():
            yield f"{dotted}: {{kind: {kind}}}", _name(of)
        return
    inside = value.get("additionalProperties", {})
    for one in (value, *value.get("anyOf", ()), value.get("items", {}), inside if isinstance(inside, dict) else {}):
        if "$ref" in one:
            yield dotted, _name(one["$ref"])


def _anchor(name: str) -> str:
    return re.sub(r"\W+", "-", name).strip("-")


def _row(key: str, value: Schema, required: bool, links: list[str]) -> str:
    default = "required" if required else "" if links and value.get("default", ()) else _default(value.get("default"))
    what = " ".join((*str(value.get("description", "")).split(), *([f"See {', '.join(links)}."] if links else [])))
    return f"| `{key}` | {_values(value)} | {default} | {what.replace('|', chr(92) + '|')} |\n"


def _values(value: Schema) -> str:
    """What may stand there, in words."""
    if "anyOf" in value or "oneOf" in value:
        return " or ".join(dict.fromkeys(_values(one) for one in value.get("anyOf", value.get("oneOf"))))
    if "$ref" in value:
        return "section"
    if "const" in value:
        return f"`{value['const']}`"
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if value.get("type") == "array":
        return f"list of {_values(value['items'])}"
    if value.get("type") == "object":
        kind = value.get("additionalProperties")
        return f"names to {_values(kind)}" if isinstance(kind, dict) else "keys to values"
    names = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true, false", "null": "none"}
    return names.get(str(value.get("type")), "any") + _limits(value)


def _limits(value: Schema) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {value[name]:,}" for name, sign in signs.items() if name in value]
    return f" {', '.join(limits)}" if limits else ""


def _default(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list) and len(value) > 3 and value == list(range(value[0], value[-1] + 1)):
        return f"{value[0]} to {value[-1]}"
    return f"`{value}`"


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]
