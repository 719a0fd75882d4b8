"""Where the releases and evaluation sets of a run are: the user's files, or the digits written into the run folder."""

import json
from pathlib import Path

from liit.engine.data.digits.stream import write_stream
from liit.engine.data.readers.formats import files_of, raw_rows
from liit.engine.run.progress import log
from liit.engine.run.storage.places import absolute, inside, marks
from liit.engine.run.store import Made, Store
from liit.engine.settings.config import Config
from liit.engine.settings.streams import DigitsStream, EvaluationSet, FileStream, Release


def open_stream(config: Config, store: Store) -> FileStream:
    """The stream as files. The digits are composed once per run folder, by their settings alone."""
    if isinstance(config.stream, FileStream):
        return config.stream
    settings: DigitsStream = config.stream

    def write(partial: Path, clock: object) -> None:
        log.info("digits: composing about %d samples from scikit-learn's handwritten digits", settings.size)
        text = write_stream(partial, settings).model_dump_json(indent=1)
        (partial / "stream.json").write_text(text.replace(str(partial), "{here}"), encoding="utf-8")

    data: Made = store.make("data", write, settings=settings.model_dump(exclude={"kind"}))
    text = (data.path / "stream.json").read_text(encoding="utf-8")
    return FileStream.model_validate_json(text.replace("{here}", str(data.path)))


def reading(release: Release, root: Path) -> dict[str, object]:
    """How a release is read, by setting: its samples depend on this and on the content of its files, wherever those lie.

    Paths of images are kept by everything that is made, so it must be made anew where the images have moved; those in the run
    folder `root` move with it.
    """
    told: dict[str, object] = {"name": release.name, "format": release.format}
    if release.images is not None:
        folder = absolute(release.images)
        told["images"] = str(inside(folder, root) if folder.is_relative_to(root) else folder)
    if release.columns:
        told["columns"] = json.dumps(release.columns)
    if isinstance(release, EvaluationSet) and release.preset:
        told["preset"] = release.preset
    return told


def contents_of(release: Release) -> dict[str, str]:
    """The content of each of its files, by path; of those on object storage the mark that they have there."""
    return marks(files_of(release))


def rows_of(release: Release) -> int:
    """How many rows its files hold, counted one by one."""
    return sum(1 for _ in raw_rows(release))
