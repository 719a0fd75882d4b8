"""What other settings had made is kept: `superseded/<when>/` is the run as it stood, a run folder itself.

Its files are links to those of the run, which are replaced by renaming and never written to: it takes no room until they are.
Then what is to be made anew leaves the run's own folder, by a list that a killed process leaves behind and the next one
completes.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from liit.engine.run.deciding import beginnings, finished, note_of
from liit.engine.run.files import read_json, remove, write_json
from liit.engine.run.storage.locks import NAME as LOCK

FOLDER = "superseded"
LIST = "superseding.json"
APPENDED = ("stages.jsonl",)
"""Files that are written to: copied, not linked."""


def supersede(
    root: Path, results: Mapping[str, Sequence[str]], retold: Mapping[str, Sequence[str]] | None = None
) -> bool:
    """Keep the run as it stands, with its configuration and results, then take some results out of it; whether it was kept.

    results: names, and why each is made anew. retold: of those that stay and are added to, but will say something otherwise.
    """
    why = {**results, **(retold or {})}
    if why:
        when = root / FOLDER / datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S-%f")
        share(root, when, {"superseded": {name: list(said) for name, said in why.items()}})
    if results:
        set_aside(root, list(results))
    return bool(why)


def set_aside(root: Path, results: Sequence[str]) -> None:
    """Take results with all that belongs to them out of a run whose files are elsewhere too."""
    write_json(root / LIST, list(results))
    complete(root)


def complete(root: Path) -> None:
    """Take out what is listed, where an earlier process did not come to its end."""
    if not (root / LIST).is_file():
        return
    for name in read_json(root / LIST):
        result = root / name
        beside = (finished(result) or {}).get("beside", [])
        for path in (*(result.parent / other for other in beside), result, *beginnings(result), note_of(result)):
            remove(path)
    remove(root / LIST)


def share(root: Path, target: Path, note: Mapping[str, object], wanted: Sequence[Path] | None = None) -> None:
    """A second folder of a run's finished files, by links, or copies where there can be none; it appears whole.

    wanted: the files; None for all. note: what `superseded.json` in it says.
    """
    partial = target.with_name(f".{target.name}.partial")
    remove(partial)
    for path in files_of(root) if wanted is None else wanted:
        place = partial / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        link(path, place)
    partial.mkdir(parents=True, exist_ok=True)
    (partial / "superseded.json").write_text(json.dumps(note, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.rename(target)


def files_of(root: Path) -> Iterator[Path]:
    """Every file of a run but what is in the making, or superseded."""
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(
            name for name in folders if not _making(name) and not (here == root and name in (FOLDER, "tensorboard"))
        )
        yield from (
            here / name for name in sorted(names) if not _making(name) and not name.startswith(LOCK) and name != LIST
        )


def _making(name: str) -> bool:
    return ".partial" in name or name.endswith((".work", ".tmp"))


def link(path: Path, place: Path) -> None:
    if path.name in APPENDED:
        shutil.copy2(path, place)
        return
    try:
        os.link(path, place)
    except OSError:  # another file system, or one without links
        shutil.copy2(path, place)
