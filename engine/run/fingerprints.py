"""Short hashes that say what a result was made from, and what is in a file."""

import hashlib
import json
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any


def fingerprint(*parts: Any) -> str:
    """16 hex digits of what the parts say, as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """What JSON cannot hold, as what it can."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a fingerprint")


def contents(files: Iterable[Path]) -> dict[str, str]:
    """A short hash of the content of each file, or of a folder's, by its path; read once while it stays as it is."""
    return {str(file): _content(file, *_state(file)) for file in files}


def sizes(files: Iterable[str]) -> dict[str, int]:
    """Bytes of each file that is here, of a folder those of all files in it, by its path."""
    places = {file: Path(file) for file in files if Path(file).exists()}
    every = {file: place.rglob("*") if place.is_dir() else [place] for file, place in places.items()}
    return {file: sum(one.stat().st_size for one in found if one.is_file()) for file, found in every.items()}


def _state(file: Path) -> tuple[int, int]:
    every = [one.stat() for one in file.rglob("*")] if file.is_dir() else [file.stat()]
    return sum(one.st_size for one in every), max((one.st_mtime_ns for one in every), default=0)


@lru_cache(maxsize=4096)
def _content(file: Path, size: int, changed_ns: int) -> str:
    return file_fingerprint(file)


def file_fingerprint(*paths: str | Path) -> str:
    """A short hash of the content of files, and of every file in folders by name."""
    digest = hashlib.sha256()
    for root in map(Path, paths):
        for file in sorted(file for file in root.rglob("*") if file.is_file()) if root.is_dir() else [root]:
            digest.update(f"{file.name}:".encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 22):
                    digest.update(block)
    return digest.hexdigest()[:16]
