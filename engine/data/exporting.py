"""The samples of a selection as other trainers read them: LLaVA JSON, ShareGPT with `dataset_info.json`, TRL's Parquet.

Conversations stay word for word, with one `<image>` per image where it stood. An answer that is context alone is said so where
the format can; where it cannot, the sample is refused. Samples are streamed from the releases, in the order of their arrival.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from liit.engine.data.readers.checks import PLACEHOLDER
from liit.engine.data.readers.images import FORMATS as DECODED
from liit.engine.fleet.work import read_chunks
from liit.engine.run.files import appearing, read_json, read_table, write_json

Row = dict[str, Any]
Samples = Iterator[list[tuple[Row, list[Path]]]]
"""Samples with the absolute paths of their images, a chunk at a time."""

SPEAKERS = {"user": "human", "assistant": "gpt", "system": "system"}
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "BMP": ".bmp"} | {
    "TIFF": ".tiff",
    "PPM": ".ppm",
}
PART = pa.struct([("type", pa.string()), ("text", pa.string())])
MESSAGE = pa.struct([("role", pa.string()), ("content", pa.list_(PART))])
FEATURES = {
    "id": {"dtype": "string", "_type": "Value"},
    "messages": [
        {
            "role": {"dtype": "string", "_type": "Value"},
            "content": [{name: {"dtype": "string", "_type": "Value"} for name in ("type", "text")}],
        }
    ],
    "images": [{"_type": "Image"}],
}
"""What Hugging Face `datasets` makes of the columns: it opens the images by their paths."""

TRL = pa.schema(
    [
        ("id", pa.string()),
        ("messages", pa.list_(MESSAGE)),
        ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": FEATURES}})},
)


@dataclass
class Images:
    """Where exported images lie. Bytes, and with `copy` all images, become files below `folder`, one for each content."""

    folder: Path
    copy: bool
    count: int = 0
    written: set[str] = field(default_factory=set)

    def place(self, image: Row, sample_id: str) -> Path:
        """The absolute path of an image. Raises ValueError for one that is gone, or whose bytes are no image."""
        self.count += 1
        data = image["bytes"]
        if data is None:
            path = Path(image["path"])
            if not path.is_file():
                raise ValueError(f"sample {sample_id}: its image {path} is not there any more")
            if not self.copy:
                return path
            data = path.read_bytes()
        target = self.folder / f"{blake2b(data, digest_size=16).hexdigest()}{_suffix(data, sample_id)}"
        if target.name not in self.written:
            self.folder.mkdir(parents=True, exist_ok=True)
            with appearing(target) as temporary:
                temporary.write_bytes(data)
            self.written.add(target.name)
        return target


@dataclass(frozen=True)
class Exported:
    path: Path
    samples: int
    images: int
    files: int
    """Image files written."""


def export(run: Path, selection: Path, form: str, name: str, output: Path, copy_images: bool = False) -> Exported:
    """Write the samples that a selection names below `output` as `name-form.json` or `name-trl.parquet`.

    Images are referenced by absolute path. With `copy_images` they are copied below `output/images`, and LLaVA and ShareGPT
    reference them relative to `output`, which can then be moved.

    Args:
        run: a run folder, whose releases hold the samples.
        selection: Parquet with a column `id`.
        form: one of `FORMATS`.

    Raises:
        ValueError: an unknown format, no run folder, no selection, a selected sample that no release has, or an image
            that is gone.
    """
    if form not in FORMATS:
        raise ValueError(f"unknown format {form!r}; choose one of: {', '.join(FORMATS)}")
    releases = sorted((run / "releases").glob("*.parquet"))
    if not releases:
        raise ValueError(f"{run} is no run folder: it has no releases/*.parquet")
    if not selection.is_file():
        raise ValueError(f"selection {selection} does not exist; pass a finished timestep, or a file by --selection")
    ids = read_table(selection, ["id"])["id"].unique()
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    images = Images(output / "images", copy_images)
    path = FORMATS[form](output, f"{name}-{form}", _samples(releases, ids, images), output if copy_images else None)
    return Exported(path, len(ids), images.count, len(images.written))


def _samples(releases: list[Path], ids: pa.Array, images: Images) -> Samples:
    left = set(ids.to_pylist())
    for chunk in read_chunks(releases):
        if not left:
            return
        rows = chunk.filter(pc.is_in(chunk["id"], ids)).to_pylist()
        left.difference_update(row["id"] for row in rows)
        yield [(row, [images.place(image, row["id"]) for image in row["images"]]) for row in rows]
    if left:
        raise ValueError(f"{len(left)} selected samples are in no release of the run, the first is {min(left)}")


def llava(output: Path, name: str, samples: Samples, root: Path | None) -> Path:
    """`conversations` of from/value, `image` a path or a list of them."""

    def row(sample: Row, paths: list[Path]) -> Row:
        images = _references(paths, root)
        image = {"image": images[0] if len(images) == 1 else images} if images else {}
        task = {"task": sample["task"]} if sample["task"] is not None else {}
        turns = zip(_turns(sample), sample["conversation"], strict=True)
        spoken = [{**turn, "loss": False} if said.get("context") else turn for turn, said in turns]
        return {"id": sample["id"], **image, "conversations": spoken, **task}

    return _write_json(output / f"{name}.json", samples, row)


def sharegpt(output: Path, name: str, samples: Samples, root: Path | None) -> Path:
    """`conversations` of from/value and `images`, and an entry `name` in `dataset_info.json` as LLaMA-Factory reads it."""

    def row(sample: Row, paths: list[Path]) -> Row:
        _all_learned(sample, "sharegpt")
        return {"id": sample["id"], "conversations": _turns(sample), "images": _references(paths, root)}

    path, info = _write_json(output / f"{name}.json", samples, row), output / "dataset_info.json"
    entry = {
        "file_name": path.name,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "images": "images"},
        "tags": {
            "role_tag": "from",
            "content_tag": "value",
            **{f"{role}_tag": speaker for role, speaker in SPEAKERS.items()},
        },
    }
    write_json(info, (read_json(info) if info.is_file() else {}) | {name: entry})
    return path


def trl(output: Path, name: str, samples: Samples, root: Path | None) -> Path:
    """`messages` whose content is parts of type image or text, and `images`, in Parquet.

    Paths are absolute here in any case: `datasets` would look for others in the working directory.
    """
    path = output / f"{name}.parquet"
    with appearing(path) as temporary, pq.ParquetWriter(temporary, TRL) as writer:
        for chunk in samples:
            for sample, _ in chunk:
                _all_learned(sample, "trl")
            rows = [
                {
                    "id": sample["id"],
                    "messages": [{"role": t["role"], "content": parts(t["text"])} for t in sample["conversation"]],
                    "images": [{"bytes": None, "path": str(path)} for path in paths],
                }
                for sample, paths in chunk
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema=TRL))
    return path


FORMATS: dict[str, Callable[[Path, str, Samples, Path | None], Path]] = {
    "llava": llava,
    "sharegpt": sharegpt,
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


def _all_learned(sample: Row, form: str) -> None:
    """Raises ValueError for a sample with an answer that the trainer of this format would learn, though it is context."""
    if any(turn.get("context") for turn in sample["conversation"]):
        raise ValueError(f"sample {sample['id']}: an answer of it is context, which {form} cannot say; export llava")


def _turns(sample: Row) -> list[dict[str, str]]:
    return [{"from": SPEAKERS[turn["role"]], "value": turn["text"]} for turn in sample["conversation"]]


def _references(paths: list[Path], root: Path | None) -> list[str]:
    return [str(path if root is None else path.relative_to(root)) for path in paths]


def _write_json(path: Path, samples: Samples, row: Callable[[Row, list[Path]], Row]) -> Path:
    """A JSON list, one sample a line."""
    with appearing(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        before = "[\n"
        for chunk in samples:
            for sample, paths in chunk:
                stream.write(before + json.dumps(row(sample, paths), ensure_ascii=False))
                before = ",\n"
        stream.write("[]\n" if before == "[\n" else "\n]\n")
    return path


def _suffix(data: bytes, sample_id: str) -> str:
    try:
        with Image.open(BytesIO(data), formats=DECODED) as image:
            return SUFFIXES[str(image.format)]
    except OSError as error:
        raise ValueError(f"sample {sample_id}: an image of it is none of {', '.join(DECODED)}") from error
