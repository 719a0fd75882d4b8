"""Images that lie in the run folder move with it: the tables that name them are written anew, and nothing else is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.run.files import appearing, files_of
from liit.engine.run.progress import log


def move_images(root: Path, old: Path, to: Path | None = None) -> None:
    """Let the samples of a run that lay at `old`, and lies at `root` now, find their images; to: where it will lie instead."""
    to = to or root
    if to == old or not (root / "data").is_dir():
        return
    for table in _tables(root):
        groups = pq.ParquetFile(table)
        if not any(_inside(row, old) for row in _images(groups)):
            continue
        with appearing(table) as temporary, pq.ParquetWriter(temporary, groups.schema_arrow) as writer:
            for number in range(groups.num_row_groups):
                writer.write_table(_moved(groups.read_row_group(number), old, to))
        log.info("%s: its images are in %s now", table.relative_to(root), to)


def _tables(root: Path) -> Iterator[Path]:
    for table in (*root.glob("releases/*.parquet"), *root.glob("exam/*.parquet"), *root.glob("targets.parquet")):
        yield from (file for file in files_of(table) if "images" in pq.read_schema(file).names)


def _images(groups: pq.ParquetFile) -> Iterator[list[dict[str, Any]]]:
    for number in range(groups.num_row_groups):
        yield from (row or [] for row in groups.read_row_group(number, columns=["images"])["images"].to_pylist())


def _inside(images: list[dict[str, Any]], old: Path) -> bool:
    return any(image["path"] is not None and Path(image["path"]).is_relative_to(old) for image in images)


def _moved(table: pa.Table, old: Path, to: Path) -> pa.Table:
    rows = [
        [
            {**image, "path": str(to / Path(image["path"]).relative_to(old))} if _inside([image], old) else image
            for image in row or []
        ]
        for row in table["images"].to_pylist()
    ]
    at = table.schema.get_field_index("images")
    return table.set_column(at, table.schema.field(at), pa.array(rows, table.schema.field(at).type))
