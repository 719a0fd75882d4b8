"""What is withdrawn is erased: its text, its images and what was said of it, everywhere in a run folder; id and reason stay.

Of releases, and of evaluation sets whose questions hold the same text or image: their marks stay, so that no table of the past
changes, and they are asked no more. Files that the run has only read from, and `data/` of the embedded stream, are not its own.
"""

from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.data.copies import text_hash
from liit.engine.data.image_hashes import hashes_of
from liit.engine.data.withdrawing import ERASED, Withdrawn
from liit.engine.fleet.parts import read_chunks
from liit.engine.run.files import appearing, read_json, remove, write_json
from liit.engine.run.reading import open_run
from liit.engine.run.storage.places import Place, place
from liit.engine.run.store import Store
from liit.engine.run.superseding import FOLDER
from liit.engine.run.tables import SAMPLE

EMPTY: dict[str, object] = {
    "conversation": [],
    "images": [],
    **dict.fromkeys(("references", "answer", "judgement", "question", "reference")),
}
"""What takes the place of a column, in the rows of an erased sample; of hashes, which may have such a name, nothing does."""
PAGES = ("report.html", "report.json")
"""They show samples, and are made anew."""


def withdrawn_of(run: Path) -> dict[str, str]:
    """Id to reason of every sample and question of a run that is withdrawn. Raises RunError for a folder that is no run."""
    here = open_run(run)
    told = Withdrawn.told(here.config)
    return told.among(_samples(here.root)) | told.erased(here.root) if told else {}


def pictures_outside(run: Path, gone: Collection[str]) -> dict[Place, int]:
    """Files of the user's own that pictures of what is withdrawn are, or stand in, and of how many; `erase` leaves them.

    gone: ids, as `withdrawn_of` gives them. Raises RunError for a folder that is no run.
    """
    root, ids = open_run(run).root.resolve(), pa.array(sorted(gone), pa.string())
    found: dict[str, set[tuple[str, int]]] = {}
    for chunk in read_chunks(_samples(root), ["id", "images"]) if len(ids) else ():
        for row in chunk.filter(pc.is_in(chunk["id"], ids)).to_pylist():
            for number, image in enumerate(row["images"] or ()):
                if image["path"] is not None:
                    found.setdefault(image["path"], set()).add((row["id"], number))
    return {place(path): len(pictures) for path, pictures in found.items()}


def erase(run: Path) -> dict[Path, int]:
    """Erase what is withdrawn from every table of the run and of its superseded ones; how many rows of each file were.

    Raises RunError for a folder that is no run, and StoreError while another process is at work in it.
    """
    gone = withdrawn_of(run)
    store = Store(run)
    try:
        ids, done = pa.array(sorted(gone), pa.string()), dict[Path, int]()
        _remember(store.root, ids)
        for folder in (store.root, *(store.root / FOLDER).glob("*")) if gone else ():
            for page in PAGES:
                remove(folder / page)
            for begun in (*folder.rglob("*.partial*"), *folder.rglob("adapter.work/samples.arrow")):
                remove(begun)  # it may hold them, and is made again
        for table in _tables(store.root):
            if count := _erase(table, ids):
                done[_whole(table)] = done.get(_whole(table), 0) + count
        return done
    finally:
        store.close()


def _remember(root: Path, ids: pa.Array) -> None:
    """Keep the marks of each, by which it is found when its words and images are erased."""
    note = root / ERASED
    known = read_json(note) if note.is_file() else {}
    for chunk in read_chunks(_samples(root), ["id", "conversation", "images"]):
        rows = chunk.filter(pc.is_in(chunk["id"], ids)).to_pylist()
        for row in (row for row in rows if row["conversation"]):
            marks = [text_hash(row["conversation"]).hex(), *(mark.hex() for mark in hashes_of(row))]
            before = known.get(row["id"], [])
            known[row["id"]] = list(dict.fromkeys([*([before] if isinstance(before, str) else before), *marks]))
    if known:
        write_json(note, known)


def _samples(root: Path) -> list[Path]:
    """Tables of samples and questions, those of superseded runs too; what is linked in several places once, where it stands."""
    found: dict[tuple[int, int], Path] = {}
    for file in sorted(_files(root), key=lambda path: (FOLDER in path.relative_to(root).parts, path)):
        if {"id", "conversation", "images", "content"} <= set(pq.read_schema(file).names):
            state = file.stat()
            found.setdefault((state.st_dev, state.st_ino), _whole(file))
    return list(dict.fromkeys(found.values()))


def _files(root: Path) -> list[Path]:
    """Parquet files; a folder of part files may be called like one."""
    return sorted(file for file in root.rglob("*.parquet") if file.is_file())


def _whole(file: Path) -> Path:
    """The table that a file is, or is a part of."""
    return file.parent if file.parent.suffix == ".parquet" else file


def _tables(root: Path) -> Iterator[Path]:
    """Tables that hold what a sample says or shows."""
    for table in _files(root):
        schema = pq.read_schema(table)
        if "id" in schema.names and _held(schema):
            yield table


def _erase(table: Path, ids: pa.Array) -> int:
    with pq.ParquetFile(table) as opened:
        count = sum(
            pc.sum(_mine(opened.read_row_group(group, columns=["id", *_held(opened.schema_arrow)]), ids)).as_py() or 0
            for group in range(opened.num_row_groups)
        )
        if count:
            with appearing(table) as temporary, pq.ParquetWriter(temporary, opened.schema_arrow) as writer:
                for group in range(opened.num_row_groups):
                    writer.write_table(_without(opened.read_row_group(group), ids))
    return count


def _held(schema: pa.Schema) -> list[str]:
    return [
        name for name in EMPTY if name in schema.names and not pa.types.is_fixed_size_binary(schema.field(name).type)
    ]


def _mine(rows: pa.Table, ids: pa.Array) -> pa.ChunkedArray:
    """Rows of withdrawn samples that still hold something."""
    holds = pa.chunked_array([pa.array([False] * len(rows))]) if len(rows) else pa.chunked_array([], pa.bool_())
    for name in _held(rows.schema):
        column = rows[name]
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            holds = pc.or_(holds, pc.fill_null(pc.greater(pc.list_value_length(column), 0), False))
        else:
            holds = pc.or_(holds, pc.is_valid(column))
    return pc.and_(holds, pc.is_in(rows["id"], ids))


def _without(rows: pa.Table, ids: pa.Array) -> pa.Table:
    mine = pc.is_in(rows["id"], ids).to_pylist()
    for name in _held(rows.schema):
        at = rows.schema.get_field_index(name)
        field = SAMPLE.field(name) if name in SAMPLE.names else rows.schema.field(at)
        values = [EMPTY[name] if erased else value for value, erased in zip(rows[name].to_pylist(), mine, strict=True)]
        rows = rows.set_column(at, rows.schema.field(at), pa.array(values, field.type).cast(rows.schema.field(at).type))
    return rows
