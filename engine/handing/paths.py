"""No path of this machine in what is handed on: settings without them, and a last look at every text of a folder."""

from pathlib import Path
from typing import Any

TEXTS = (".json", ".md", ".jinja", ".txt")


def without_paths(value: Any) -> Any:
    """The same plain values, every text that is a path of this machine cut to its last name."""
    if isinstance(value, dict):
        return {key: without_paths(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(one) for one in value]
    return Path(value).name if isinstance(value, str) and is_path(value) else value


def is_path(text: str) -> bool:
    """Whether a setting names a place of this machine, and not something that others know by this name."""
    return text.startswith(("/", "~", "./", "../")) or ("/" in text and Path(text).exists())


def refuse_paths(folder: Path, places: list[Path]) -> None:
    """Raises ValueError that names a file of `folder` in which one of the places is written. Roots are no places."""
    wanted = {str(form) for place in places for form in (place, place.expanduser().resolve()) if len(form.parts) > 2}
    for file in sorted(folder.rglob("*")):
        if file.suffix in TEXTS and file.is_file():
            text = file.read_text(encoding="utf-8")
            for place in sorted(wanted):
                if place in text:
                    raise ValueError(f"{file.name} would name {place}, a path of this machine; it is not handed on")
