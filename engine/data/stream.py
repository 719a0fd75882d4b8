"""Where the releases and evaluation sets of a run are: the user's files, or the digits written into the run folder."""

import json
from pathlib import Path

from liit.engine.data.digits.stream import write_stream
from liit.engine.data.readers.formats import files_of
from liit.engine.run.fingerprints import file_fingerprint
from liit.engine.run.progress import log
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

    data: Made = store.make("data", write, settings=settings)
    text = (data.path / "stream.json").read_text(encoding="utf-8")
    return FileStream.model_validate_json(text.replace("{here}", str(data.path)))


def mark(release: Release) -> dict[str, str]:
    """What a release is, for fingerprints: its annotations' content, wherever they lie, how it is read, and its image folder.

    Paths of images are kept by everything that is made, so they must be made anew where the images have moved.
    """
    images = {} if release.images is None else {"images": str(Path(release.images).resolve())}
    columns = {"columns": json.dumps(release.columns)} if release.columns else {}
    content = file_fingerprint(*files_of(release))
    preset = {"preset": release.preset} if isinstance(release, EvaluationSet) and release.preset else {}
    return {"name": release.name, "format": release.format, "content": content, **images, **columns, **preset}
