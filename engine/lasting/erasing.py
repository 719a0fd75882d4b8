"""What is withdrawn is erased: its text, its images and what was said of it, everywhere in a run folder; id and reason stay.

Of releases. A question of an evaluation set goes with the row of that set's own file.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.data.copies import text_hash
from liit.engine.data.withdrawing import ERASED, Withdrawn
from liit.engine.fleet.parts import read_chunks
from liit.engine.run.files import appearing, read_json, remove, write_json
from liit.engine.run.reading import open_run
from liit.engine.run.store import Store
from liit.engine.run.superseding import FOLDER
from liit.engine.run.tables import SAMPLE

EMPTY: dict[str, object] = {"conversation": [], "images": [], "references": None, "answer": None, "judgement": None}
"""What takes the place of a column, in the rows of an erased sample."""
PAGES = ("report.html", "report.json")
"""They show samples, and are made anew."""


def withdrawn_of(run: Path) -> dict[str, str]:
    """Id to reason of every sample of a run's releases that is withdrawn. Raises RunError for a folder that is no run."""
    here = open_run(run)
    return Withdrawn.told(here.config).among(sorted((here.root / "releases").glob("*.parquet")))


def pictures_outside(run: Path) -> dict[Path, int]:
    """Files of the user's own that pictures of withdrawn samples are, or stand in, and of how many; `erase` leaves them.

    Raises RunError for a folder that is no run.
    """
    root, ids = open_run(run).root.resolve(), pa.array(sorted(withdrawn_of(run)), pa.string())
    found: Counter[Path] = Counter()
    for chunk in read_chunks(sorted((root / "releases").glob("*.parquet")), ["id", "images"]) if len(ids) else ():
        for images in chunk.filter(pc.is_in(chunk["id"], ids))["images"].to_pylist():
            found.update(Path(image["path"]) for image in images or () if image["path"] is not None)
    return dict(found)


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
                whole = table.parent if table.parent.suffix == ".parquet" else table
                done[whole] = done.get(whole, 0) + count
        return done
    finally:
        store.close()


def _remember(root: Path, ids: pa.Array) -> None:
    """Keep a hash of the words of each, by which it is found when they are erased."""
    note = root / ERASED
    known = read_json(note) if note.is_file() else {}
    for chunk in read_chunks(sorted((root / "releases").glob("*.parquet")), ["id", "conversation"]):
        rows = chunk.filter(pc.is_in(chunk["id"], ids)).to_pylist()
        known |= {row["id"]: text_hash(row["conversation"]).hex() for row in rows if row["conversation"]}
    if known:
        write_json(note, known)


def _tables(root: Path) -> Iterator[Path]:
    """Tables that hold what a sample says or shows."""
    for table in sorted(file for file in root.rglob("*.parquet") if file.is_file()):
        names = pq.read_schema(table).names
        if "id" in names and set(EMPTY) & set(names):
            yield table


def _erase(table: Path, ids: pa.Array) -> int:
    with pq.ParquetFile(table) as opened:
        count = sum(
            pc.sum(_mine(opened.read_row_group(group, columns=["id", *_held(opened)]), ids)).as_py() or 0
            for group in range(opened.num_row_groups)
        )
        if count:
            with appearing(table) as temporary, pq.ParquetWriter(temporary, opened.schema_arrow) as writer:
                for group in range(opened.num_row_groups):
                    writer.write_table(_without(opened.read_row_group(group), ids))
    return count


def _held(opened: pq.ParquetFile) -> list[str]:
    names: list[str] = opened.schema_arrow.names
    return [name for name in EMPTY if name in names]


def _mine(rows: pa.Table, ids: pa.Array) -> pa.ChunkedArray:
    """Rows of withdrawn samples that still hold something."""
    holds = pa.chunked_array([pa.array([False] * len(rows))]) if len(rows) else pa.chunked_array([], pa.bool_())
    for name in (name for name in EMPTY if name in rows.column_names):
        column = rows[name]
        if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
            holds = pc.or_(holds, pc.fill_null(pc.greater(pc.list_value_length(column), 0), False))
        else:
            holds = pc.or_(holds, pc.is_valid(column))
    return pc.and_(holds, pc.is_in(rows["id"], ids))


def _without(rows: pa.Table, ids: pa.Array) -> pa.Table:
    mine = pc.is_in(rows["id"], ids).to_pylist()
    for name in (name for name in EMPTY if name in rows.column_names):
        at = rows.schema.get_field_index(name)
        field = SAMPLE.field(name) if name in SAMPLE.names else rows.schema.field(at)
        values = [EMPTY[name] if erased else value for value, erased in zip(rows[name].to_pylist(), mine, strict=True)]
        rows = rows.set_column(at, rows.schema.field(at), pa.array(values, field.type).cast(rows.schema.field(at).type))
    return rows
