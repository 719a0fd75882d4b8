"""Samples as LLaVA JSON, as ShareGPT with `dataset_info.json`, as ms-swift's JSON Lines, as TRL's Parquet.

Conversations stay word for word, with one `<image>` per image where it stood. What a format cannot say is in `limits.py`.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.data.readers.sample import PLACEHOLDER
from liit.engine.run.files import write_json
from liit.engine.run.storage.places import Place, appearing, inside

Row = dict[str, Any]
Samples = Iterator[list[tuple[Row, list[Place]]]]
"""Samples with the absolute paths or URLs of their images, a chunk at a time."""

SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}
SHAREGPT = {
    "formatting": "sharegpt",
    "columns": {"messages": "conversations", "images": "images"},
    "tags": {
        "role_tag": "from",
        "content_tag": "value",
        **{f"{role}_tag": speaker for role, speaker in SPEAKERS.items()},
    },
}


class Target(NamedTuple):
    """What is written to."""

    folder: Place
    name: str
    movable: bool
    """Images lie below `folder`, and are named relative to it where the trainer can be told so."""
    pictured: bool
    """Any sample has an image."""


def llava(to: Target, samples: Samples) -> Place:
    """`conversations` of from/value, `image` a path: LLaVA's trainer joins it to its `--image_folder`."""

    def row(sample: Row, paths: list[Place]) -> Row:
        image = {"image": _references(to, paths)[0]} if paths else {}
        task = {"task": sample["task"]} if sample["task"] is not None else {}
        return {"id": sample["id"], **image, "conversations": _spoken(sample), **task}

    return _write_json(to.folder / f"{to.name}.json", samples, row)


def sharegpt(to: Target, samples: Samples) -> Place:
    """`conversations` of from/value and `images`, and an entry `name` in `dataset_info.json` as LLaMA-Factory reads it."""

    def row(sample: Row, paths: list[Place]) -> Row:
        known = {"id": sample["id"], "task": sample["task"]}
        return known | {"conversations": _spoken(sample), "images": _references(to, paths)}

    path, info = _write_json(to.folder / f"{to.name}.json", samples, row), to.folder / "dataset_info.json"
    known = json.loads(info.read_bytes()) if info.is_file() else {}
    with appearing(info) as temporary:
        write_json(temporary, known | {to.name: {"file_name": path.name, **SHAREGPT}})
    return path


def swift(to: Target, samples: Samples) -> Place:
    """`messages` of role/content and `images`, a line each; `loss` is false of an answer that is context.

    Paths are absolute in any case: ms-swift looks for others in the working directory.
    """

    def row(sample: Row, paths: list[Place]) -> Row:
        messages = [
            {"role": turn["role"], "content": turn["text"], **({"loss": False} if turn.get("context") else {})}
            for turn in sample["conversation"]
        ]
        known = {"id": sample["id"], "task": sample["task"]}
        return known | {"messages": messages, "images": [str(path) for path in paths]}

    path = to.folder / f"{to.name}.jsonl"
    with appearing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for chunk in samples:
            stream.writelines(json.dumps(row(*one), ensure_ascii=False) + "\n" for one in chunk)
    return path


def trl(to: Target, samples: Samples) -> Place:
    """`messages` whose content is parts of type image or text, and `images`, in Parquet.

    Without any image, contents are texts and there is no `images`: with it, TRL asks for a vision-language model. Paths are
    absolute in any case: `datasets` would look for others in the working directory.
    """
    path, schema = to.folder / f"{to.name}.parquet", trl_schema(to.pictured)
    with appearing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for chunk in samples:
            rows = [
                {
                    "id": sample["id"],
                    "task": sample["task"],
                    "messages": [
                        {"role": turn["role"], "content": parts(turn["text"]) if to.pictured else turn["text"]}
                        for turn in sample["conversation"]
                    ],
                    "images": [{"bytes": None, "path": str(path)} for path in paths],
                }
                for sample, paths in chunk
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return path


def trl_schema(pictured: bool) -> pa.Schema:
    """With what Hugging Face `datasets` makes of the columns: it opens the images by their paths."""
    text, value = pa.string(), {"dtype": "string", "_type": "Value"}
    part = pa.list_(pa.struct([("type", text), ("text", text)]))
    message = pa.struct([("role", text), ("content", part if pictured else text)])
    told = {"role": value, "content": [{"type": value, "text": value}] if pictured else value}
    fields = [("id", text), ("task", text), ("messages", pa.list_(message))]
    features: Row = {"id": value, "task": value, "messages": [told]}
    if pictured:
        fields.append(("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", text)]))))
        features["images"] = [{"_type": "Image"}]
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": features}})})


FORMATS: dict[str, Callable[[Target, Samples], Place]] = {
    "llava": llava,
    "sharegpt": sharegpt,
    "swift": swift,
    "trl": trl,
}


def parts(text: str) -> list[dict[str, str]]:
    """`a <image> b` as parts; joined, with `<image>` for every image, they are the text again."""
    pieces: list[dict[str, str]] = []
    for position, piece in enumerate(text.split(PLACEHOLDER)):
        if position:
            pieces.append({"type": "image"})
        if piece:
            pieces.append({"type": "text", "text": piece})
    return pieces or [{"type": "text", "text": ""}]


def _spoken(sample: Row) -> list[dict[str, str]]:
    return [{"from": SPEAKERS[turn["role"]], "value": turn["text"]} for turn in sample["conversation"]]


def _references(to: Target, paths: list[Place]) -> list[str]:
    return [str(inside(path, to.folder) if to.movable else path) for path in paths]


def _write_json(path: Place, samples: Samples, row: Callable[[Row, list[Place]], Row]) -> Place:
    """A JSON list, one sample a line."""
    with appearing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        before = "[\n"
        for chunk in samples:
            for sample, paths in chunk:
                stream.write(before + json.dumps(row(sample, paths), ensure_ascii=False))
                before = ",\n"
        stream.write("[]\n" if before == "[\n" else "\n]\n")
    return path
