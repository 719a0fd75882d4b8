"""Files that appear whole: JSON and Parquet written under another name first, and read back."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def remove(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`; renamed to it when the block ends well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    yield temporary
    temporary.rename(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that readers see the old file or the new one, never half of it."""
    with appearing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_table(path: Path, table: pa.Table) -> None:
    """Write Parquet so that readers see a whole table or none."""
    with appearing(path) as temporary:
        pq.write_table(table, temporary)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file, or all part files of a folder, or of the folders of parts in it. Raises FileNotFoundError for none."""
    return pa.concat_tables([pq.read_table(part, columns=columns) for part in files_of(path)])


def files_of(table: Path) -> list[Path]:
    """The files of a table in their order. Raises FileNotFoundError where there is none."""
    if not table.is_dir():
        return [table]
    files = [file for part in sorted(table.glob("*.parquet")) for file in files_of(part)]
    if not files:
        raise FileNotFoundError(f"{table} holds no Parquet file")
    return files
