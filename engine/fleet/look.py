"""What is looked at on a node, in plain values. It needs Python alone: it is sent to nodes where LiIT may be missing."""

import errno
import fcntl
import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FROM_DRIVER, LOCKED = "from-driver", "locked"
"""Files of the folder that driver and nodes meet in: one with the folder's own name in it, one that the driver has
locked, which is not there where its file system has no flock."""
NO_FLOCK = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL}
"""What flock raises on file systems that have none."""


def look(packages: Sequence[str], paths: Sequence[str], meeting: str | None) -> dict[str, Any]:
    """What this machine has and sees.

    Returns a mapping of
        python: its version. packages: name → version, None for one that is not installed; of `liit` with a hash of its code.
        paths: path → bytes of a file, -1 for a folder, or why it is not seen.
        shm: bytes of /dev/shm, 0 for none. auth: RAY_AUTH_MODE.
        met: of the folder `meeting`, what did not go as it should, by "read", "write" and "lock"; and "wrote", the name of the
        file that was left there for the driver. Empty for no folder.
    """
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
        "paths": {path: _seen(path) for path in paths},
        "shm": _shared_memory(),
        "auth": os.environ.get("RAY_AUTH_MODE"),
        "met": {} if meeting is None else _meet(Path(meeting)),
    }


def _version(package: str) -> str | None:
    try:
        if package == "liit":  # a checkout has no metadata, and one version of it many states
            return f"{importlib.import_module('liit').__version__} (code {_code()})"
        return importlib.metadata.version(package)
    except ImportError:  # PackageNotFoundError is one too
        return None


def _code() -> str:
    """A hash of LiIT's own files, wherever they lie."""
    digest = hashlib.sha256()
    for room in ("liit.engine", "liit.selectors"):
        spec = importlib.util.find_spec(room)
        for place in sorted(spec.submodule_search_locations or ()) if spec else ():
            for file in sorted(Path(place).rglob("*.py")):
                digest.update(f"{room}/{file.relative_to(place).as_posix()}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:8]


def _seen(path: str) -> int | str:
    if "://" in path:
        return _reached(path)
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):
            return -1
        with open(path, "rb"):  # there is not readable yet
            return found.st_size
    except OSError as error:
        return error.strerror or type(error).__name__


def _reached(url: str) -> int | str:
    """Of a place on object storage, asked with the packages and credentials of this machine."""
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url, use_listings_cache=False)
        found = system.info(path)
    except Exception as error:  # every storage has errors of its own
        return " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return -1 if found["type"] == "directory" else int(found["size"])


def flocks(file: int) -> bool:
    """Lock an open file; False where its file system has no flock. Raises BlockingIOError where another process has the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in NO_FLOCK:
            return False
        raise
    return True


def _shared_memory() -> int:
    try:
        found = os.statvfs("/dev/shm")
    except OSError:
        return 0
    return found.f_frsize * found.f_blocks


def _meet(folder: Path) -> dict[str, str]:
    """Read what the driver wrote, try the lock that it holds, leave it a file."""
    try:
        text = (folder / FROM_DRIVER).read_text(encoding="utf-8")
    except OSError as error:
        return {"read": error.strerror or type(error).__name__}
    if text != folder.name:
        return {"read": f"reads {text[:80]!r} there"}
    met = {"wrote": f"from-{socket.gethostname()}-{os.getpid()}"}
    try:
        (folder / met["wrote"]).write_text(folder.name, encoding="utf-8")
    except OSError as error:
        met["write"] = error.strerror or type(error).__name__
    locked = (folder / LOCKED).is_file()
    try:
        with (folder / (LOCKED if locked else met["wrote"])).open("a") as stream:
            if flocks(stream.fileno()):
                met["lock"] = (
                    "two processes hold the same lock at once" if locked else "it has flock here, and not there"
                )
            elif locked:
                met["lock"] = "it has flock there, and not here"
    except BlockingIOError:
        pass  # as it should be: the driver holds it
    except OSError as error:
        met["lock"] = error.strerror or type(error).__name__
    return met
