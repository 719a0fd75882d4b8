"""One raw row, its columns in the one shape, becomes a sample, or the reason why it cannot.

A field that is understood is used. One that would change what the sample means, were it left out, is refused by name.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any

from liit.engine.data.readers import pictures, turns
from liit.engine.data.readers.pictures import IMAGE_KEYS, Piece, Shown
from liit.engine.data.readers.sample import PLACEHOLDER, Bad, Image, Sample, Turn, as_text, empty
from liit.engine.data.readers.turns import CONVERSATION_KEYS, SYSTEM_KEYS, TOOLS, Said

__all__ = ["CONVERSATION_KEYS", "KEYS", "PLACEHOLDER", "Bad", "Sample", "content", "sample", "sample_id"]

MEDIA = ("video", "videos", "audio", "audios")
REASONING = "reasoning_content"
KEYS = ("id", *CONVERSATION_KEYS, *IMAGE_KEYS, *MEDIA, *TOOLS, REASONING, *SYSTEM_KEYS, "references", "task", "metric")
"""What is read of a row, or refused where it says something; anything else in it is ignored, and counted."""

PLACED = "pictures without <image> put before the first user turn"
TAKEN = "answer taken from the references"
_GROUNDING = ("<ref-object>", "<bbox>")


def sample_id(row: object, dataset: str) -> str:
    """`<dataset>/<source id>`; where the row has no usable id, a hash of its content stands in."""
    try:
        source = as_text(row.get("id"), "id") if isinstance(row, dict) else None
    except ValueError:
        source = None
    return f"{dataset}/{source or _row_hash(row)}"


def sample(row: object, dataset: str, folder: str, held_out: bool = False) -> tuple[Sample, list[str]]:
    """The sample in `row`, and what had to be done to it, in words.

    row: what a format's reader yields: a mapping, or a ValueError for a row that could not be decoded. folder: the image
    folder. held_out: of an evaluation set, whose questions may have `references` in place of an answer. Raises ValueError with
    the reason for a row that is no sample. Image files are resolved, not decoded.
    """
    if isinstance(row, ValueError):
        raise row
    if not isinstance(row, dict):
        raise ValueError(f"wrong type: a sample must be an object, not {type(row).__name__}")
    as_text(row.get("id"), "id")
    _refuse(row)
    references = _references(row.get("references"))
    said, waiting = _placed(turns.said(row), row)
    if not empty(row.get("objects")) and any(mark in turn.text for turn in said for mark in _GROUNDING):
        raise ValueError(
            f"grounding objects: write the boxes of 'objects' into the text, for {' and '.join(_GROUNDING)}"
        )
    asks = held_out and bool(references) and said[-1].role == "user"
    if said[-1].role == "user" and not asks and not empty(row.get("chosen")):
        raise ValueError("preference pair: the answer is in 'chosen'; write it as the last turn of the conversation")
    said, done = turns.trim(said, asks)
    if waiting:
        first = next(turn for turn in said if turn.role == "user")
        first.pieces = [piece for source in waiting for piece in (Shown(source), "\n")] + first.pieces
        done.append(PLACED)
    conversation = [_turn(one) for one in said]
    if asks and references:
        conversation.append({"role": "assistant", "text": references[0]})
        done.append(TAKEN)
    value: Sample = {
        "id": sample_id(row, dataset),
        "dataset": dataset,
        "task": as_text(row.get("task"), "task"),
        "conversation": conversation,
        "images": [pictures.image(source, folder) for source in _sources(said)],
        "references": references,
        "metric": as_text(row.get("metric"), "metric"),
    }
    return value, done


def content(one: Sample, root: str) -> int:
    """64 bits of all that a sample is but its id; pictures by their bytes, or their path from `root`, the real image folder."""
    told = {key: value for key, value in one.items() if key not in ("id", "dataset", "images")}
    told["images"] = [_named(image, root) for image in one["images"]]
    text = json.dumps(told, sort_keys=True, ensure_ascii=False)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _named(image: Image, root: str) -> str:
    data = image["bytes"]
    return os.path.relpath(image["path"] or "", root) if data is None else hashlib.blake2b(data).hexdigest()


def _row_hash(row: object) -> str:
    def plain(value: object) -> str:
        return hashlib.blake2b(value).hexdigest() if isinstance(value, bytes) else str(value)

    return hashlib.blake2b(json.dumps(row, sort_keys=True, default=plain).encode(), digest_size=16).hexdigest()


def _refuse(row: Mapping[str, Any]) -> None:
    """Raises ValueError for what the row says beside its conversation, and would be lost."""
    for key in (*MEDIA, *TOOLS, REASONING):
        value = row.get(key)
        if empty(value) or value is False or (isinstance(value, str) and value.strip() in ("[]", "{}", "null")):
            continue
        if key in TOOLS:
            raise ValueError(f"tool use: the row has {key!r}; conversations with tools are not read")
        if key == REASONING:
            raise ValueError(f"reasoning: the row has {key!r}; write it into the answer's text, or leave it out")
        if key.startswith("video"):
            raise ValueError("video field: give the ordered frames as a list of images")
        raise ValueError("audio field: sound is not read; leave these rows out")


def _placed(said: list[Said], row: Mapping[str, Any]) -> tuple[list[Said], list[object]]:
    """The turns with a source for each picture, and the pictures that have no place yet."""
    users = [turn for turn in said if turn.role == "user"]
    pieces, waiting = pictures.placed([piece for turn in users for piece in turn.pieces], row)
    rest = iter(pieces)
    for turn in users:
        turn.pieces = [next(rest) for _ in turn.pieces]
    return said, waiting


def _turn(one: Said) -> Turn:
    text = "".join(piece if isinstance(piece, str) else PLACEHOLDER for piece in one.pieces)
    return {"role": one.role, "text": text, **({"context": True} if one.context else {})}  # type: ignore[typeddict-item]


def _sources(said: list[Said]) -> list[object]:
    pieces: list[Piece] = [piece for turn in said for piece in turn.pieces]
    return [piece.source for piece in pieces if isinstance(piece, Shown)]


def _references(value: object) -> list[str] | None:
    """A text, a number or a list of them as the list of accepted answers; None where there is none."""
    if empty(value):
        return None
    if isinstance(value, dict):
        raise ValueError("wrong type: references must be text, a number or a list of them, not an object")
    found = [as_text(one, "reference") for one in (value if isinstance(value, list) else [value])]
    if None in found:
        raise ValueError("null field: reference")
    return [one for one in found if one is not None]
