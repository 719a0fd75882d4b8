"""Which files a release has: a file, a pattern, a folder with its splits; what is left out is named, never passed over."""

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from liit.engine.data.readers import hugging_face
from liit.engine.run.storage.places import Place, Remote, below, inside
from liit.engine.run.storage.places import place as place_of

KEYWORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""What a split is called in names of files and folders, as `datasets` looks for it."""

_SHARD = re.compile(r"(?P<split>[A-Za-z][\w.]*)-\d{5}-of-\d{5}")
_ABOUT = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
"""Files of `datasets` and LLaMA-Factory that are about the data."""
_MOST_ENTRIES = 20_000
"""Of a subfolder that are looked at for a file that could be meant; images may be hundreds of thousands."""


@dataclass
class Found:
    """The files of a release, in the order in which they are read, and the folder that image paths are relative to."""

    files: list[Place]
    folder: Place
    left_out: list[str] = field(default_factory=list)
    """What is there and not read, in words."""


@dataclass(frozen=True)
class Wanted:
    """What is asked of a place: files of which kinds, which split, whether below it too."""

    suffixes: tuple[str, ...]
    """Empty: any."""
    split: str | None
    recursive: bool
    held_out: bool


def find(path: str, wanted: Wanted) -> Found:
    """The files at a path of the configuration. Raises ValueError that says what is not there, or what must be said."""
    place = hugging_face.fetched(path) if path.startswith("hf:") else place_of(path)
    if place.is_file():
        _no_split(place, wanted)
        return Found([place], place.parent)
    if not place.is_dir():
        return _matching(place, wanted)
    if isinstance(place, Path) and hugging_face.is_saved(place) and _fits(Path("saved.arrow"), wanted):
        sets = hugging_face.splits(place)
        marks: dict[Place, str | None] = {one: one.name if len(sets) > 1 else None for one in sets}
        return _of_split(marks, place, place, wanted)
    walk = below(place, wanted.recursive)
    named = [file for file in walk if not _hidden(file, place) and _fits(file, wanted) and file.is_file()]
    files = sorted(named, key=lambda file: inside(file, place).parts)
    others = [] if wanted.recursive else list(_subfolders(place, wanted))
    if not files:
        raise ValueError(_nothing(place, wanted, others))
    found = _of_split(_marks(files, place, wanted), place, place, wanted)
    if others:
        found.left_out.append(f"subfolders {', '.join(others)}; recursive: true reads them too")
    return found


def _matching(place: Place, wanted: Wanted) -> Found:
    """Files by a pattern, `**` for folders below."""
    text = str(place)
    if not glob.has_magic(text):
        raise ValueError(_nothing(place, wanted, []))
    base = place
    while glob.has_magic(str(base)) and base != base.parent:
        base = base.parent
    files: list[Place]
    if isinstance(place, Remote):
        named = [file for file in place.matches() if not _hidden(file, base)]
        files = sorted(named, key=lambda file: inside(file, base).parts)
    else:
        files = sorted(Path(one) for one in glob.glob(text, recursive=True) if Path(one).is_file())
    if not files:
        raise ValueError(f"no file matches the pattern {place}")
    return _of_split(_marks(files, base, wanted), base, place, wanted, explicit=True)


def _of_split(
    marks: dict[Place, str | None], folder: Place, place: Place, wanted: Wanted, explicit: bool = False
) -> Found:
    """The files of the split that is asked for, else of the one that is meant. explicit: named one by one, so all are meant."""
    there = sorted({mark for mark in marks.values() if mark is not None})
    split = wanted.split if wanted.split in there else KEYWORDS.get(wanted.split or "", wanted.split)
    if split is None and (explicit or not there):
        return Found(list(marks), folder)
    if split is None:
        unmarked = [file.name for file, mark in marks.items() if mark is None]
        if unmarked:
            raise ValueError(
                f"{place} holds files of {', '.join(there)}, and others such as {unmarked[0]}; "
                "say split:, or name files by a pattern"
            )
        split = there[0] if len(there) == 1 else "train"
        if split not in there or (len(there) > 1 and wanted.held_out):
            raise ValueError(f"{place} holds {', '.join(there)}; say split: to read one of them")
    files = [file for file, mark in marks.items() if mark == split]
    if not files:
        known = f"it holds {', '.join(there)}" if there else "its names say nothing of splits"
        raise ValueError(f"{place} has no split {wanted.split!r}: {known}")
    others = [
        f"{sum(mark == other for mark in marks.values())} of {other or 'no split'}"
        for other in (*there, None)
        if other != split and other in marks.values()
    ]
    return Found(files, folder, [f"files of other splits: {', '.join(others)}"] if others else [])


def _marks(files: Sequence[Place], base: Place, wanted: Wanted) -> dict[Place, str | None]:
    """The split of each file. Where shards have the very name that is asked for, a shard is of the split that it names:

    MMMU has `dev` beside `validation`, RefCOCO `testA` beside `test`.
    """
    shards = {file: shard["split"] for file in files if (shard := _SHARD.match(file.name))}
    named = shards if wanted.split in shards.values() else {}
    return {file: named.get(file) or _split_of(inside(file, base)) for file in files}


def _split_of(relative: PurePath) -> str | None:
    """The split that a file's name says it is of, or else the nearest folder's."""
    shard = _SHARD.match(relative.name)
    if shard and _keyword(shard["split"]):
        return KEYWORDS.get(shard["split"], shard["split"])  # `train_sft` beside `train_gen` is a split of its own
    parts = (relative.name.split(".")[0], *reversed(relative.parts[:-1]))
    return next((split for part in parts if (split := _keyword(part))), None)


def _keyword(name: str) -> str | None:
    return next((KEYWORDS[word] for word in re.split(r"[^a-z]+", name.lower()) if word in KEYWORDS), None)


def _fits(file: Place | PurePath, wanted: Wanted) -> bool:
    named = file.name.lower().endswith(wanted.suffixes) if wanted.suffixes else True
    return named and file.name not in _ABOUT


def _hidden(file: Place, place: Place) -> bool:
    return any(part.startswith(".") for part in inside(file, place).parts)


def _subfolders(place: Place, wanted: Wanted) -> Iterator[str]:
    """Names of the subfolders that hold files of a kind that is read; of all where looking into them takes long."""
    if isinstance(place, Remote):
        yield from sorted(one.name for one in place.iterdir() if one.is_dir() and not one.name.startswith("."))
        return
    for folder in sorted(one for one in place.iterdir() if one.is_dir() and not one.name.startswith(".")):
        seen = 0
        for _, folders, names in os.walk(folder):
            folders[:] = [one for one in folders if not one.startswith(".")]
            seen += len(names)
            if any(_fits(Path(name), wanted) for name in names):
                yield folder.name
                break
            if seen > _MOST_ENTRIES:
                break


def _no_split(place: Place, wanted: Wanted) -> None:
    if wanted.split is not None:
        raise ValueError(f"split: {wanted.split} is of a folder, and {place} is one file")


def _nothing(place: Place, wanted: Wanted, folders: Sequence[str]) -> str:
    if folders:
        do = "may" if isinstance(place, Remote) else "do"
        return (
            f"{place} holds no such file itself; its subfolders {', '.join(folders)} {do}: recursive: true reads them"
        )
    kinds = " or ".join(wanted.suffixes) or "any"
    looks = re.fullmatch(r"[\w.-]+/[\w.-]+", str(place)) and not place.exists()
    hub = f"; a repository of the hub is hf://datasets/{place}" if looks else ""
    return f"{place} is neither a file nor a folder that holds {kinds} files{hub}"
