"""A run folder to export from, what it should give, and the command that exports it."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from typer.testing import CliRunner, Result

from liit.engine.run.files import write_table
from liit.engine.run.tables import SAMPLE, SELECTION, key_of
from liit.jobs.export import app

Row = dict[str, Any]
CHOSEN = ("base/seen", "base/two", "words/said", "words/stored", "words/same", "words/hidden", "words/told")
HELD = {
    "llava": {"words/said", "words/same", "words/hidden"},
    "sharegpt": {*CHOSEN} - {"words/told"},
    "swift": {*CHOSEN},
    "trl": {*CHOSEN} - {"words/told"},
}
"""What of it each format can hold."""
SUFFIX = {"llava": "json", "sharegpt": "json", "swift": "jsonl", "trl": "parquet"}


def picture(seed: int, form: str) -> bytes:
    stream = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, form, **({"lossless": True} if form == "WEBP" else {}))
    return stream.getvalue()


def sample(name: str, turns: list[tuple[str, str]], images: list[Row], task: str | None = None) -> Row:
    conversation = [{"role": role, "text": text} for role, text in turns]
    dataset = name.split("/")[0]
    row = {"id": name, "key": key_of(name), "dataset": dataset, "arrival": 0, "task": task}
    return row | {"conversation": conversation, "images": images}


def made(tmp_path: Path) -> Path:
    """A run folder with two releases: images as files, one of them under the wrong suffix, and as bytes; none; two."""
    folder = tmp_path / "pictures of mine"
    folder.mkdir()
    for number, (name, form) in enumerate((("a.png", "PNG"), ("b.png", "JPEG"), ("c d.jpg", "JPEG"))):
        (folder / name).write_bytes(picture(number, form))
    files = [{"path": str(folder / name), "bytes": None} for name in ("a.png", "b.png", "c d.jpg")]
    stored = [{"path": None, "bytes": picture(9, form)} for form in ("WEBP", "PNG")]
    base = [
        sample(
            "base/seen", [("system", "Be brief."), ("user", "<image>\nWhat?"), ("assistant", "a → ü")], files[:1], "vqa"
        ),
        sample("base/left", [("user", "Not"), ("assistant", "chosen")], []),
        sample(
            "base/two",
            [("user", "This <image>"), ("assistant", "yes"), ("user", "<image> or"), ("assistant", "no")],
            files[1:],
        ),
    ]
    words = [
        sample("words/said", [("user", 'A "quoted"\n\nline'), ("assistant", "  kept ")], []),
        sample("words/stored", [("user", "<image><image>"), ("assistant", "both")], stored),
        sample("words/same", [("user", "<image>again"), ("assistant", "the same")], stored[:1]),
        sample("words/hidden", [("user", "Look:\n<image>"), ("assistant", "../../x")], files[:1]),
        sample("words/told", [("user", "A?"), ("assistant", "a"), ("user", "B?"), ("assistant", "b")], []),
    ]
    words[-1]["conversation"][1]["context"] = True
    for number, rows in enumerate((base, words)):
        path = tmp_path / "run" / "releases" / f"{number:02d}-{rows[0]['dataset']}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, pa.Table.from_pylist(rows, schema=SAMPLE))
    (tmp_path / "run" / "t01").mkdir()
    chosen = [{"id": name, "key": key_of(name)} for name in reversed(CHOSEN)]
    write_table(tmp_path / "run" / "t01" / "selection.parquet", pa.Table.from_pylist(chosen, schema=SELECTION))
    return tmp_path / "run"


def call(run: Path, form: str, output: Path, *more: str, timestep: str = "1") -> Result:
    given = ["--run", str(run), "--format", form, "--output", str(output), "--timestep", timestep, *more]
    return CliRunner().invoke(app, given)


def exported(run: Path, form: str, output: Path, *more: str) -> Path:
    """The file with what the format can hold."""
    done = call(run, form, output, "--leave-out", *more)
    assert done.exit_code == 0, done.output
    return output / f"run-t01-{form}.{SUFFIX[form]}"


Seen = tuple[list[tuple[str, str, bool]], list[bytes]]
"""Turns, with whether they are context, and the pixels of each image."""


def wanted(run: Path, form: str) -> dict[str, Seen]:
    """The chosen samples as they stand in the releases, as far as the format holds them."""
    rows = [row for file in sorted((run / "releases").iterdir()) for row in pq.read_table(file).to_pylist()]
    return {row["id"]: as_seen(row) for row in rows if row["id"] in HELD[form]}


def as_seen(row: Row) -> Seen:
    turns = [(turn["role"], turn["text"], bool(turn.get("context"))) for turn in row["conversation"]]
    return turns, [seen(image) for image in row["images"]]


def seen(image: Row | str) -> bytes:
    if isinstance(image, str):
        return Image.open(image).convert("RGB").tobytes()
    return Image.open(BytesIO(image["bytes"]) if image["bytes"] else image["path"]).convert("RGB").tobytes()
