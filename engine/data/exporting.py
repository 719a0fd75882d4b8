"""The samples of a selection as other trainers read them; what their files cannot hold is refused, or left out and said.

The releases are read twice, in the order of arrival and a chunk at a time: first for what a format cannot hold, so that an
export that is refused writes nothing, then to write.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from liit.engine.data.readers.sample import PLACEHOLDER, Tally
from liit.engine.data.withdrawing import Withdrawn
from liit.engine.data.writers import limits
from liit.engine.data.writers.formats import FORMATS, Samples, Target
from liit.engine.data.writers.images import Images
from liit.engine.fleet.parts import read_chunks
from liit.engine.run.files import read_table
from liit.engine.run.progress import log
from liit.engine.run.storage.places import Place, absolute, make_folder
from liit.engine.settings.remote import place as checked

Row = dict[str, Any]


@dataclass
class Found:
    """What the conversations of a selection have: by kind how many samples, and the first two."""

    held_not: dict[str, Tally] = field(default_factory=dict)
    changed: dict[str, Tally] = field(default_factory=dict)
    out: set[str] = field(default_factory=set)
    """Ids of samples that the format cannot hold."""
    pictured: bool = False
    """A sample that the format holds has an image."""


@dataclass(frozen=True)
class Exported:
    path: Place
    samples: int
    images: int
    files: int
    """Image files written."""
    left_out: int
    kinds: Mapping[str, Tally]
    """What those left out have; a sample may have several."""
    changed: Mapping[str, Tally]
    """What is written word for word, and changed by the trainer."""


def export(
    run: Path,
    selection: Path,
    form: str,
    name: str,
    output: str | Path,
    copy_images: bool = False,
    leave_out: bool = False,
) -> Exported:
    """Write the samples that a selection names below `output`, as `name-form` with the suffix of the format.

    Images are referenced by absolute path or URL. With `copy_images` they are copied below `output/images`, and LLaVA and
    ShareGPT reference them relative to `output`, which can then be moved.

    Args:
        run: a run folder, whose releases hold the samples.
        selection: Parquet with a column `id`.
        form: one of `FORMATS`.
        output: a folder, or one on object storage (`s3://bucket/folder`).
        leave_out: write the others where the format cannot hold some samples, instead of refusing.

    Raises:
        ValueError: an unknown format, no run folder, no selection, a selected sample that no release has, an image that is
            gone, samples that the format cannot hold.
    """
    if form not in FORMATS:
        raise ValueError(f"unknown format {form!r}; choose one of: {', '.join(FORMATS)}")
    releases = sorted((run / "releases").glob("*.parquet"))
    if not releases:
        raise ValueError(f"{run} is no run folder: it has no releases/*.parquet")
    if not selection.is_file():
        raise ValueError(f"selection {selection} does not exist; pass a finished timestep, or a file by --selection")
    target = absolute(checked(str(output)))
    ids = _allowed(run, releases, read_table(selection, ["id"])["id"].unique())
    found = _look(releases, ids, form)
    if found.out and (not leave_out or len(found.out) == len(ids)):
        what = f"{form} cannot hold {len(found.out)} of {len(ids)} samples: {'; '.join(told(found.held_not))}"
        others = ", or pass --leave-out to write the others" if len(found.out) < len(ids) else ""
        raise ValueError(f"{what}. Choose another format{others}")
    images = Images(target / "images", copy_images)
    make_folder(target)
    kept = pa.array(sorted(set(ids.to_pylist()) - found.out), pa.string())
    to = Target(target, f"{name}-{form}", copy_images, found.pictured)
    path = FORMATS[form](to, _samples(releases, kept, images))
    count = len(images.written)
    return Exported(path, len(kept), images.count, count, len(found.out), found.held_not, found.changed)


def _allowed(run: Path, releases: list[Path], ids: pa.Array) -> pa.Array:
    """Without samples that are withdrawn by now."""
    config = (
        yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")) if (run / "config.yaml").is_file() else {}
    )
    gone = Withdrawn.told(config).among(releases, pa.chunked_array([ids]))
    if gone:
        log.warning("%d samples of the selection are withdrawn and left out, the first is %s", len(gone), min(gone))
    return ids.filter(pc.invert(pc.is_in(ids, pa.array(list(gone), pa.string()))))


def told(kinds: Mapping[str, Tally]) -> list[str]:
    """`several images: 12, such as base/a, base/b`."""
    return [f"{kind}: {tally.count}, such as {', '.join(tally.examples)}" for kind, tally in kinds.items()]


def _look(releases: list[Path], ids: pa.Array, form: str) -> Found:
    """Raises ValueError where a selected sample is in no release."""
    found, changes = Found(), limits.CHANGED.get(form, {})
    left = set(ids.to_pylist())
    for row in _conversations(releases, ids):
        left.discard(row["id"])
        turns = row["conversation"]
        held_not = limits.found(limits.HELD_NOT[form], turns)
        for kind in held_not:
            found.held_not.setdefault(kind, Tally()).add(row["id"])
        if held_not:
            found.out.add(row["id"])
            continue
        for kind in limits.found(changes, turns):
            found.changed.setdefault(kind, Tally()).add(row["id"])
        found.pictured |= any(PLACEHOLDER in turn["text"] for turn in turns)
    if left:
        raise ValueError(f"{len(left)} selected samples are in no release of the run, the first is {min(left)}")
    return found


def _conversations(releases: list[Path], ids: pa.Array) -> Iterator[Row]:
    """Without the images, which may be large."""
    for chunk in read_chunks(releases, ["id", "conversation"]):
        yield from chunk.filter(pc.is_in(chunk["id"], ids)).to_pylist()


def _samples(releases: list[Path], ids: pa.Array, images: Images) -> Samples:
    for chunk in read_chunks(releases):
        rows = chunk.filter(pc.is_in(chunk["id"], ids)).to_pylist()
        if rows:
            yield [(row, [images.place(image, row["id"]) for image in row["images"]]) for row in rows]
