"""A release enters the pool: read, checked with the run's own model and image decoder, measured in tokens.

in = kept + quarantined + merged with an equal row, and the counts are said. Whatever cannot be used is in
`tNN/quarantine.parquet` with its reason. Samples are read, and then checked and written, by Ray's tasks, each a piece of them;
this process holds a few numbers of each.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from liit.engine.data import image_hashes, source_rows
from liit.engine.data.copies import content_hash
from liit.engine.data.image_bytes import Changed
from liit.engine.data.image_hashes import image_hash, write_images
from liit.engine.data.readers.images import open_image
from liit.engine.data.readers.sample import Bad, by_kind
from liit.engine.data.reading import Taken, TooManyBadSamples, say, take_all
from liit.engine.data.source_rows import write_source_rows
from liit.engine.data.spool import Spooled, put, spooled_samples
from liit.engine.fleet import planned
from liit.engine.fleet.parts import rows_of_a_part
from liit.engine.models.encoding import SampleError, encode
from liit.engine.models.loading import load_processor
from liit.engine.run.files import read_table, remove, write_table
from liit.engine.run.progress import log
from liit.engine.run.store import Clock
from liit.engine.run.tables import QUARANTINE, SAMPLE, sort_by_key
from liit.engine.settings.config import Config
from liit.engine.settings.sections import Model
from liit.engine.settings.specs import TemplateSpec
from liit.engine.settings.streams import Release

__all__ = ["Checker", "TooManyBadSamples", "checked", "ingest", "quarantine"]

CHECKED = pa.schema(
    [
        ("id", pa.string()),
        ("key", pa.uint64()),
        ("length", pa.int32()),
        ("content", pa.binary(16)),
        ("reason", pa.string()),
        ("notes", pa.list_(pa.string())),
        ("images", pa.list_(pa.binary(32))),
    ]
)


class Checker:
    """Opens every image and encodes every conversation once, as scoring and training will; reasons instead of errors.

    Raises Changed for a file whose pictures are others than when it was read: no sample is at fault.
    """

    def __init__(self, path: str, revision: str | None, max_length: int, template: TemplateSpec | None = None) -> None:
        self.processor = load_processor(path, revision, template)
        self.max_length = max_length

    def __call__(self, samples: list[dict[str, Any]]) -> pa.Table:
        return pa.Table.from_pylist([self._check(sample) for sample in samples], schema=CHECKED)

    def _check(self, sample: dict[str, Any]) -> dict[str, Any]:
        known = {"id": sample["id"], "key": sample["key"]}
        try:
            images = [open_image(image) for image in sample["images"]]
            encoded = encode(self.processor, sample["conversation"], images, self.max_length)
        except Changed:
            raise
        except (SampleError, ValueError, OSError) as error:
            return {**known, "reason": str(error) or type(error).__name__}
        content = content_hash(sample["conversation"], images)
        told = {"length": len(encoded.input_ids), "content": content, "notes": list(encoded.notes)}
        return {**known, **told, "images": [image_hash(image) for image in sample["images"]]}


class PartWriter:
    """Checks samples of a part of a release, and writes those that the model can take, in the order of their keys."""

    def __init__(self, **model: Any) -> None:
        self.checker = Checker(**model)

    def whole(self, batches: Iterable[tuple[str, pa.Table]]) -> pa.Table:
        """CHECKED rows of all of them; where their part has no name, nothing is written."""
        found, kept, to = [], [SAMPLE.empty_table()], ""
        for part, samples in batches:
            to, rows = part, self.checker(samples.to_pylist())
            kept.append(put(samples, length=rows["length"], content=rows["content"]).filter(pc.is_null(rows["reason"])))
            found.append(rows)
        if to:
            write_table(Path(to), sort_by_key(pa.concat_tables(kept)))
        return pa.concat_tables(found)


def ingest(
    sources: Sequence[Release],
    arrival: int,
    config: Config,
    partial: Path,
    quarantined: Path,
    label: str,
    clock: Clock,
    beside: Path | None = None,
) -> dict[str, int]:
    """Write the usable samples of the sources as SAMPLE rows into a folder `partial` of part files, the others to `quarantined`.

    Parts follow the order of the sources' rows; rows within one are sorted by key. What an interrupted call has done there is
    gone on with.

    beside: the run folder, where hashes of all images and of all rows are kept for what is withdrawn later. Returns how many rows
    there were.

    Raises TooManyBadSamples when the bad share of a source is above `max_bad_share`, before images are decoded or after, and
    ValueError for a file that is not what its source says it is, or that holds nothing.
    """
    if partial.is_file():
        remove(partial)  # of an earlier version
    work = partial.with_name(partial.name + ".read")
    taken, spooled = take_all(sources, arrival, work, config.resources, clock.tick)
    for one in taken:
        one.settle(spooled)
        say(one)
    _judge(taken, config.max_bad_share, quarantined)
    partial.mkdir(exist_ok=True)
    checks = partial.with_name(partial.name + ".checks")
    parts = checked(spooled, config, checks, label, clock.tick, partial)
    for bad in failures(parts):
        next(one for one in taken if one.source.name == bad.dataset).bad.append(bad)
    _judge(taken, config.max_bad_share, quarantined)
    if not parts:
        write_table(partial / "part-000000.parquet", SAMPLE.empty_table())
    if beside is not None:
        release = beside / "releases" / partial.name.removesuffix(".partial")
        write_images(image_hashes.beside(release), (_fine(read_table(part, ["id", "images"])) for part in parts))
        write_source_rows(source_rows.beside(release), spooled.rows(), (bad for one in taken for bad in one.bad))
    for one in taken:
        _say_counts(one)
    for done in (work, checks, *partial.glob(".*.tmp")):
        remove(done)
    return {"rows": sum(one.counts.rows for one in taken)}


def checked(
    spooled: Spooled,
    config: Config,
    folder: Path,
    label: str,
    tick: Callable[[], None],
    to: Path | None = None,
) -> list[Path]:
    """Tables of CHECKED rows of the samples of spools, in their order: whether the model can take them, and their lengths.

    to: the folder that the usable ones are written into.
    """
    model: Model = config.model
    job = planned.Job(
        label=f"check {label}",
        worker=PartWriter,
        arguments={**model.model_dump(include={"path", "revision", "max_length"}), "template": model.template()},
        tasks=spooled.tasks(rows_of_a_part(len(spooled.keys)), to),
        batches=spooled_samples,
        pooled=False,
    )
    parts = planned.run(folder, job, config.resources, tick) if job.tasks else []
    notes = Counter(
        note for part in parts for note in pc.list_flatten(read_table(part, ["notes"])["notes"]).to_pylist()
    )
    for note, count in notes.most_common():
        log.info("%s: %d times: %s", label, count, note)
    return parts


def failures(parts: Iterable[Path]) -> Iterator[Bad]:
    """The samples that the model cannot take."""
    for part in parts:
        rows = read_table(part, ["id", "reason"])
        for row in rows.filter(pc.is_valid(rows["reason"])).to_pylist():
            yield Bad(row["id"], row["id"].partition("/")[0], row["reason"], "check")


def _fine(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.is_valid(rows["images"]))


def _judge(taken: Sequence[Taken], allowed: float, quarantined: Path) -> None:
    """Write what is bad so far; stop the run where a source holds nothing, or too much that is bad."""
    quarantine(quarantined, {"read", "check"}, [bad for one in taken for bad in one.bad])
    for one in taken:
        try:
            one.judge(allowed, quarantined)
        except TooManyBadSamples:
            _say_counts(one)
            raise


def _say_counts(taken: Taken) -> None:
    """in = kept + quarantined + merged."""
    name, rows, bad, merged = taken.source.name, taken.counts.rows, len(taken.bad), taken.merged
    equal = f" + {merged} equal to another" if merged else ""
    sums = f"{rows} samples in = {rows - bad - merged} kept + {bad} quarantined{equal}"
    log.info("%s: %s (%s)", name, sums, taken.counts.taken_for())
    for kind, tally in list(by_kind(taken.bad).items())[:10]:
        log.info("%s: quarantined %s: %s", name, tally, kind)


def quarantine(path: Path, stages: set[str], bad: Iterable[Bad]) -> None:
    """Put these rows into a quarantine table in place of what earlier calls of the same stages said."""
    rows = [{"id": one.id, "dataset": one.dataset, "stage": one.stage, "reason": one.reason} for one in bad]
    kept = [row for row in read_table(path).to_pylist() if row["stage"] not in stages] if path.is_file() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, pa.Table.from_pylist(kept + rows, schema=QUARANTINE))
