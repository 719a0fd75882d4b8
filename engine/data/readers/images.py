"""Image files of a user: found without leaving their folder, decoded without trusting them."""

import os
import posixpath
import re
from collections.abc import Mapping
from io import BytesIO
from typing import IO, Any

from PIL import Image, ImageOps

from liit.engine.data.image_bytes import bytes_of
from liit.engine.settings.remote import scheme

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Decoders that run inside this process; Pillow hands EPS, for one, to an external interpreter."""

MAX_PIXELS = 2**26
"""192 MiB once decoded, and below the size at which Pillow itself begins to warn."""

_SNAPSHOT = re.compile(
    rf"(?P<repository>.*{os.sep}(?:datasets|models|spaces)--[^{os.sep}]+){os.sep}snapshots{os.sep}[^{os.sep}]+{os.sep}"
)
_ORIENTATION = 0x0112
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|data:", re.IGNORECASE)


def resolve(folder: str | os.PathLike[str], given: str) -> str:
    """The absolute path, symbolic links followed, of a non-empty regular file in `folder`, given relative to it or absolutely.

    In the hub's cache a file is a link to the content that all revisions share; such a link is followed within its repository.
    Raises ValueError, `kind: detail`, for a URL, a path that leaves the folder (absolute, by `..` or by a symbolic
    link), and a file that is missing, empty or not regular.

    In a folder on object storage the URL of the image is returned, and the storage is not asked: that would be one request for
    each image before the one that brings it. What is missing or empty there is found by `open_image`.
    """
    if not given:
        raise ValueError("empty image path: give a path relative to the image folder")
    root = os.fspath(folder).rstrip("/")
    if scheme(root) is not None and given.startswith(f"{root}/"):
        given = given[len(root) + 1 :].lstrip("/")
    if _URL.match(given):
        raise ValueError(f"image is a URL: {given[:200]!r}; nothing is fetched, give a file in the image folder")
    if scheme(root) is not None:
        return _remote(root, given)
    try:
        root = os.path.realpath(folder)
        path = os.path.realpath(os.path.join(root, given))
    except (ValueError, OSError) as error:
        raise ValueError(f"image path not usable: {given[:200]!r}: {error}") from error
    if not _inside(path, root) and not _linked_by_the_hub(root, os.path.normpath(os.path.join(root, given)), path):
        raise ValueError(f"image path leaves its folder: {given[:200]!r} is {path[:400]!r}, not inside {root!r}")
    if not os.path.isfile(path):
        found = "is not a regular file" if os.path.exists(path) else "does not exist"
        raise ValueError(f"missing image file: {path[:400]!r} {found}")
    if os.path.getsize(path) == 0:
        raise ValueError(f"empty image file: {path!r}")
    return path


def _remote(folder: str, given: str) -> str:
    path = posixpath.normpath(given)
    if path.startswith(("/", "../")) or path in (".", ".."):
        raise ValueError(f"image path leaves its folder: {given[:200]!r} is not inside {folder!r}")
    return f"{folder}/{path}"


def _inside(path: str, folder: str) -> bool:
    return os.path.commonpath([folder, path]) == folder


def _linked_by_the_hub(root: str, named: str, path: str) -> bool:
    """Whether a path in a revision (`datasets--<owner>--<name>/snapshots/<commit>/...`) leads to `blobs` of that repository."""
    found = _SNAPSHOT.match(root + os.sep)
    return found is not None and _inside(named, root) and _inside(path, os.path.join(found["repository"], "blobs"))


def open_image(image: Mapping[str, Any]) -> Image.Image:
    """The fully decoded RGB image of `{path, bytes, place}`, path or bytes given: upright, of an animation the first frame.

    Raises ValueError, `kind: detail`, for what is empty, truncated, no image, an image of more than 8 bits per
    channel (RGB would clip it to white), or one of more than MAX_PIXELS pixels.
    """
    path, data = image.get("path"), image.get("bytes")
    if (path is None) == (data is None):
        raise ValueError("image without source: exactly one of path and bytes must be given")
    if image.get("place") is not None:
        data = bytes_of(image)
    if data is not None:
        return _decode(BytesIO(data), f"{len(data)} bytes")
    try:
        if scheme(str(path)) is not None:
            return _decode(BytesIO(bytes_of(image)), repr(path))
        with open(str(path), "rb") as stream:
            return _decode(stream, repr(path))
    except OSError as error:
        raise ValueError(f"missing image file: {path!r}: {error.strerror}") from error


def _decode(stream: IO[bytes], name: str) -> Image.Image:
    if not stream.read(1):
        raise ValueError(f"empty image file: {name}")
    stream.seek(0)
    try:
        with Image.open(stream, formats=FORMATS) as image:
            _check(image, name)
            return _rgb(_upright(image))
    except _Refused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"image too large: {name}: {error}") from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"not an image: {name} is none of {', '.join(FORMATS)}") from error
    except Exception as error:  # on damaged bytes a decoder raises whatever it likes: SyntaxError, struct.error, ...
        raise ValueError(f"damaged image: {name}: {type(error).__name__}: {error}") from error


class _Refused(ValueError):
    """A whole image that is not wanted."""


def _check(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _Refused(f"image too large: {name} has {width} x {height} pixels, at most {MAX_PIXELS} are decoded")
    if image.mode[0] in "IF":
        raise _Refused(f"image too deep: {name} has mode {image.mode}; convert it to 8 bits per channel")


def _upright(image: Image.Image) -> Image.Image:
    """As its EXIF says that the camera was held; as it is stored where that cannot be read."""
    try:
        turned = image.getexif().get(_ORIENTATION, 1) != 1
    except Exception:  # on damaged EXIF whatever the parser raises, and its warning where warnings are errors
        return image
    return ImageOps.exif_transpose(image) if turned else image


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # Pillow warns when such a palette goes to RGB in one step
    return image.convert("RGB")
