"""Whether the models and data of a configuration are at hand on the machine where this runs, without loading weights or rows."""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

from liit.engine.data.readers.formats import files_of, images_of
from liit.engine.data.readers.formats import read as open_release
from liit.engine.preflight import check_files, check_model, models_of
from liit.engine.run.storage.places import Remote, absolute
from liit.engine.settings.config import Config
from liit.engine.settings.streams import FileStream, Release

IMAGES_TRIED = 3
"""Of each image folder: an empty folder where a disk should be mounted looks like one that is."""


def look_for_models(config: Config) -> tuple[list[str], dict[str, str]]:
    """What keeps models and encoders of tasks from being loaded, a line each; and what lies there, by the path of each."""
    from liit.engine.models.encoders import load_image_processor, load_tokenizer
    from liit.engine.models.weights import files_mark

    logging.getLogger("transformers").setLevel(logging.ERROR)
    image, text = config.tasks.image_encoder, config.tasks.text_encoder
    checks = [partial(check_model, config)]
    checks += [partial(load_image_processor, image)] if image is not None else []
    checks += [partial(load_tokenizer, text)] if text is not None else []
    models = [*models_of(config), *((path, None) for path in (image, text) if path is not None)]
    wrong = _all_wrong(checks) or _all_wrong([partial(_check_weights, *model) for model in models])
    adapter = config.model.adapter
    models += [(str(Path(adapter).expanduser().resolve()), None)] if adapter is not None else []
    return wrong, {path: files_mark(path, revision) for path, revision in models}


def missing_data(config: Config) -> list[str]:
    """A line for each release, evaluation set or target split that is not here; else what `check_files` finds."""
    return _all_wrong([partial(open_release, one) for one in data_sets(config)]) or _all_wrong(
        [partial(check_files, config)]
    )


def data_sets(config: Config) -> tuple[Release, ...]:
    """Releases, evaluation sets and target split that are the user's own files."""
    stream = config.stream
    return (*stream.releases, *stream.evaluations, *stream.targets) if isinstance(stream, FileStream) else ()


def paths_of_data(config: Config) -> dict[str, str]:
    """Absolute paths that every node has to see, links followed as in a run, and what each is; of data that is here."""
    labels: dict[str, str] = {}
    for one in data_sets(config):
        with suppress(ValueError):  # which `missing_data` says
            open_release(one)
            folder = absolute(str(images_of(one)))
            labels |= {str(absolute(str(file))): one.name for file in files_of(one)}
            if isinstance(folder, Remote) and one.images is None:
                continue  # the folder of files that are looked at themselves
            labels.setdefault(str(folder), f"images of {one.name}")
            if isinstance(folder, Remote):
                continue  # no disk is missing there
            with suppress(OSError), os.scandir(folder) as entries:  # that it cannot be read is seen with the others
                for entry in islice(entries, IMAGES_TRIED):
                    labels.setdefault(entry.path, f"in the images of {one.name}")
    return labels


def _check_weights(path: str, revision: str | None) -> None:
    from liit.engine.models.weights import missing_weights

    missing = missing_weights(path, revision)
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ValueError(f"model {path}: its weights are not here ({', '.join(missing[:3])}{more})")


def _all_wrong(checks: Sequence[Callable[[], object]]) -> list[str]:
    wrong = []
    for check in checks:
        try:
            check()
        except ValueError as error:
            wrong.append(str(error))
    return wrong
