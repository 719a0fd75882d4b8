"""SHA-256 of every image's bytes, beside a release: by it an image is found wherever it was used."""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.data.image_bytes import Changed, bytes_of
from liit.engine.fleet.parts import read_chunks
from liit.engine.run.files import appearing, read_table
from liit.engine.run.progress import log
from liit.engine.run.storage.places import place

FOLDER = "images"
IMAGES = pa.schema([("id", pa.string()), ("image", pa.binary(32))])


def image_hash(image: Mapping[str, Any]) -> bytes:
    """Of one image as SAMPLE rows have it."""
    return hashlib.sha256(bytes_of(image)).digest()


def beside(release: Path) -> Path:
    """Where the hashes of a release's images are."""
    return release.parents[1] / FOLDER / release.name


def write_images(path: Path, samples: Iterable[pa.Table]) -> None:
    """Write a row for each image of each sample. samples: a few at a time, `id` and `images`, a list of hashes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with appearing(path) as temporary, pq.ParquetWriter(temporary, IMAGES) as writer:
        for table in samples:
            marks = table["images"].combine_chunks()
            names = table["id"].take(pc.list_parent_indices(marks))
            writer.write_table(pa.table([names, pc.list_flatten(marks)], schema=IMAGES))


def images_of(release: Path) -> pa.Table:
    """IMAGES rows of a release; of one that was read by an earlier version they are made when they are first asked for."""
    path = beside(release)
    if not path.is_file():
        log.info("%s: hashing its images, once", release.stem)
        write_images(path, map(_hashed, read_chunks([release], ["id", "images"])))
    return read_table(path)


def hashes_of(row: Mapping[str, Any]) -> list[bytes]:
    """Of the images of a SAMPLE row that can be read still: not those whose files are gone, or hold something else now."""
    found = []
    for image in row["images"] or []:
        if image["bytes"] is not None or place(image["path"]).is_file():
            with suppress(Changed):
                found.append(image_hash(image))
    return found


def _hashed(chunk: pa.Table) -> pa.Table:
    marks = [[image_hash(image) for image in images or []] for images in chunk["images"].to_pylist()]
    return pa.table({"id": chunk["id"], "images": pa.array(marks, pa.list_(pa.binary(32)))})
