"""A release is opened: its files found, their columns recognised, each row yielded once as a sample or with its reason.

`auto` goes by names: of files for the container, of columns for the shape. A format of one's own is a function of a file, by
`module:function` or as an installed entry point of the group `liit.formats`:

    def rows(path):                      # yields mappings, whose columns are recognised like those of a Parquet file
        for line in open(path): yield {"instruction": ..., "output": ...}
"""

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, NamedTuple

from liit.engine.data.presets.mapping import mapped
from liit.engine.data.readers import checks, files, hugging_face, json_text, parquet, shapes, turns, webdataset
from liit.engine.data.readers.checks import Bad, Sample
from liit.engine.data.readers.counts import Counts
from liit.engine.data.readers.shapes import Shape
from liit.engine.run.storage.places import Place, Remote, place
from liit.engine.settings.extensions import function_at, installed
from liit.engine.settings.remote import scheme
from liit.engine.settings.streams import EvaluationSet, Release

__all__ = ["Bad", "Reader", "Sample", "files_of", "raw_rows", "read"]

GROUP = "liit.formats"
RECOGNISED_WITHIN = 100
"""Rows of a file that are looked at for columns that are known."""


class Container(NamedTuple):
    suffixes: tuple[str, ...]
    rows: Callable[..., Iterator[object]]
    """Of a file; with `raw`, all of their columns."""


CONTAINERS = {
    "JSON": Container(json_text.SUFFIXES, json_text.rows),
    "Parquet": Container(parquet.SUFFIXES, parquet.rows),
    "WebDataset": Container(webdataset.SUFFIXES, webdataset.rows),
    "datasets": Container(hugging_face.SUFFIXES, hugging_face.rows),
}


class Format(NamedTuple):
    """Which containers a format is read from, and the one shape that it may have; None: any that is recognised."""

    containers: tuple[str, ...] = tuple(CONTAINERS)
    shape: str | None = None


FORMATS = {
    "auto": Format(),
    "llava": Format(("JSON",), "chat"),
    "parquet": Format(("Parquet",)),
    "webdataset": Format(("WebDataset",)),
    "datasets": Format(("datasets",)),
    **{name: Format(shape=name) for name in shapes.SHAPES if name not in ("chat", "caption")},
}


class Source(NamedTuple):
    """One of a release's files, opened: its name, what it is in a word, and its rows as they stand there."""

    file: Place
    container: str
    rows: Iterator[object]


class Reader:
    """Iterates once over one release in file order: each row is yielded as a sample or as a bad row.

    Ids are those of the files and may repeat (`ids.py` tells them apart). `counts` is of the rows so far.
    """

    def __init__(
        self,
        release: Release,
        sources: Iterable[Source],
        folder: str,
        first: int | None = None,
        each: int | None = None,
    ) -> None:
        """folder: of images. first, each: at most so many rows in all, and of every source."""
        self.release = release
        self.folder = folder if scheme(folder) else os.path.realpath(folder)
        self.held_out = isinstance(release, EvaluationSet)
        self.counts = Counts()
        self._sources, self._first, self._each = sources, first, each

    def __iter__(self) -> Iterator[Sample | Bad]:
        rows = chain.from_iterable(map(self._shaped, self._sources))
        for raw, row in islice(rows, self._first):
            try:
                sample, done = checks.sample(row, self.release.name, self.folder, self.held_out)
            except ValueError as error:
                named = row if isinstance(row, dict) else raw
                yield Bad(checks.sample_id(named, self.release.name), self.release.name, str(error))
                continue
            for kind in done:
                self.counts.repair(kind, sample["id"])
            yield sample

    def _shaped(self, source: Source) -> Iterator[tuple[object, object]]:
        """The rows of a source as they are and in the one shape; of both, the error of a row that cannot have it."""
        rows, columns = mapped(self.release, source.rows, self.folder), self.release.columns
        shape, there, rows = _recognised(self.release, source.file, islice(rows, self._each))
        if shape is None:
            return  # no rows
        known = {*checks.KEYS, *shape.needs, *shape.takes, *(name for name, to in columns.items() if to != "ignore")}
        as_said = ", ".join(f"{name}: {to}" for name, to in columns.items()) or shapes.columns_of(shape, there)
        self.counts.took[f"{source.container} file, {shape.name} by {as_said}"] += 1
        for raw in rows:
            self.counts.row(raw, known)
            row: object = raw
            if isinstance(raw, dict):
                try:
                    row = shapes.shaped(shapes.renamed(raw, columns), shape)
                    self.counts.turn_keys.update(turns.ignored(row))
                except ValueError as error:
                    row = error
            yield raw, row


def read(release: Release, first: int | None = None) -> Reader:
    """The rows of a release, streamed; first: so many of them, about as many of each file.

    Raises ValueError, here or while iterating, that names a file or folder which is missing or cannot be read as the format it
    should have.
    """
    found = _found(release)
    folder = images_of(release, found)
    if not isinstance(folder, Remote) and not folder.is_dir():
        raise ValueError(f"release {release.name}: image folder {folder} does not exist")
    sources = (Source(file, *_rows(release, file)) for file in found.files)
    reader = Reader(release, sources, str(folder), first, None if first is None else -(-first // len(found.files)))
    reader.counts.left_out += found.left_out
    return reader


def images_of(release: Release, found: files.Found | None = None) -> Place:
    """The folder that image paths are relative to. found: the release's files, where they are known already."""
    return place(release.images) if release.images is not None else (found or _found(release)).folder


def files_of(release: Release) -> list[Place]:
    """The annotation files of a release, sorted by name. Raises ValueError that names what is missing."""
    return _found(release).files


def raw_rows(release: Release) -> Iterator[object]:
    """The rows of a release as they stand in its files. Raises ValueError as `read` does."""
    return chain.from_iterable(_rows(release, file)[1] for file in files_of(release))


def count(release: Release) -> int | None:
    """How many rows a release has where its files say so without being read; None elsewhere. Raises ValueError as `read` does."""
    found = files_of(release)
    for name, of in (("Parquet", parquet.count), ("datasets", hugging_face.count)):
        if release.format in FORMATS and {_container(file) for file in found} == {name}:
            return sum(of(file) for file in found)
    return None


def _found(release: Release) -> files.Found:
    form = FORMATS.get(release.format)
    suffixes = () if form is None else tuple(one for name in form.containers for one in CONTAINERS[name].suffixes)
    wanted = files.Wanted(suffixes, release.split, release.recursive, isinstance(release, EvaluationSet))
    try:
        if form is None:
            _own(release.format)
        found = files.find(release.path, wanted)
    except ValueError as error:
        raise ValueError(f"release {release.name}: {error}") from error
    kinds = {_container(file) for file in found.files} if form is not None else set()
    if len(kinds) > 1:
        several = " and ".join(sorted(kinds))
        raise ValueError(
            f"release {release.name}: {release.path} holds files of {several}; say format:, or name them by a pattern"
        )
    return found


def _container(file: Place) -> str:
    """Of a file by its name; one without a suffix that is known is taken for JSON, which says so if it is not."""
    if file.is_dir():
        return "datasets"
    named = (name for name, one in CONTAINERS.items() if file.name.lower().endswith(one.suffixes))
    return next(named, "JSON")


def _rows(release: Release, file: Place) -> tuple[str, Iterator[object]]:
    """What a file is, in a word, and its rows."""
    form = FORMATS.get(release.format)
    if form is None:
        return release.format, _guarded(release.format, _own(release.format), file)
    name = _container(file) if len(form.containers) > 1 else form.containers[0]
    return name, CONTAINERS[name].rows(file)


def _recognised(
    release: Release, file: Place, rows: Iterator[object]
) -> tuple[Shape | None, Collection[str], Iterator[object]]:
    """The shape of a file's rows by the first that has one, the columns seen until then, and all rows; None where there are none.

    Raises ValueError that says what its columns are, where none of them is known.
    """
    form, looked = FORMATS.get(release.format, Format()), []
    seen: dict[str, object] = {}
    for row in islice(rows, RECOGNISED_WITHIN):
        looked.append(row)
        if isinstance(row, dict):
            seen |= row
            shape = shapes.recognise(_names(row, release.columns), form.shape)
            if shape is not None and set(release.columns) <= set(seen):
                return shape, seen, chain(looked, rows)
    if not looked:
        return None, (), iter(())
    shape = shapes.recognise(_names(seen, release.columns), form.shape)
    missing = [name for name in release.columns if name not in seen]
    if seen and (missing or shape is None):
        raise ValueError(_unknown(file, seen, missing, form.shape))
    return shape or shapes.SHAPES["chat"], seen, chain(looked, rows)


def _names(row: Mapping[str, object], columns: Mapping[str, str]) -> set[str]:
    """Columns as they are called once `columns` has renamed them."""
    kept = {name for name in row if name not in columns}
    spoken = {"user", "assistant", "conversation"} & set(columns.values())
    return kept | ({"messages"} if spoken else set())


def _unknown(file: Place, seen: Mapping[str, object], missing: list[str], only: str | None) -> str:
    has = f"{file} has columns {', '.join(map(str, seen))}"[:1000]
    if missing:
        return f"{has}, and no {', '.join(missing)}, which `columns` names"
    around = next(shapes.wrapped(seen), None)
    if around is not None:
        return f"{has}; its samples seem to be under {around!r}: {json_text.unwrap(around, file)}"
    known = (shapes.SHAPES[only],) if only else shapes.SHAPES.values()
    told = "; ".join(shapes.columns_of(shape) for shape in known)
    return f"{has}, but none of: {told}; say which is which, as columns: {{question: user, answer: assistant}}"


def _own(name: str) -> Callable[[Any], Iterator[object]]:
    """The function that a format of one's own is. Raises ValueError, one line, where there is none."""
    points = installed(GROUP)
    place = name if ":" in name else points.get(name)
    if place is None:
        raise ValueError(f"unknown format {name!r}; known are {', '.join([*FORMATS, *points])}, and module:function")
    return function_at(place, f"format {name}: {place!r}")


def _guarded(name: str, rows: Callable[[Any], Iterator[object]], file: Place) -> Iterator[object]:
    try:
        for row in rows(file):
            named = not isinstance(row, dict) or all(isinstance(key, str) for key in row)
            yield row if named else ValueError("wrong type: the columns of a row must have names of text")
    except Exception as error:
        raise ValueError(f"format {name}: {file}: {type(error).__name__}: {error}") from error
