"""Short hashes that say what a result was made from, and what is in a file."""

import hashlib
import json
from pathlib import Path
from typing import Any


def fingerprint(*parts: Any) -> str:
    """16 hex digits of what the parts say, as canonical JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in a fingerprint")


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
