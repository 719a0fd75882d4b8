"""A release enters the pool: read, checked with the run's own model and image decoder, measured in tokens.

in = kept + quarantined, and the counts are said. Whatever cannot be used is in `tNN/quarantine.parquet` with its reason.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from liit.engine.answers.metrics import accepted_answers, check_references
from liit.engine.data.copies import content_hash
from liit.engine.data.readers.checks import Bad, Sample
from liit.engine.data.readers.formats import read
from liit.engine.data.readers.images import open_image
from liit.engine.fleet import planned
from liit.engine.models.encoding import SampleError, encode
from liit.engine.models.loading import load_processor
from liit.engine.run.files import read_table, remove, write_table
from liit.engine.run.progress import log
from liit.engine.run.store import Clock
from liit.engine.run.tables import QUARANTINE, SAMPLE, key_of, sort_by_key
from liit.engine.settings.config import Config
from liit.engine.settings.sections import EvaluationSet, Model, Release
from liit.engine.settings.template_spec import TemplateSpec

CHECKED = pa.schema(
    [
        ("id", pa.string()),
        ("length", pa.int32()),
        ("content", pa.binary(16)),
        ("reason", pa.string()),
        ("notes", pa.list_(pa.string())),
    ]
)
SAMPLES_PER_TASK = 256


class TooManyBadSamples(RuntimeError):
    """A release has a larger share of bad samples than the configuration allows."""


class Checker:
    """Opens every image and encodes every conversation once, as scoring and training will; reasons instead of errors."""

    def __init__(self, path: str, revision: str | None, max_length: int, template: TemplateSpec | None = None) -> None:
        self.processor = load_processor(path, revision, template)
        self.max_length = max_length

    def __call__(self, samples: list[dict[str, Any]]) -> pa.Table:
        return pa.Table.from_pylist([self._check(sample) for sample in samples], schema=CHECKED)

    def _check(self, sample: dict[str, Any]) -> dict[str, Any]:
        try:
            images = [open_image(image) for image in sample["images"]]
            encoded = encode(self.processor, sample["conversation"], images, self.max_length)
        except (SampleError, ValueError, OSError) as error:
            return {"id": sample["id"], "reason": str(error) or type(error).__name__}
        content = content_hash(sample["conversation"], images)
        return {"id": sample["id"], "length": len(encoded.input_ids), "content": content, "notes": list(encoded.notes)}


def ingest(
    sources: Sequence[Release], arrival: int, config: Config, partial: Path, quarantined: Path, label: str, clock: Clock
) -> None:
    """Write the usable samples of the sources as SAMPLE rows to `partial`, the others to `quarantined`.

    Raises TooManyBadSamples when the bad share of a source is above `max_bad_share`, and ValueError for a file that is not
    what its source says it is, or that holds nothing.
    """
    good: list[dict[str, Any]] = []
    bad: list[Bad] = []
    for source in sources:
        _read(source, arrival, good, bad)
    samples = pa.Table.from_pylist(good, schema=SAMPLE)
    folder = partial.with_name(partial.name + ".checks")
    table, failed = _check(samples, config, folder, label, clock)
    bad += failed
    quarantine(quarantined, {"read", "check"}, bad)
    for source in sources:
        kept = int(pc.sum(pc.equal(table["dataset"], source.name)).as_py() or 0)
        _settle(source, kept, [one for one in bad if one.dataset == source.name], config.max_bad_share, quarantined)
    write_table(partial, sort_by_key(table))


def _read(release: Release, arrival: int, good: list[dict[str, Any]], bad: list[Bad]) -> None:
    reader = read(release)
    for row in reader:
        if isinstance(row, Bad):
            bad.append(row)
        elif isinstance(release, EvaluationSet) and (fault := _unscorable(release, row)):
            bad.append(Bad(row["id"], release.name, f"unusable reference: {fault}"))
        else:
            good.append({**row, "key": key_of(row["id"]), "arrival": arrival, "length": None, "content": None})
    if reader.prepended:
        log.info(
            "%s: %d samples had images but no <image>; put before their first turn", release.name, reader.prepended
        )


def _unscorable(source: EvaluationSet, sample: Sample) -> str | None:
    """Why the metric can compare nothing with this sample's references; found here, before any model has answered."""
    try:
        check_references(source.metric, accepted_answers(sample))
    except ValueError as error:
        return str(error)
    return None


def _check(samples: pa.Table, config: Config, folder: Path, label: str, clock: Clock) -> tuple[pa.Table, list[Bad]]:
    """The samples that the model can take, with their lengths, and the others with their reasons."""
    if not len(samples):
        return samples, []
    model: Model = config.model
    job = planned.Job(
        label=f"check {label}",
        worker=Checker,
        arguments={**model.model_dump(include={"path", "revision", "max_length"}), "template": model.template()},
        keys_N=samples["key"].to_numpy(),
        batch_N=(np.arange(len(samples)) // SAMPLES_PER_TASK).astype(np.int32),
        chunks=lambda: [samples],
        batches_per_file=1,
        pooled=False,
    )
    checked = pa.concat_tables([read_table(part) for part in planned.run(folder, job, config.resources, clock.tick)])
    checked = checked.take(pc.index_in(samples["id"].combine_chunks(), checked["id"].combine_chunks()))
    remove(folder)
    for note, count in Counter(pc.list_flatten(checked["notes"]).to_pylist()).most_common():
        log.info("%s: %d times: %s", label, count, note)
    fine = pc.is_null(checked["reason"])
    measured = samples
    for name in ("length", "content"):
        measured = measured.set_column(SAMPLE.get_field_index(name), SAMPLE.field(name), checked[name])
    failed = samples.select(["id", "dataset"]).append_column("reason", checked["reason"]).filter(pc.invert(fine))
    return measured.filter(fine), [Bad(row["id"], row["dataset"], row["reason"], "check") for row in failed.to_pylist()]


def _settle(source: Release, kept: int, bad: list[Bad], allowed: float, quarantined: Path) -> None:
    """Say what became of a source; stop the run where it holds nothing, or too much that is bad."""
    total = kept + len(bad)
    log.info("%s: %d samples in = %d kept + %d quarantined", source.name, total, kept, len(bad))
    kinds = Counter(one.reason.split(":")[0] for one in bad)
    for kind, count in kinds.most_common(10):
        log.info("%s: quarantined %d: %s", source.name, count, kind)
    if total == 0:
        raise ValueError(f"{source.name}: {source.path} holds no sample")
    if len(bad) > allowed * total:
        raise TooManyBadSamples(
            f"{source.name}: {len(bad)} of {total} samples are bad, more than max_bad_share={allowed:g} allows; "
            f"their reasons are in {quarantined}"
        )


def quarantine(path: Path, stages: set[str], bad: Iterable[Bad]) -> None:
    """Put these rows into a quarantine table in place of what earlier calls of the same stages said."""
    rows = [{"id": one.id, "dataset": one.dataset, "stage": one.stage, "reason": one.reason} for one in bad]
    kept = [row for row in read_table(path).to_pylist() if row["stage"] not in stages] if path.is_file() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, pa.Table.from_pylist(kept + rows, schema=QUARANTINE))
