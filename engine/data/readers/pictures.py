"""Where the pictures of a row are named, and where they stand in its text.

Read are `image` and `images` (a path, bytes, `{path, bytes}`, a list of them, MiniCPM's `{<image_00>: path}`), the parts that
OpenAI and Qwen write, and Qwen-VL's `<img>path</img>`. A picture that is named otherwise, or a text that speaks of one that is
not there, is refused: it would be taught as text about nothing.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from liit.engine.data.readers.images import resolve
from liit.engine.data.readers.sample import PLACEHOLDER, Image, empty, text

IMAGE_KEYS = ("image", "images")
PIECE_TYPES: dict[str, Callable[[Mapping[str, Any]], object]] = {
    "image": lambda part: _of_part(part, ("image", "path", "url", "bytes", "base64")),
    "image_url": lambda part: _of_part(part, ("image_url",)),
}
"""Types of parts that are a picture, and what names it; None where the row does."""

_NUMBERED = re.compile(r"<image_?\d+>")
_SHOWN = re.compile(rf"{PLACEHOLDER}|<img>(?P<path>[^<>]+)</img>")
_SPOKEN = re.compile(
    rf"{_SHOWN.pattern}|(?P<numbered>{_NUMBERED.pattern})|<(?P<media>video|audio)>|(?P<other><ImageHere>|<\|image(?:_pad|_\d+)?\|>"
    r"|<\|vision_start\|>|<start_of_image>)"
)
_NAMES_ONE = re.compile(
    r"(?:.*_)?(?:image|img|picture|photo|frame)s?(?:_?(?:path|file|name|filename|url|uri|base64|b64|bytes|str|list))*s?",
    re.IGNORECASE,
)
_IMAGE_FILE = re.compile(r".+\.(?:jpe?g|png|webp|gif|bmp|tiff?)", re.IGNORECASE)
_ELSE = {*IMAGE_KEYS, "id", "task", "system", "system_prompt", "references", "metric"}
"""Keys that are read, and name no picture whatever their value looks like."""
_BASE64 = re.compile(r"[A-Za-z0-9+/\s]{200,}=*\s*")
_DATA = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)


@dataclass(frozen=True)
class Shown:
    """The place of a picture in a text."""

    source: object = None
    """What names it; None where the row's next picture stands here."""
    written: str = PLACEHOLDER


Piece = str | Shown


def split(said: str, asked: bool) -> Iterator[Piece]:
    """A text and the pictures in it; of a user turn (`asked`) what other programs put for a picture is looked for, too.

    Raises ValueError for a place of a picture, video or sound in another spelling: it would go on as mere letters.
    """
    if "<" not in said:
        yield said
        return
    at = 0
    for match in (_SPOKEN if asked else _SHOWN).finditer(said):
        found = match.groupdict()
        if found.get("media") and _html(said[match.end() :], found["media"]):
            continue
        if found.get("media"):
            raise ValueError(
                f"{found['media']} field: the text has {match[0]}; give the ordered frames as a list of images"
            )
        if found.get("other"):
            raise ValueError(f"unknown placeholder: {match[0]} in the text; write {PLACEHOLDER} where a picture stands")
        yield said[at : match.start()]
        yield Shown(found["path"] and found["path"].strip(), match[0] if found.get("numbered") else PLACEHOLDER)
        at = match.end()
    yield said[at:]


def _html(rest: str, media: str) -> bool:
    """Whether a tag is closed around something that is no file: further tags, or words."""
    inside, closed, _ = rest.partition(f"</{media}>")
    return bool(closed) and bool(re.search(r"<|\S\s+\S", inside))


def given(row: Mapping[str, Any]) -> list[object] | dict[str, object]:
    """What the row names beside its text, in order; by placeholder where these are numbered. Raises ValueError."""
    found = [row[key] for key in IMAGE_KEYS if not empty(row.get(key))]
    if not found:
        return []
    if len(found) > 1 and _listed(found[0]) != _listed(found[1]):
        raise ValueError("ambiguous images: image and images are given, and differ; keep one")
    if isinstance(found[0], dict) and all(isinstance(key, str) and _NUMBERED.fullmatch(key) for key in found[0]):
        return found[0]
    return _listed(found[0])


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def placed(pieces: Sequence[Piece], row: Mapping[str, Any]) -> tuple[list[Piece], list[object]]:
    """The pieces of all user turns with a source for each picture; and the row's pictures where the text has no place.

    Raises ValueError unless there is one place for each picture, or no place at all.
    """
    mine = given(row)
    shown = [piece for piece in pieces if isinstance(piece, Shown)]
    numbered = [piece.written for piece in shown if piece.written != PLACEHOLDER]
    if isinstance(mine, dict):
        if sorted(numbered) != sorted(mine) or len(numbered) != len(shown):
            raise ValueError(f"placeholder count: {', '.join(mine)} must each stand once in the user turns")
        return [piece if isinstance(piece, str) else Shown(mine[piece.written]) for piece in pieces], []
    if numbered:
        raise ValueError(f"unknown placeholder: {numbered[0]} in the text; write {PLACEHOLDER} where a picture stands")
    own = [piece.source for piece in shown if piece.source is not None]
    if mine and own and len(own) == len(shown):
        if mine != own:
            raise ValueError("ambiguous images: the text and the row name different ones; keep one")
        mine = []
    if not shown:
        if not mine:
            _nothing_missed(row)
        return list(pieces), mine
    if len(shown) != len(own) + len(mine):
        count = f"{len(shown)} {PLACEHOLDER} in the user turns for {len(own) + len(mine)} images"
        raise ValueError(f"placeholder count: {count}{_elsewhere(row) if not mine else ''}")
    rest = iter(mine)
    return [piece if isinstance(piece, str) or piece.source is not None else Shown(next(rest)) for piece in pieces], []


def _nothing_missed(row: Mapping[str, Any]) -> None:
    if where := _elsewhere(row):
        raise ValueError(f"unread image: none is in image or images{where}")


def _elsewhere(row: Mapping[str, Any]) -> str:
    """Where a row without pictures seems to name one, in words."""
    for key, value in row.items():
        first = value[0] if isinstance(value, list) and value else value
        file = isinstance(first, str) and _IMAGE_FILE.fullmatch(first.strip())
        named = _NAMES_ONE.fullmatch(key) and isinstance(first, str | bytes | dict)
        if key not in _ELSE and not empty(value) and (file or named):
            return f", but {key!r} seems to name one: say columns: {{{key}: image}}, or {{{key}: ignore}}"
    return ""


def image(source: object, folder: str) -> Image:
    """The picture that a source names, its file found and not decoded. Raises ValueError with the reason."""
    if isinstance(source, dict):
        # Beside bytes, a path is only the name it once had.
        source = source.get("bytes") if source.get("bytes") is not None else source.get("path")
    if empty(source):
        raise ValueError("null field: image")
    if isinstance(source, bytes):
        if not source:
            raise ValueError("empty image file: 0 bytes")
        return {"path": None, "bytes": source}
    path = text(source, "image")
    if _BASE64.fullmatch(path):
        raise ValueError(
            f"base64 image: {path[:20]!r}... is no path; base64 is read where the format says so: "
            "columns: {<its column>: image_base64}"
        )
    return {"path": resolve(folder, path), "bytes": None}


def decoded(value: object) -> bytes:
    """The bytes of a base64 text. Raises ValueError."""
    try:
        return b64decode(text(value, "base64 image"), validate=False)
    except binascii.Error as error:
        raise ValueError(f"damaged base64: {error}") from error


def _of_part(part: Mapping[str, Any], keys: tuple[str, ...]) -> object:
    """What a part names: its own picture, or None where it only marks the place of one."""
    found = [(key, part[key]) for key in keys if not empty(part.get(key))]
    if len(found) > 1 or not empty(part.get("text")):
        raise ValueError(
            f"ambiguous part: a picture with {', '.join(key for key, value in part.items() if not empty(value))}"
        )
    if not found:
        return None
    key, value = found[0]
    if key == "base64":
        return {"bytes": decoded(value)}
    if key == "image_url" and isinstance(value, dict):
        value = value.get("url")
    if key == "image_url" and isinstance(value, str) and (head := _DATA.match(value)):
        return {"bytes": decoded(value[head.end() :])}
    return value
