"""What Hugging Face's libraries keep: folders and Arrow files of `datasets`, repositories of the hub.

A repository is copied into the hub's cache at a commit, and read there like any folder. `datasets` is wanted for its own folders
alone, whose Arrow files have indices and a version of their own.
"""

import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from liit.engine.data.readers.parquet import MOST_ROWS, plain
from liit.engine.run.storage.places import Place

SUFFIXES = (".arrow",)
BATCH_BYTES = 32 << 20
REPOSITORY = re.compile(r"hf://datasets/(?P<id>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+))?(?:/(?P<inside>.+))?")
"""A path as `fsspec` and `datasets` write it: hf://datasets/<owner>/<name>[@<revision>][/<file, folder or pattern>]."""


def is_saved(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def splits(folder: Path) -> list[Path]:
    """The folder of each split; the folder itself where it is one data set."""
    listed = folder / "dataset_dict.json"
    if not listed.is_file():
        return [folder]
    return [folder / name for name in json.loads(listed.read_text(encoding="utf-8"))["splits"]]


def rows(place: Place) -> Iterator[object]:
    """The samples of one saved data set or Arrow file, pictures as they are stored. Raises ValueError naming it."""
    data = _opened(place)
    start, size = 0, max(data.data.nbytes // max(data.num_rows, 1), 1)
    for table in data.with_format("arrow").iter(int(min(max(BATCH_BYTES // size, 1), MOST_ROWS))):
        for batch in table.to_batches():
            yield from plain(batch, start)
            start += batch.num_rows


def count(place: Place) -> int:
    return int(_opened(place).num_rows)


def _opened(place: Place) -> Any:
    if not isinstance(place, Path):
        raise ValueError(
            f"{place} is written by `datasets`, which maps it from a disk; write it as Parquet with to_parquet"
        )
    if importlib.util.find_spec("datasets") is None:
        raise ValueError(
            f"{place} is written by `datasets`: pip install 'liit[hub]' to read it, or write it as Parquet with to_parquet"
        )
    import datasets

    try:
        return datasets.load_from_disk(str(place)) if place.is_dir() else datasets.Dataset.from_file(str(place))
    except Exception as error:  # whatever its own decoding raises on a damaged or newer file
        raise ValueError(f"{place} cannot be read by datasets {datasets.__version__}: {error}") from error


def fetched(path: str) -> Path:
    """The folder or file of a repository, in the hub's cache at one commit. Raises ValueError where it is not to be had."""
    found = REPOSITORY.fullmatch(path)
    if found is None:
        raise ValueError(f"{path} must be hf://datasets/<owner>/<name>[@<revision>][/<file, folder or pattern>]")
    from huggingface_hub import snapshot_download

    inside = found["inside"]
    wanted = None if inside is None else [inside, f"{inside}/*"]
    try:
        folder = snapshot_download(found["id"], repo_type="dataset", revision=found["revision"], allow_patterns=wanted)
    except Exception as error:  # of the network, of access, of the cache
        raise ValueError(
            f"{path} is not to be had: {(str(error).strip() or type(error).__name__).splitlines()[0]}"
        ) from error
    return Path(folder) / (inside or "")
