"""A release is opened: its files found, their columns recognised, each row yielded once as a sample or with its reason.

`auto` goes by names: of files for the container, of columns for the shape. A format of one's own is a function of a file, by
`module:function` or as an installed entry point of the group `liit.formats`:

    def rows(path):                      # yields mappings, whose columns are recognised like those of a Parquet file
        for line in open(path): yield {"instruction": ..., "output": ...}
"""

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, NamedTuple

from liit.engine.data.presets.mapping import mapped
from liit.engine.data.readers import checks, files, hugging_face, json_text, parquet, shapes, turns, webdataset
from liit.engine.data.readers.checks import Bad, Sample
from liit.engine.data.readers.counts import Counts
from liit.engine.run.storage.places import Place, Remote, place
from liit.engine.settings.extensions import function_at, installed
from liit.engine.settings.remote import scheme
from liit.engine.settings.streams import EvaluationSet, Release

__all__ = ["Bad", "Reader", "Sample", "Split", "files_of", "raw_rows", "read", "read_split", "splits"]

GROUP = "liit.formats"
Piece = tuple[int, int] | None
"""What of a file is read together, as its container counts: row groups, bytes; None for all."""


class Container(NamedTuple):
    suffixes: tuple[str, ...]
    rows: Callable[..., Iterator[object]]
    """Of a file, or of a piece of it."""
    pieces: Callable[[Place], list[Piece]] = lambda file: [None]


CONTAINERS = {
    "JSON": Container(json_text.SUFFIXES, json_text.rows, json_text.pieces),
    "Parquet": Container(parquet.SUFFIXES, parquet.rows, parquet.pieces),
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
    head: Iterator[object] | None = None
    """Where it goes on in the middle of a file, the rows from the file's beginning, which say what its columns are."""


class Split(NamedTuple):
    """Rows of a release that are read together, by whichever process: a file, or a piece of a large one."""

    file: Place
    piece: Piece


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
        columns, only = self.release.columns, FORMATS.get(self.release.format, Format()).shape
        rows: Iterator[object] = islice(
            mapped(self.release, source.rows, self.folder, self.counts.left_out), self._each
        )
        if source.head is None:
            shape, there, rows = shapes.recognised(source.file, rows, columns, only)
        else:
            shape, there, _ = shapes.recognised(source.file, source.head, columns, only)
        if shape is None:
            return  # no rows
        known = {*checks.KEYS, *shape.needs, *shape.takes, *(name for name, to in columns.items() if to != "ignore")}
        as_said = ", ".join(f"{name}: {to}" for name, to in columns.items()) or shapes.columns_of(shape, there)
        if source.head is None:
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
    found, folder = _opened(release)
    sources = (Source(file, *_rows(release, file)) for file in found.files)
    reader = Reader(release, sources, folder, first, None if first is None else -(-first // len(found.files)))
    reader.counts.left_out += found.left_out
    return reader


def splits(release: Release) -> tuple[str, list[str], list[Split]]:
    """The image folder of a release, what is left out of it, and its splits, which files alone decide, in the order of its rows.

    The rows of a preset are of whole files: what a row becomes may depend on those before it. Raises ValueError as `read` does.
    """
    found, folder = _opened(release)
    whole = isinstance(release, EvaluationSet) and release.preset is not None
    each = [Split(file, piece) for file in found.files for piece in ([None] if whole else _pieces(release, file))]
    return folder, found.left_out, each


def read_split(release: Release, folder: str, split: Split) -> Reader:
    """The rows of a split, streamed. folder: of images. Raises ValueError as `read` does."""
    name, rows = _rows(release, split.file, split.piece)
    goes_on = split.piece is not None and split.piece[0] > 0
    head = _rows(release, split.file)[1] if goes_on else None
    return Reader(release, [Source(split.file, name, rows, head)], folder)


def _opened(release: Release) -> tuple[files.Found, str]:
    """The files of a release, and the folder of its images."""
    found = _found(release)
    folder = images_of(release, found)
    if not isinstance(folder, Remote) and not folder.is_dir():
        raise ValueError(f"release {release.name}: image folder {folder} does not exist")
    return found, str(folder)


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


def _rows(release: Release, file: Place, piece: Piece = None) -> tuple[str, Iterator[object]]:
    """What a file is, in a word, and its rows, or those of a piece."""
    form = FORMATS.get(release.format)
    if form is None:
        return release.format, _guarded(release.format, _own(release.format), file)
    name = _of(form, file)
    return name, CONTAINERS[name].rows(file) if piece is None else CONTAINERS[name].rows(file, piece)


def _pieces(release: Release, file: Place) -> list[Piece]:
    form = FORMATS.get(release.format)
    return [None] if form is None else CONTAINERS[_of(form, file)].pieces(file)


def _of(form: Format, file: Place) -> str:
    """The container of a file."""
    return _container(file) if len(form.containers) > 1 else form.containers[0]


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
