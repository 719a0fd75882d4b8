"""A user's files become samples and quarantined rows; one file a format.

Nothing here decodes images or needs more than Pillow and pyarrow, so that actors can import `readers.images`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from liit.engine.data.readers import checks, llava, parquet
from liit.engine.data.readers.checks import Bad, Sample
from liit.engine.run.tables import key_of

if TYPE_CHECKING:
    from liit.engine.settings.sections import Release

__all__ = ["Bad", "Reader", "Sample", "read"]


class Format(NamedTuple):
    suffixes: tuple[str, ...]
    rows: Callable[[Path], Iterator[object]]


FORMATS = {
    "llava": Format(llava.SUFFIXES, llava.rows),
    "parquet": Format(parquet.SUFFIXES, parquet.rows),
}


class Reader:
    """Iterates over one release in file order: each row is yielded once, as a sample or as a bad row.

    `prepended` counts, for the iteration so far, the samples whose images had no placeholder.
    """

    def __init__(self, dataset: str, rows: Iterator[object], folder: str) -> None:
        self.dataset = dataset
        self.prepended = 0
        self._rows = rows
        self._folder = folder

    def __iter__(self) -> Iterator[Sample | Bad]:
        # Keys, not ids: they need less memory, and two ids that share a key cannot both be in a pool either.
        seen: set[int] = set()
        for row in self._rows:
            try:
                sample, prepended = checks.sample(row, self.dataset, self._folder)
                key = key_of(sample["id"])
                if key in seen:
                    raise ValueError(f"duplicate id: {sample['id']!r:.200}; the first in file order stays")
            except ValueError as error:
                yield Bad(checks.sample_id(row, self.dataset), self.dataset, str(error))
                continue
            seen.add(key)
            self.prepended += prepended
            yield sample


def read(release: "Release") -> Reader:
    """The rows of a release, streamed once.

    Of rows with the same id the first sound one stays. Raises ValueError, here or while iterating, that names a file or
    folder which is missing or cannot be read as the format it should have.
    """
    files, folder = files_of(release), images_of(release)
    if not folder.is_dir():
        raise ValueError(f"release {release.name}: image folder {folder} does not exist")
    rows = FORMATS[release.format].rows
    return Reader(release.name, (row for file in files for row in rows(file)), str(folder))


def images_of(release: "Release") -> Path:
    """The folder that image paths are relative to."""
    path = Path(release.path)
    return Path(release.images) if release.images is not None else path if path.is_dir() else path.parent


def files_of(release: "Release") -> list[Path]:
    """The annotation files of a release, sorted by name. Raises ValueError that names what is missing."""
    form = FORMATS.get(release.format)
    if form is None:
        raise ValueError(f"release {release.name}: unknown format {release.format!r}; known are {', '.join(FORMATS)}")
    path = Path(release.path)
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in form.suffixes and file.is_file())
    else:
        files = [path] if path.is_file() else []
    if not files:
        suffixes = " or ".join(form.suffixes)
        raise ValueError(f"release {release.name}: {path} is neither a file nor a folder that holds {suffixes} files")
    return files
