"""One raw row of a user's file becomes a sample, or the reason why it cannot.

A reason reads `kind: detail`. The kind is the same for every row with the same fault, so that a report can count it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from liit.engine.data.readers.images import resolve

PLACEHOLDER = "<image>"
CONVERSATION_KEYS = ("conversations", "messages", "conversation")
KEYS = ("id", *CONVERSATION_KEYS, "image", "images", "video", "references", "task")
"""What is read of a row; anything else in it is ignored."""

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


class Turn(TypedDict):
    role: str
    text: str


class Image(TypedDict):
    path: str | None
    bytes: bytes | None


class Sample(TypedDict):
    """A row of `tables.SAMPLE` as far as a reader knows it; key, arrival and length come at ingest."""

    id: str
    dataset: str
    task: str | None
    conversation: list[Turn]
    images: list[Image]
    references: list[str] | None


@dataclass(frozen=True)
class Bad:
    """A row of `tables.QUARANTINE`."""

    id: str
    dataset: str
    reason: str
    stage: str = "read"


def sample_id(row: object, dataset: str) -> str:
    """`<dataset>/<source id>`; where the row has no usable id, a hash of its content stands in."""
    try:
        source = _source_id(row.get("id")) if isinstance(row, dict) else None
    except ValueError:
        source = None
    return f"{dataset}/{source or _content_hash(row)}"


def sample(row: object, dataset: str, folder: str) -> tuple[Sample, bool]:
    """The sample in `row`, and whether its images had no placeholder and were put before the first user turn.

    `row` is what a format's reader yields: a mapping, or a ValueError for a row that could not be decoded. `folder`
    is the image folder. Raises ValueError with the reason for a row that is no sample. Image files are resolved, not
    decoded.
    """
    if isinstance(row, ValueError):
        raise row
    if not isinstance(row, dict):
        raise ValueError(f"wrong type: a sample must be an object, not {type(row).__name__}")
    _source_id(row.get("id"))
    if row.get("video") is not None:
        raise ValueError("video field: give the ordered frames as a list of images")
    conversation = _conversation(row)
    images = _images(row, folder)
    prepended = _place(conversation, len(images))
    _check_turns(conversation)
    task = row.get("task")
    value: Sample = {
        "id": sample_id(row, dataset),
        "dataset": dataset,
        "task": None if task is None else _text(task, "task"),
        "conversation": conversation,
        "images": images,
        "references": _references(row.get("references")),
    }
    return value, prepended


def _source_id(value: object) -> str | None:
    """An id in string form, None for a missing one."""
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(value, "id")


def _content_hash(row: object) -> str:
    def plain(value: object) -> str:
        return hashlib.blake2b(value).hexdigest() if isinstance(value, bytes) else str(value)

    content = json.dumps(row, sort_keys=True, default=plain)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _text(value: object, what: str) -> str:
    if value is None:
        raise ValueError(f"null field: {what}")
    if not isinstance(value, str):
        raise ValueError(f"wrong type: {what} must be text, not {type(value).__name__}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"not Unicode: {what} holds a lone surrogate at character {error.start}") from error
    return value


def _conversation(row: Mapping[str, Any]) -> list[Turn]:
    turns = _first(row, CONVERSATION_KEYS)
    if turns is None:
        raise ValueError(f"missing conversation: none of {', '.join(CONVERSATION_KEYS)} is given")
    if not isinstance(turns, list):
        raise ValueError(f"wrong type: the conversation must be a list, not {type(turns).__name__}")
    if not turns:
        raise ValueError("missing conversation: it has no turns")
    return [_turn(turn, number) for number, turn in enumerate(turns)]


def _first(mapping: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((mapping[key] for key in keys if mapping.get(key) is not None), None)


def _turn(turn: object, number: int) -> Turn:
    if turn is None:
        raise ValueError(f"null field: turn {number}")
    if not isinstance(turn, dict):
        raise ValueError(f"wrong type: turn {number} must be an object, not {type(turn).__name__}")
    name = _text(_first(turn, ("from", "role")), f"role of turn {number}")
    if name not in ROLES:
        raise ValueError(f"unknown role: {name[:40]!r} in turn {number}; known are {', '.join(ROLES)}")
    content = _first(turn, ("value", "content"))
    if isinstance(content, list):
        content = "".join(_part(part, number) for part in content)
    if content is None and ROLES[name] == "assistant":
        raise ValueError(f"missing answer: turn {number} has no text")
    return {"role": ROLES[name], "text": _text(content, f"text of turn {number}")}


def _part(part: object, number: int) -> str:
    """One piece of a message whose content is a list of typed pieces."""
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind == "text":
        return _text(part.get("text"), f"text of turn {number}")
    if kind == "image":
        return PLACEHOLDER
    raise ValueError(f"wrong type: content of turn {number} must be pieces of type text or image, got {kind!r:.40}")


def _images(row: Mapping[str, Any], folder: str) -> list[Image]:
    given = [row[key] for key in ("image", "images") if row.get(key) is not None]
    if not given:
        return []
    if len(given) > 1:
        raise ValueError("ambiguous images: both image and images are given")
    values = given[0] if isinstance(given[0], list) else given
    return [_image(value, folder) for value in values]


def _image(value: object, folder: str) -> Image:
    if isinstance(value, dict):
        value = _first(value, ("bytes", "path"))  # beside bytes, a path is only the name it once had
    if value is None:
        raise ValueError("null field: image")
    if isinstance(value, bytes):
        if not value:
            raise ValueError("empty image file: 0 bytes")
        return {"path": None, "bytes": value}
    return {"path": resolve(folder, _text(value, "image")), "bytes": None}


def _place(conversation: list[Turn], images: int) -> bool:
    """See to one placeholder per image in the user turns; True where they had to be added."""
    for number, turn in enumerate(conversation):
        if turn["role"] != "user" and PLACEHOLDER in turn["text"]:
            raise ValueError(f"misplaced placeholder: {PLACEHOLDER} in turn {number}, which is not a user turn")
    users = [turn for turn in conversation if turn["role"] == "user"]
    placeholders = sum(turn["text"].count(PLACEHOLDER) for turn in users)
    if images and not placeholders and users:
        users[0]["text"] = f"{PLACEHOLDER}\n" * images + users[0]["text"]
        return True
    if placeholders != images:
        raise ValueError(f"placeholder count: {placeholders} {PLACEHOLDER} in the user turns for {images} images")
    return False


def _check_turns(conversation: list[Turn]) -> None:
    """A system turn or none, then user and assistant in turns, none of them empty, an answer at the end."""
    roles = [turn["role"] for turn in conversation]
    spoken = roles[1:] if roles[0] == "system" else roles
    if not spoken or spoken[-1] != "assistant":
        raise ValueError(f"missing answer: the conversation ends with a {roles[-1]} turn")
    if spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise ValueError(f"turns do not alternate: {', '.join(roles)[:200]}")
    for number, turn in enumerate(conversation):
        if turn["role"] != "system" and not turn["text"].strip():
            what = "answer" if turn["role"] == "assistant" else "question"
            raise ValueError(f"empty {what}: turn {number}")


def _references(value: object) -> list[str] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise ValueError(f"wrong type: references must be a list, not {type(value).__name__}")
    return [_text(reference, "reference") for reference in value]
