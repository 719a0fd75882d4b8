"""A release enters the pool: read, checked with the run's own model and image decoder, measured in tokens.

in = kept + quarantined + merged with an equal row, and the counts are said. Whatever cannot be used is in
`tNN/quarantine.parquet` with its reason. Samples go from disk to disk; memory holds a few megabytes of them at a time.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.data import image_hashes, source_rows
from liit.engine.data.copies import content_hash
from liit.engine.data.dealing import dealt
from liit.engine.data.image_hashes import image_hash, write_images
from liit.engine.data.readers.images import open_image
from liit.engine.data.readers.sample import Bad, by_kind
from liit.engine.data.reading import Taken, TooManyBadSamples, say, take
from liit.engine.data.source_rows import write_source_rows
from liit.engine.data.spool import Spool, Spooled, by_key, in_key_order, spooled_samples
from liit.engine.fleet import planned
from liit.engine.fleet.parts import rows_of_a_part
from liit.engine.models.encoding import SampleError, encode
from liit.engine.models.loading import load_processor
from liit.engine.run.files import appearing, read_table, remove, write_table
from liit.engine.run.progress import log
from liit.engine.run.store import Clock
from liit.engine.run.tables import QUARANTINE, SAMPLE
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
BYTES_PER_BUCKET = 256 << 20
"""Of samples that the driver holds in memory while it hands them out or sorts them; more where that would be too many files."""
MOST_BUCKETS = 200


class Checker:
    """Opens every image and encodes every conversation once, as scoring and training will; reasons instead of errors."""

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
        except (SampleError, ValueError, OSError) as error:
            return {**known, "reason": str(error) or type(error).__name__}
        content = content_hash(sample["conversation"], images)
        told = {"length": len(encoded.input_ids), "content": content, "notes": list(encoded.notes)}
        return {**known, **told, "images": [image_hash(image) for image in sample["images"]]}


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
    """Write the usable samples of the sources as SAMPLE rows, sorted by key, to `partial`, the others to `quarantined`.

    beside: the run folder, where hashes of all images and of all rows are kept for what is withdrawn later. Returns how many rows
    there were.

    Raises TooManyBadSamples when the bad share of a source is above `max_bad_share`, before images are decoded or after, and
    ValueError for a file that is not what its source says it is, or that holds nothing.
    """
    work = partial.with_name(partial.name + ".read")
    remove(work)
    work.mkdir(parents=True)
    spool = Spool(work / "samples.parquet")
    taken = [take(source, arrival, spool) for source in sources]
    spooled = spool.settle()
    for one in taken:
        one.settle(spooled)
        say(one)
    _judge(taken, config.max_bad_share, quarantined)
    table = checked(spooled, config, partial.with_name(partial.name + ".checks"), label, clock.tick)
    failures = [
        Bad(row["id"], row["id"].partition("/")[0], row["reason"], "check")
        for row in table.filter(pc.is_valid(table["reason"])).select(["id", "reason"]).to_pylist()
    ]
    for one in taken:
        one.bad += [bad for bad in failures if bad.dataset == one.source.name]
    _judge(taken, config.max_bad_share, quarantined)
    _write(partial, spooled, table, work)
    if beside is not None:
        release = beside / "releases" / partial.name.removesuffix(".partial")
        fine = table.filter(pc.is_valid(table["images"]))
        hashes = zip(fine["id"].to_pylist(), fine["images"].to_pylist(), strict=True)
        write_images(image_hashes.beside(release), hashes)
        write_source_rows(source_rows.beside(release), spooled.rows(), (bad for one in taken for bad in one.bad))
    for one in taken:
        _say_counts(one)
    remove(work)
    return {"rows": sum(one.counts.rows for one in taken)}


def checked(spooled: Spooled, config: Config, folder: Path, label: str, tick: Callable[[], None]) -> pa.Table:
    """CHECKED rows of the samples of a spool, in its order: whether the model can take them, and their lengths."""
    keys_N = spooled.keys
    if not len(keys_N):
        return CHECKED.empty_table()
    model: Model = config.model
    job = planned.Job(
        label=f"check {label}",
        worker=Checker,
        arguments={**model.model_dump(include={"path", "revision", "max_length"}), "template": model.template()},
        tasks=spooled.tasks(),
        batches=spooled_samples,
        pooled=False,
    )
    table = pa.concat_tables([read_table(part) for part in planned.run(folder, job, config.resources, tick)])
    remove(folder)
    for note, count in Counter(pc.list_flatten(table["notes"]).to_pylist()).most_common():
        log.info("%s: %d times: %s", label, count, note)
    return table.take(pc.index_in(pa.array(keys_N), table["key"].combine_chunks()))


def _bucket_bytes(size_N: npt.NDArray[np.int64]) -> int:
    return max(BYTES_PER_BUCKET, int(size_N.sum()) // MOST_BUCKETS)


def _write(partial: Path, spooled: Spooled, table: pa.Table, work: Path) -> None:
    """The samples that the model can take, in the order of their keys, from the spool to `partial`."""
    fine = pc.is_null(table["reason"])
    keys_n, size_n = spooled.keys[fine.to_numpy()], spooled.sizes[fine.to_numpy()]
    good = table.filter(fine)
    bucket_n = by_key(keys_n, size_n, _bucket_bytes(size_n)) if len(keys_n) else np.empty(0, np.int64)
    with appearing(partial) as temporary, pq.ParquetWriter(temporary, SAMPLE) as writer:
        if len(keys_n):
            rows = dealt(work, spooled.chunks, keys_n, bucket_n)
            in_key_order(rows, good["length"], good["content"], writer, rows_of_a_part(len(keys_n)))


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
