"""What a model is, in 16 hex digits: every byte of a folder's files, or the commit that a hub id stands for.

The hash of a file is kept, in the user's cache, beside the file's size and modification time, so that 14 GB of weights are read
once and not at every start.
"""

import hashlib
import os
import time
from pathlib import Path

from liit.engine.models.loading import SHIPPED, locate
from liit.engine.run.files import read_json, write_json

SUFFIXES = (".json", ".jinja", ".model", ".txt", ".safetensors")
"""Files of a model's folder that decide what it answers."""
SETTLED_NS = 2_000_000_000
"""A file that was changed within so long of being read may change again under the same time; its hash is not kept."""


def fingerprint(path: str, revision: str | None = None) -> str:
    """Of a shipped model its name counts too. A hub id that is neither cached nor reachable stands for itself."""
    digest = hashlib.sha256(f"{path if path in SHIPPED else ''}:{revision}".encode())
    folder = Path(locate(path))
    if not folder.is_dir():
        digest.update(f"{path}@{_commit(path, revision)}".encode())
        return digest.hexdigest()[:16]
    known = _kept()
    found = {
        file: _hash(file, known) for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES and file.is_file()
    }
    for file, value in found.items():
        digest.update(f"{file.name}:{value}".encode())
    _keep(found, known)
    return digest.hexdigest()[:16]


def _commit(path: str, revision: str | None) -> str:
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        cached = try_to_load_from_cache(path, "config.json", revision=revision)
        if isinstance(cached, str):
            return Path(cached).parent.name  # .../snapshots/<commit>/config.json
        return str(HfApi().model_info(path, revision=revision).sha)
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError):
        return str(revision)


def _hash(file: Path, known: dict[str, list[object]]) -> str:
    seen = known.get(str(file.resolve()))
    if seen is not None and seen[:2] == _state(file):
        return str(seen[2])
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _state(file: Path) -> list[object]:
    stat = file.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _kept() -> dict[str, list[object]]:
    try:
        return dict(read_json(_cache()))
    except (OSError, ValueError):
        return {}


def _keep(found: dict[Path, str], known: dict[str, list[object]]) -> None:
    """Best effort: without a cache everything is read again next time."""
    settled = {file: value for file, value in found.items() if time.time_ns() - file.stat().st_mtime_ns > SETTLED_NS}
    now = {str(file.resolve()): [*_state(file), value] for file, value in settled.items()}
    if all(known.get(name) == value for name, value in now.items()):
        return
    try:
        _cache().parent.mkdir(parents=True, exist_ok=True)
        write_json(_cache(), _kept() | now)
    except OSError:
        return


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "liit" / "hashes.json"
