"""Files and folders on object storage, by whatever fsspec reaches, with the face of `pathlib.Path`.

Credentials come from the environment, as the libraries of each storage read them; listings are never kept, so that what has
vanished is not there. Every failure is a RemoteError that names the place. s3fs and gcsfs try again themselves what may pass.
"""

import errno
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from liit.engine.settings.remote import scheme

BLOCK = 4 << 20
"""Bytes that are fetched at a time, and kept while a file is open, so that columns of Parquet are not fetched twice."""
BLOCKS = 16
"""Of one open file in memory at a time."""
_MARKS = (
    "ETag",
    "etag",
    "md5Hash",
    "crc32c",
    "generation",
    "LastModified",
    "last_modified",
    "updated",
    "mtime",
    "created",
)
"""What file systems call the mark of a file's version."""
_PACKAGES = {"s3": "pip install 'liit[s3]'", "s3a": "pip install 'liit[s3]'", "gs": "pip install gcsfs"}


class RemoteError(OSError, ValueError):
    """A place on object storage that cannot be reached, read or written; one line that names it."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@dataclass(frozen=True, order=True)
class Remote:
    """One file or folder below a URL like `s3://bucket/folder`. Every method that asks the storage may raise RemoteError."""

    url: str
    known: dict[str, Any] | None = field(default=None, compare=False, repr=False)
    """What a listing has just said of it."""

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "Remote":
        return Remote(f"{self.url.rstrip('/')}/{name}")

    @property
    def _pure(self) -> PurePosixPath:
        return PurePosixPath(self.url.partition("://")[2])

    @property
    def name(self) -> str:
        return self._pure.name

    @property
    def stem(self) -> str:
        return self._pure.stem

    @property
    def suffix(self) -> str:
        return self._pure.suffix

    @property
    def parent(self) -> "Remote":
        """The folder around it; of a bucket, itself."""
        above = self.url.rstrip("/").rpartition("/")[0]
        return self if above.endswith(":/") else Remote(above)

    def is_relative_to(self, folder: object) -> bool:
        return isinstance(folder, Remote) and f"{self.url}/".startswith(f"{folder.url.rstrip('/')}/")

    def relative_to(self, folder: "Remote") -> PurePosixPath:
        """Raises ValueError where it does not lie in the folder."""
        if not self.is_relative_to(folder):
            raise ValueError(f"{self} is not in {folder}")
        return PurePosixPath(self.url[len(folder.url.rstrip("/")) :].lstrip("/"))

    def exists(self) -> bool:
        return self._kind() is not None

    def is_file(self) -> bool:
        return self._kind() == "file"

    def is_dir(self) -> bool:
        return self._kind() == "directory"

    def size(self) -> int:
        """Bytes of a file."""
        return int(self._info()["size"] or 0)

    def version(self) -> str:
        """A mark of a file's content, ETag or what the storage has instead, and its size; nothing is read for it."""
        info = self._info()
        mark = next((info[name] for name in _MARKS if info.get(name) is not None), None)
        if mark is None:
            raise RemoteError(
                errno.ENOTSUP, "its storage marks no versions, so a change would not be seen; copy it", str(self)
            )
        return f"{mark} {info['size']}"

    def iterdir(self) -> Iterator["Remote"]:
        """What lies in a folder itself."""
        with _system(self.url) as (system, path):
            listed = system.ls(path, detail=True)
        yield from self._of(path, listed)

    def rglob(self, pattern: str = "*") -> Iterator["Remote"]:
        """All files below a folder."""
        assert pattern == "*", "names are told apart by whoever asks"
        with _system(self.url) as (system, path):
            listed = list(system.find(path, detail=True).values())
        yield from self._of(path, listed)

    def matches(self) -> Iterator["Remote"]:
        """The files that the pattern which this place is stands for, `**` for folders below."""
        base = self
        while any(mark in base.url for mark in "*?[") and base != base.parent:
            base = base.parent
        with _system(self.url) as (system, path):
            listed = list(system.glob(path, detail=True).values())
            start = system._strip_protocol(base.url)
        yield from (one for one in base._of(start, listed) if one.is_file())

    def _of(self, path: str, listed: list[dict[str, Any]]) -> Iterator["Remote"]:
        """Places below this one, whose path in its file system is `path`; never a folder's own empty object."""
        start = path.rstrip("/")
        for one in listed:
            inside = str(one["name"])[len(start) :].strip("/")
            if inside:
                told = {name: one[name] for name in ("type", "size", *_MARKS) if name in one}
                yield Remote(f"{self.url.rstrip('/')}/{inside}", told)

    def open(self, mode: str = "rb") -> io.BufferedReader:
        """Its bytes, fetched a block at a time."""
        assert mode == "rb", "a remote file appears whole: `places.appearing`"
        with _system(self.url) as (system, path):
            opened = system.open(
                path, "rb", block_size=BLOCK, cache_type="blockcache", cache_options={"maxblocks": BLOCKS}
            )
        return io.BufferedReader(_Stream(self.url, opened), 1 << 18)

    def read_bytes(self, start: int | None = None, stop: int | None = None) -> bytes:
        """A whole small file, or its bytes from `start` to before `stop`, by one request."""
        with _system(self.url) as (system, path):
            return bytes(system.cat_file(path, start=start, end=stop))

    def put(self, file: str) -> None:
        """Make it what a local file holds; readers see the old content or all of the new one."""
        with _system(self.url) as (system, path):
            system.put_file(file, path)

    def _kind(self) -> str | None:
        try:
            return str(self._info()["type"])
        except RemoteError as error:
            if error.errno == errno.ENOENT:
                return None
            raise

    def _info(self) -> dict[str, Any]:
        if self.known is not None:
            return self.known
        with _system(self.url) as (system, path):
            return dict(system.info(path))


class _Stream(io.RawIOBase):
    """An open file whose failures name it."""

    def __init__(self, url: str, opened: Any) -> None:
        self._url, self._opened = url, opened

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with _asked(self._url):
            data = self._opened.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._opened.seek(offset, whence))

    def tell(self) -> int:
        return int(self._opened.tell())

    def close(self) -> None:
        self._opened.close()
        super().close()


@contextmanager
def _system(url: str) -> Iterator[tuple[Any, str]]:
    """The file system of a URL, which fsspec keeps one of for each process, and the path in it; failures are told by `_asked`."""
    with _asked(url):
        from fsspec.core import url_to_fs

        yield url_to_fs(url, use_listings_cache=False)


@contextmanager
def _asked(url: str) -> Iterator[None]:
    """Whatever a library raises becomes one RemoteError."""
    try:
        yield
    except RemoteError:
        raise
    except ImportError as error:
        known = scheme(url) or ""
        how = _PACKAGES.get(known, f"install what fsspec wants for {known}://")
        raise RemoteError(errno.ENOPKG, f"a package for {known}:// is missing: {how}", url) from error
    except FileNotFoundError as error:
        told = str(error)
        why = f" ({told})" if "bucket" in told.lower().split() else ""
        raise RemoteError(errno.ENOENT, f"does not exist{why}", url) from error
    except PermissionError as error:
        reason = f"access is refused ({_line(error)}): credentials come from the environment, of every node"
        raise RemoteError(errno.EACCES, reason, url) from error
    except Exception as error:  # every storage has errors of its own
        raise RemoteError(errno.EIO, f"{type(error).__name__}: {_line(error)}", url) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
