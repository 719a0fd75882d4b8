"""A place of a configuration, on a file system or on object storage, and files that appear at it whole."""

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path, PurePath
from typing import Any

from liit.engine.run.files import appearing as appearing_here
from liit.engine.run.fingerprints import contents, fingerprint
from liit.engine.run.storage.remote import Remote
from liit.engine.settings.remote import scheme

Place = Path | Remote


def place(text: str) -> Place:
    return Path(text) if scheme(text) is None else Remote(text.rstrip("/"))


def absolute(text: str) -> Place:
    """A path from the root, its links followed; a remote place as it is."""
    found = place(text)
    return found if isinstance(found, Remote) else found.resolve()


def below(folder: Place, recursive: bool) -> Iterator[Place]:
    """Files and folders in a folder; recursive: in those below it too, of object storage the files alone."""
    yield from folder.rglob("*") if recursive else folder.iterdir()


def inside(file: Place, folder: Place) -> PurePath:
    """The way from a folder to a file in it. Raises ValueError where it is not in it."""
    if isinstance(file, Remote) and isinstance(folder, Remote):
        return file.relative_to(folder)
    return Path(str(file)).relative_to(str(folder))


def size_of(file: Place) -> int:
    """Bytes of a file."""
    return file.size() if isinstance(file, Remote) else file.stat().st_size


def opened(file: Place) -> AbstractContextManager[Any]:
    """What pyarrow reads a file from: its path, which it opens by itself, or a stream."""
    return file.open("rb") if isinstance(file, Remote) else nullcontext(file)


def marks(files: list[Place]) -> dict[str, str]:
    """What tells the content of each file from another, by its place: of remote ones ETag and size, without reading them."""
    told = contents(file for file in files if isinstance(file, Path))
    told |= {str(file): fingerprint(file.version()) for file in files if isinstance(file, Remote)}
    return {str(file): told[str(file)] for file in files}


def make_folder(folder: Place) -> None:
    """On object storage there are none to make."""
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def appearing(target: Place) -> Iterator[Path]:
    """A file to be written here, which is at `target` once the block has ended well."""
    if isinstance(target, Path):
        with appearing_here(target) as temporary:
            yield temporary
        return
    with tempfile.TemporaryDirectory(prefix="liit-") as folder:
        temporary = Path(folder) / target.name
        yield temporary
        target.put(str(temporary))
