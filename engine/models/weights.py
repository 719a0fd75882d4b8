"""What lies of a model on this machine, without loading it: which weight files lack, and whether they are the same elsewhere."""

import hashlib
import json
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from liit.engine.models.loading import locate

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LIGHT = 10**9
"""Bytes of weights that a process may keep while others do something else."""
START = 2**20
"""Bytes of each file that tell models apart: beyond the header of safetensors, weights begin."""


def missing_weights(path: str, revision: str | None = None) -> list[str]:
    """Names of weight files that are neither in the model's folder nor, of a hub id, in this machine's cache.

    Raises ValueError where the list of a model's files cannot be read.
    """
    folder = _folder(path, revision)
    if folder is None:
        return [SINGLE]
    index, names = folder / INDEX, {SINGLE}
    if index.is_file():
        try:
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"model {path}: {index} is damaged ({type(error).__name__}: {error})") from error
    return sorted(name for name in names if not (folder / name).is_file())


def light(path: str, revision: str | None = None) -> bool:
    """Whether a model's weights are few, so that processes may keep them; of one that is not here it is not known."""
    folder = _folder(path, revision)
    files = [] if folder is None else list(folder.glob("*.safetensors"))
    return bool(files) and sum(file.stat().st_size for file in files) < LIGHT


def files_mark(path: str, revision: str | None = None) -> str:
    """A short hash of names, sizes and beginnings of a model's files here; of none at all where it is not here."""
    digest, folder = hashlib.sha256(), _folder(path, revision)
    for file in sorted(folder.iterdir()) if folder is not None else ():
        if file.suffix in (".json", ".jinja", ".model", ".txt", ".safetensors") and file.is_file():
            with file.open("rb") as stream:
                digest.update(f"{file.name}:{file.stat().st_size}".encode() + stream.read(START))
    return digest.hexdigest()[:16]


def _folder(path: str, revision: str | None) -> Path | None:
    """The model's folder, or that of its snapshot in the cache."""
    folder = Path(locate(path))
    if folder.is_dir():
        return folder
    if path.startswith(("/", ".", "~")):
        return None
    found = try_to_load_from_cache(path, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None
