"""A sample found by its id in the tables of a run, and its row read without the pictures of others."""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.run.files import files_of, read_json, read_table
from liit.engine.run.reading import Run, RunError
from liit.engine.run.storage.places import Place, place, size_of
from liit.engine.run.tables import key_of

PROPOSED = 3
"""Ids that are named where one is unknown."""
COMPARED = 10_000
"""Ids of a data set that an unknown one is compared with: those that begin most like it."""
LIGHT = ("dataset", "arrival", "task", "length", "content")
"""Columns of a sample that are read whole; of its pictures the paths alone."""

Kind = Literal["release", "evaluation", "target"]


@dataclass(frozen=True)
class Image:
    """A picture of a sample. path: the file that it is or stands in; None where its bytes are in the table. bytes: its size; None
    where no file is there."""

    path: Place | None
    bytes: int | None


@dataclass(frozen=True)
class Row:
    """A sample's row of a table of SAMPLE rows. number: how many rows stand before it. values: its columns LIGHT."""

    number: int
    values: Mapping[str, Any]
    images: tuple[Image, ...]


@dataclass(frozen=True)
class Source:
    """A data set in the run folder. since, until: of a release the timestep at which it came; of an evaluation set the first
    timestep whose pool is kept free of its questions, and the first that is not any more. aside: its quarantine table."""

    name: str
    kind: Kind
    table: Path
    aside: Path
    since: int = 0
    until: int | None = None


@dataclass(frozen=True)
class Found:
    """What a data set has of a sample. row: None where every row of it was quarantined; bad: QUARANTINE rows of it."""

    source: Source
    row: Row | None
    bad: tuple[Mapping[str, str], ...] = ()


def find(run: Run, sample: str) -> tuple[str, list[Found]]:
    """The whole id of a sample, and every data set that has it; without its data set's name where no other has such an id.

    Raises RunError, one line, for an id that none has, with the closest ones, and for one that several have.
    """
    sources = list(sources_of(run))
    if exact := _having(sources, sample):
        return sample, exact
    whole = [f"{name}/{sample}" for name in dict.fromkeys(source.name for source in sources)]
    found = {name: having for name in whole if (having := _having(sources, name))}
    if len(found) > 1:
        raise RunError(f"{run.root} has {sample} in several data sets; pass one of {', '.join(found)}")
    for name, having in found.items():
        return name, having
    raise _unknown(run, sources, sample)


def sources_of(run: Run) -> Iterator[Source]:
    """Every data set of a run: its releases in their order, evaluation sets, and those of the target split."""
    root, told = run.root, {_key(one): one for one in _told(run)}
    for t, name in enumerate(run.releases):
        yield Source(
            name, "release", root / f"releases/{t:02d}-{name}.parquet", root / f"t{t:02d}/quarantine.parquet", t
        )
    for table in sorted(root.glob("exam/*.parquet")):
        if table.stem.endswith((".quarantine", ".queries")):
            continue
        one, (name, _, since) = told.get(table.stem, {}), table.stem.partition("@t")
        aside = table.with_name(f"{table.stem}.quarantine.parquet")
        yield Source(name, "evaluation", table, aside, int(since or 0), one.get("until"))
    kinds: dict[str, Kind] = {"exam": "evaluation", "targets": "target"}
    for stem, kind in kinds.items():
        table = (
            root / f"{stem}.parquet"
        )  # of earlier versions, where all evaluation sets were one table; and the target split
        for name in pc.unique(read_table(table, ["dataset"])["dataset"]).to_pylist() if table.exists() else ():
            yield Source(name, kind, table, root / f"{stem}.quarantine.parquet")


def row_of(table: Path, sample: str) -> Row | None:
    """A sample's row of a table whose row groups are each in the order of the keys; None where there is none.

    Of the row groups only those that may hold it are looked into. Pictures that are bytes in the table are passed over a page
    at a time until the sample's own, of which the sizes are taken.
    """
    before = 0
    for path in files_of(table):
        with pq.ParquetFile(path, memory_map=True) as file:
            found = _row_of(file, sample)
            if found is not None:
                return replace(found, number=before + found.number)
            before += file.metadata.num_rows
    return None


def _row_of(file: pq.ParquetFile, sample: str) -> Row | None:
    for group, before in _groups(file, key_of(sample)):
        keys = file.read_row_group(group, columns=["key"])["key"]
        at = pc.index(keys, pa.scalar(key_of(sample), pa.uint64())).as_py()
        if at < 0:
            continue
        light = [name for name in LIGHT if name in file.schema_arrow.names]
        named = [*light, *_leaf(file, "path"), *_leaf(file, "size")]
        row = file.read_row_group(group, columns=named).slice(at, 1).to_pylist()[0]
        images = row.pop("images", None) or ()
        paths = [image["path"] for image in images]
        sizes = _sizes(file, group, at) if None in paths else [None] * len(paths)
        inside = [(image.get("place") or {}).get("size") for image in images]
        sizes = [own if own is not None else size for own, size in zip(sizes, inside, strict=True)]
        return Row(before + at, row, tuple(map(_image, paths, sizes)))
    return None


def _groups(file: pq.ParquetFile, key: int) -> Iterator[tuple[int, int]]:
    """Row groups whose keys reach around this one, and how many rows stand before each."""
    column, before = file.schema_arrow.names.index("key"), 0  # before all nested columns
    for group in range(file.num_row_groups):
        known = file.metadata.row_group(group).column(column).statistics
        if known is None or not known.has_min_max or known.min <= key <= known.max:
            yield group, before
        before += file.metadata.row_group(group).num_rows


def _leaf(file: pq.ParquetFile, name: str) -> list[str]:
    """The path of a field of the column `images`, which writers of Parquet call differently."""
    paths = [file.schema.column(at).path for at in range(len(file.schema))]
    return [path for path in paths if path.startswith("images.") and path.endswith(f".{name}")]


def _sizes(file: pq.ParquetFile, group: int, at: int) -> list[int | None]:
    batches = file.iter_batches(batch_size=1, row_groups=[group], columns=_leaf(file, "bytes"))
    for number, batch in enumerate(batches):
        if number == at:
            return [None if image["bytes"] is None else len(image["bytes"]) for image in batch["images"][0].as_py()]
    raise AssertionError(f"row group {group} has no row {at}")


def _image(path: str | None, size: int | None) -> Image:
    if path is None:
        return Image(None, size)
    file = place(path)
    if not file.is_file():
        return Image(file, None)
    return Image(file, size_of(file) if size is None else size)


def _having(sources: list[Source], sample: str) -> list[Found]:
    """What each data set has of a whole id."""
    found = []
    for source in sources:
        if sample.startswith(f"{source.name}/"):
            row = row_of(source.table, sample) if source.table.exists() else None
            bad = read_rows(source.aside, sample)
            if row is not None or bad:
                found.append(Found(source, row, tuple(bad)))
    return found


def read_rows(table: Path, sample: str) -> list[dict[str, Any]]:
    """The rows with this id of a table that is in no order; none where there is no such table."""
    return pq.read_table(table, filters=pc.field("id") == sample).to_pylist() if table.is_file() else []


def _told(run: Run) -> list[dict[str, Any]]:
    """The evaluation sets as the configuration has them."""
    stream, composed = run.config["stream"], run.root / "data" / "stream.json"
    if "releases" not in stream and composed.is_file():
        stream = read_json(composed)
    return list(stream.get("evaluations", ()))


def _key(one: Mapping[str, Any]) -> str:
    """The name of a set's table (`EvaluationSet.key`)."""
    return str(one["name"]) + (f"@t{one['since']:02d}" if one.get("since") else "")


def _unknown(run: Run, sources: list[Source], sample: str) -> RunError:
    close = _closest(sources, sample)
    names = dict.fromkeys(source.name for source in sources)
    hint = (
        f"the closest are {', '.join(close)}" if close else f"its data sets are {', '.join(names) or 'not there yet'}"
    )
    return RunError(f"{run.root} has no sample {sample}; {hint}")


def _closest(sources: list[Source], sample: str) -> list[str]:
    """Up to PROPOSED ids most like one, of its data set where that is known."""
    names, (name, slash, rest) = {source.name for source in sources}, sample.partition("/")
    if slash and name not in names:
        near = difflib.get_close_matches(name, sorted(names), PROPOSED)
        sources = [source for source in sources if source.name in near]
    elif slash:
        sources = [source for source in sources if source.name == name]
    wanted = rest if slash else sample
    likely = {one: one if slash else one.partition("/")[2] for one in _beginning_like(sources, wanted)}
    best = difflib.get_close_matches(sample, list(dict.fromkeys(likely.values())), PROPOSED)
    return [one for like in best for one in likely if likely[one] == like][:PROPOSED]


def _beginning_like(sources: list[Source], wanted: str) -> Iterator[str]:
    """Of each data set the ids that have most of their beginning in common with this one."""
    for source in sources:
        parts = [read_table(table, ["id"])["id"] for table in (source.table, source.aside) if table.exists()]
        ids = pa.chunked_array([chunk for part in parts for chunk in part.chunks], pa.string())
        for length in range(len(wanted), -1, -1):
            mine = pc.starts_with(ids, f"{source.name}/{wanted[:length]}")
            if (pc.sum(mine).as_py() or 0) >= PROPOSED or not length:
                yield from ids.filter(mine).slice(0, COMPARED).to_pylist()
                break
