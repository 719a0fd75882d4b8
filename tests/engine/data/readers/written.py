"""Small files of samples for the tests of readers, and what is read of them."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from liit.engine.data.readers import formats
from liit.engine.data.readers.checks import Bad, Sample, content
from liit.engine.data.readers.ids import Ids
from liit.engine.settings.streams import EvaluationSet, Release

ASK = {"from": "human", "value": "What is it?"}
SEE = {"from": "human", "value": "<image>\nWhat is it?"}
TELL = {"from": "gpt", "value": "A seven."}


def png(shade: int = 0) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def row(identity: Any = 1, *turns: Any, **fields: Any) -> dict[str, Any]:
    return {"id": identity, "conversations": list(turns) or [ASK, TELL], **fields}


def write(folder: Path, *rows: Any, name: str = "samples.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(list(rows)))
    return path


def write_parquet(folder: Path, rows: list[dict[str, Any]], name: str = "samples.parquet", **options: Any) -> Path:
    path = folder / name
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def release(path: Path | str, **settings: Any) -> Release:
    kind = EvaluationSet if "skill" in settings else Release
    return kind.model_validate({"name": "mine", "path": str(path), **settings})


def read(path: Path | str, **settings: Any) -> tuple[list[Sample], list[Bad], formats.Reader]:
    """Kept, with the ids that they have in a pool, quarantined, and the reader; a row is in one of the two, or equals another."""
    reader = formats.read(release(path, **settings))
    found, ids = list(reader), Ids()
    bad = [item for item in found if isinstance(item, Bad)]
    samples = [item for item in found if not isinstance(item, Bad)]
    for sample in samples:
        ids.add(sample["id"], content(sample, reader.folder))
    settled = ids.settled()
    names = settled.ids(pa.array([sample["id"] for sample in samples], pa.string())).to_pylist()
    for sample, name in zip(samples, names, strict=True):
        sample["id"] = name
    return [sample for sample, stays in zip(samples, settled.stays_N, strict=True) if stays], bad, reader


def said(sample: Sample) -> list[str]:
    return [turn["text"] for turn in sample["conversation"]]


def repaired(reader: formats.Reader) -> dict[str, int]:
    return {kind: tally.count for kind, tally in reader.counts.repaired.items()}
