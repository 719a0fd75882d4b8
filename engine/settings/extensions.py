"""What users and installed packages add: functions by `module:function`, or by name through an entry point."""

import importlib
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any


def installed(group: str) -> dict[str, str]:
    """Name to `module:function` of every entry point of a group."""
    return {point.name: point.value for point in entry_points(group=group)}


def function_at(place: str, said: str) -> Callable[..., Any]:
    """The function at `module:function`.

    Raises ValueError, one line that begins with `said`, what it is called in the configuration, where there is none.
    """
    module, _, name = place.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"{said} is not module:function of an importable module ({error})") from error
    if not callable(found):
        raise ValueError(f"{said} is not a function")
    return found
