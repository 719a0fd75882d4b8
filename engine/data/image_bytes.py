"""Pictures stay where they are: where the bytes of one stand in a larger file, and how they are read from there again.

A picture of a table of samples is a file of its own (`path`), bytes in the table (`bytes`), or a place in a file that holds many
(`path` and `place`): a value of a row of Parquet, or a member of a tar. `path` may be a URL of object storage; `storage.places`
knows how files are reached. Legend: n rows.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.fleet.running import TaskError
from liit.engine.run.storage.places import Remote, opened, place

READ_AGAIN = 256 << 20
"""Bytes of a row group that is decoded again for one of its pictures; of a larger one the pictures are copied."""
KEPT = 3 * READ_AGAIN
"""Bytes of decoded row groups that a process keeps: those that the pictures of a part stand in, and two more."""


class Inside(TypedDict):
    """row: of a Parquet file, its number; at: the column, and the fields and positions inside it, from there to the bytes.

    offset: of a tar's member. size: bytes. mark: of the bytes, by which a file that has changed is known.
    """

    row: int | None
    at: list[str] | None
    offset: int | None
    size: int
    mark: int


class Changed(TaskError):
    """A file does not hold a picture any more as it did at ingest; `kind: detail`, which names it. No fault of a sample: it stops
    the run, which goes on once the file is what it was."""


class Stored(bytes):
    """Bytes that stand in a file from which they can be read again."""

    path: str
    row: int | None = None
    at: tuple[str, ...] | None = None
    offset: int | None = None

    @classmethod
    def in_row(cls, data: bytes, path: str, row: int, at: tuple[str, ...]) -> "Stored":
        one = cls(data)
        one.path, one.row, one.at = path, row, at
        return one

    @classmethod
    def in_tar(cls, data: bytes, path: str, offset: int) -> "Stored":
        one = cls(data)
        one.path, one.offset = path, offset
        return one


def located(value: object, path: str, row: int, at: tuple[str, ...]) -> object:
    """A value of a row of Parquet, in which all bytes know where they stand."""
    if isinstance(value, bytes):
        return Stored.in_row(value, path, row, at)
    if isinstance(value, dict):
        return {key: located(part, path, row, (*at, str(key))) for key, part in value.items()}
    if isinstance(value, list):
        return [located(part, path, row, (*at, str(number))) for number, part in enumerate(value)]
    return value


def referred(image: Mapping[str, Any]) -> dict[str, Any]:
    """An image as tables have it: without its bytes, where they can be read again."""
    data = image["bytes"]
    if not isinstance(data, Stored):
        return {"path": image["path"], "bytes": data, "place": image.get("place")}
    at = None if data.at is None else list(data.at)
    inside = Inside(row=data.row, at=at, offset=data.offset, size=len(data), mark=_mark(data))
    return {"path": data.path, "bytes": None, "place": inside}


def bytes_of(image: Mapping[str, Any]) -> bytes:
    """The bytes of an image of a sample, wherever they are.

    Raises OSError for a file of its own that cannot be read, and Changed for a larger one that does not hold it any more.
    """
    data, inside = image.get("bytes"), image.get("place")
    if data is not None:
        return bytes(data)
    path = str(image["path"])
    if inside is None:
        return place(path).read_bytes()
    try:
        found = _member(path, inside) if inside["row"] is None else _value(path, inside)
    except (OSError, pa.ArrowException, LookupError, TypeError, ValueError) as error:
        raise Changed(f"changed source: {path} cannot be read as it was at ingest: {error}") from error
    if not isinstance(found, bytes) or _mark(found) != inside["mark"]:
        where = f"row {inside['row']}" if inside["row"] is not None else f"byte {inside['offset']}"
        raise Changed(f"changed source: {path} holds another picture at {where} than at ingest; put back what it was")
    return found


def by_place(table: pa.Table) -> pa.Table:
    """Rows in the order in which their first pictures stand in files: each row group is then decoded once for all of them."""
    images = table["images"].combine_chunks()
    flat, rows = pc.list_flatten(images), pc.list_parent_indices(images).to_numpy()
    rows_n, first_n = np.unique(rows, return_index=True)
    if not len(rows_n):
        return table
    place_N = np.full((2, len(table)), -1, np.int64)
    paths = pc.struct_field(flat, ["path"]).dictionary_encode().indices
    numbers = pc.struct_field(flat, ["place", "row"])
    for at, values in enumerate((numbers, paths)):  # the last is what is sorted by first
        place_N[at, rows_n] = pc.fill_null(values, -1).to_numpy(zero_copy_only=False)[first_n]
    return table.take(pa.array(np.lexsort(place_N)))


def with_bytes(table: pa.Table) -> pa.Table:
    """SAMPLE rows that hold the pictures themselves where those stand in rows of Parquet, which are dear to read one by one."""
    images = table["images"].combine_chunks()
    if not pc.any(pc.is_valid(pc.struct_field(pc.list_flatten(images), ["place", "row"]))).as_py():
        return table
    rows = [[_held(image) for image in of] if of is not None else None for of in images.to_pylist()]
    at = table.schema.get_field_index("images")
    return table.set_column(at, table.schema.field(at), pa.array(rows, images.type))


def _held(image: dict[str, Any]) -> dict[str, Any]:
    if image["place"] is None or image["place"]["row"] is None:
        return image
    return {"path": None, "bytes": bytes_of(image), "place": None}


def _mark(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little")


def _member(path: str, inside: Inside) -> bytes:
    file, start = place(path), inside["offset"] or 0
    if isinstance(file, Remote):
        return file.read_bytes(start, start + inside["size"])
    with file.open("rb") as stream:
        stream.seek(start)
        return stream.read(inside["size"])


def _value(path: str, inside: Inside) -> Any:
    state, row, (column, *steps) = _state(path), int(inside["row"] or 0), inside["at"] or [""]
    starts = _starts(path, state)
    group = int(np.searchsorted(starts, row, "right")) - 1
    if row >= starts[-1]:
        raise LookupError(f"it has {starts[-1]} rows")
    value = _columns.get(path, state, group, column)[row - int(starts[group])]
    for step in steps:
        value = value[step if pa.types.is_struct(value.type) else int(step)]
    return value.as_py()


def _state(path: str) -> str:
    """What tells the file of now from one that was there before."""
    file = place(path)
    if isinstance(file, Remote):
        return file.version()
    found = file.stat()
    return f"{found.st_size} {found.st_mtime_ns}"


@lru_cache(maxsize=256)
def _starts(path: str, state: str) -> np.ndarray:
    """(n + 1,) number of the first row of each row group, and of all rows."""
    with opened(place(path)) as source:
        about = pq.read_metadata(source)
    return np.cumsum([0, *(about.row_group(group).num_rows for group in range(about.num_row_groups))])


class _Columns:
    """Decoded columns of row groups, the last ones that were asked for. Any thread may ask."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[object, ...], pa.ChunkedArray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, path: str, state: str, group: int, column: str) -> pa.ChunkedArray:
        name = (path, state, group, column)
        with self._lock:
            if name not in self._kept:
                with opened(place(path)) as source, pq.ParquetFile(source) as file:
                    found = file.read_row_group(group, columns=[column], use_threads=False)
                self._kept[name] = found[column]
                self._bytes += found[column].nbytes
                while len(self._kept) > 1 and self._bytes > KEPT:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
            self._kept.move_to_end(name)
            return self._kept[name]

    def clear(self) -> None:
        with self._lock:
            self._kept.clear()
            self._bytes = 0


_columns = _Columns()


def forget_decoded() -> None:
    """Give back the row groups that are kept for the next picture: for a process that has read all that it wants to."""
    _columns.clear()
