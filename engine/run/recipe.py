"""What a result is made from, each thing by its own name: so it can be said, before anything is done, what is made anew and
why."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from liit.engine.run.fingerprints import fingerprint, plain, sizes
from liit.engine.run.rules import RULES, changed_since, rules_of

LONGEST = 60
"""Characters of a value in a reason."""


@dataclass(frozen=True)
class Recipe:
    """settings: by dotted key. parents: fingerprint of each result, by its name. files: hash of the content of each file, by
    its path. more, more_parents: what the result may be extended by without losing what it holds. rows: how many the files hold
    now."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    more_parents: Mapping[str, str] = field(default_factory=dict)
    rows: Callable[[], int] | None = None

    @cached_property
    def core(self) -> str:
        """Of all that a result cannot be extended by; the order of parents and files tells nothing."""
        contents = sorted((name, content) for name, (_, content) in _by_name(self.files).items())
        return fingerprint(RULES, self.name, self.settings, sorted(self.parents.values()), contents)

    @cached_property
    def fingerprint(self) -> str:
        """Where things lie has no part in it."""
        grown = [self.more, sorted(self.more_parents.values())] if self.more or self.more_parents else []
        return fingerprint(self.core, *grown) if grown else self.core

    def record(self) -> dict[str, Any]:
        """As it stands beside the result."""
        return {
            "fingerprint": self.fingerprint,
            "core": self.core,
            "settings": flat(self.settings) | flat(self.more),
            "files": dict(self.files),
            "sizes": sizes(self.files),
            "parents": [*self.parents, *self.more_parents],
            "made_of": {**self.parents, **self.more_parents},
            "rules": RULES,
        }

    def differences(self, record: Mapping[str, Any]) -> tuple[str, ...]:
        """Why a result with this record is not what the recipe makes, in words."""
        if (old := rules_of(record)) != RULES:
            return (f"it is of rules {old}, and since then {changed_since(old)}",)
        if "settings" not in record:
            return ("its record is of before, and does not say what made it",)
        settings = list(_changed(record["settings"], flat(self.settings) | flat(self.more)))
        return (*settings, *self._files(record), *self._parents(record["made_of"]))

    def _files(self, record: Mapping[str, Any]) -> list[str]:
        old, new = _by_name(record["files"]), _by_name(self.files)
        changed = [(new[name][0], old[name][0]) for name in new if name in old and old[name][1] != new[name][1]]
        said = [self._changed_file(path, was, record) for path, was in changed]
        said += [f"{new[name][0]} is new" for name in new if name not in old]
        return said + [f"{old[name][0]} is gone" for name in old if name not in new]

    def _changed_file(self, path: str, was: str, record: Mapping[str, Any]) -> str:
        """Of a file of other content: how many rows all files hold, or bytes the file, where that is what differs."""
        if "rows" in record and self._counted not in (None, record["rows"]):
            return f"{path}: {record['rows']} → {self._counted} rows"
        then, now = record.get("sizes", {}).get(was), sizes([path]).get(path)
        if then is None or now is None or then == now:
            return f"{path} has changed"
        return f"{path}: {then:,} → {now:,} bytes"

    @cached_property
    def _counted(self) -> int | None:
        return self.rows() if self.rows else None

    def _parents(self, old: Mapping[str, str]) -> list[str]:
        new = {**self.parents, **self.more_parents}
        said = [f"{name} is made anew" for name in new if name in old and old[name] != new[name]]
        said += [f"{name} has a part in it now" for name in new if name not in old]
        return said + [f"{name} has none any more" for name in old if name not in new]


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys and plain values."""
    found: dict[str, Any] = {}
    for key, value in json.loads(json.dumps(dict(settings), default=plain)).items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    keys = [*new, *(key for key in old if key not in new)]
    return [
        f"{key} {_said(old, key)} → {_said(new, key)}" for key in keys if old.get(key, _Absent) != new.get(key, _Absent)
    ]


class _Absent:
    """Of a key that is not there."""


def _said(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "(not set)"
    text = json.dumps(values[key], ensure_ascii=False).strip('"')
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _by_name(files: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Path and content by the file's name, by its path where several have the name: folders may move."""
    names = [path.rpartition("/")[2] for path in files]
    return {
        name if names.count(name) == 1 else path: (path, content)
        for name, (path, content) in zip(names, files.items(), strict=True)
    }
