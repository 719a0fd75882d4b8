"""SHA-256 of every image's bytes, beside a release: by it an image is found wherever it was used."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.fleet.parts import read_chunks
from liit.engine.run.files import appearing, read_table
from liit.engine.run.progress import log
from liit.engine.run.storage.places import bytes_of

FOLDER = "images"
IMAGES = pa.schema([("id", pa.string()), ("image", pa.binary(32))])


def image_hash(image: Mapping[str, Any]) -> bytes:
    """Of one image as SAMPLE rows have it."""
    data = image["bytes"] if image["bytes"] is not None else bytes_of(image["path"])
    return hashlib.sha256(data).digest()


def beside(release: Path) -> Path:
    """Where the hashes of a release's images are."""
    return release.parents[1] / FOLDER / release.name


def write_images(path: Path, rows: Iterable[tuple[str, list[bytes]]]) -> None:
    """Write a row for each image of each sample."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with appearing(path) as temporary, pq.ParquetWriter(temporary, IMAGES) as writer:
        pairs = [(name, mark) for name, marks in rows for mark in marks]
        writer.write_table(pa.table([[name for name, _ in pairs], [mark for _, mark in pairs]], schema=IMAGES))


def images_of(release: Path) -> pa.Table:
    """IMAGES rows of a release; of one that was read by an earlier version they are made when they are first asked for."""
    path = beside(release)
    if not path.is_file():
        log.info("%s: hashing its images, once", release.stem)
        rows = (row for chunk in read_chunks([release], ["id", "images"]) for row in chunk.to_pylist())
        write_images(path, ((row["id"], [image_hash(image) for image in row["images"] or []]) for row in rows))
    return read_table(path)


def hashes_of(row: Mapping[str, Any]) -> list[bytes]:
    """Of the images of a SAMPLE row whose files are there still."""
    images = row["images"] or []
    return [image_hash(one) for one in images if one["bytes"] is not None or Path(one["path"]).is_file()]
