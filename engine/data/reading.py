"""One source of a stream is read: samples to a spool, the others with their reasons, and what a person should know of it.

The same code for a run and for `liit check`, here or, for sources of some size, split by split in Ray's tasks.
"""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from liit.engine.answers.metrics import accepted_answers, check_references, metric_of, options_for, question_of
from liit.engine.data.readers import parquet
from liit.engine.data.readers.checks import Bad, content
from liit.engine.data.readers.counts import Counts
from liit.engine.data.readers.formats import Reader, Split, read, read_split, splits
from liit.engine.data.readers.sample import Sample, by_kind
from liit.engine.data.spool import Spool, Spooled
from liit.engine.fleet import planned
from liit.engine.run.files import appearing, read_table
from liit.engine.run.progress import log
from liit.engine.run.storage.places import Place, place, size_of
from liit.engine.settings.sections import Resources
from liit.engine.settings.streams import EvaluationSet, Release

HERE = 8 << 20
"""Bytes of a source that is read in this process: starting tasks takes longer."""
ROW = 1000
"""Bytes of a row of Parquet, about."""


class TooManyBadSamples(RuntimeError):
    """A release has a larger share of bad samples than the configuration allows."""


@dataclass
class Taken:
    """What was read of a source: rows `start` to `stop` of a spool, and the rows that are no samples."""

    source: Release
    counts: Counts
    start: int
    stop: int
    bad: list[Bad] = field(default_factory=list)
    merged: int = 0
    """Rows that equal an earlier one."""

    def settle(self, spooled: Spooled) -> None:
        """Take over what became of the ids."""
        told = spooled.told(self.start, self.stop)
        self.counts.repaired |= told
        self.merged = int((~spooled.settled.stays_N[self.start : self.stop]).sum())

    def judge(self, allowed: float, where: object) -> None:
        """Raises TooManyBadSamples where more than this share of the rows is bad, and ValueError where there are none."""
        if self.counts.rows == 0:
            raise ValueError(f"{self.source.name}: {self.source.path} holds no sample")
        if len(self.bad) > allowed * self.counts.rows:
            worst, tally = next(iter(by_kind(self.bad).items()))
            raise TooManyBadSamples(
                f"{self.source.name}: {len(self.bad)} of {self.counts.rows} samples are bad, more than max_bad_share={allowed:g} "
                f"allows, {tally.count} of them: {worst}; their reasons are in {where}"
            )


def take(source: Release, arrival: int, spool: Spool, first: int | None = None) -> Taken:
    """Read a source into a spool; first: so many rows of it. Raises ValueError as `formats.read` does."""
    reader, start = read(source, first), len(spool)
    bad = _fill(spool, reader, arrival)
    return Taken(source, reader.counts, start, len(spool), bad)


def take_all(
    sources: Sequence[Release], arrival: int, work: Path, resources: Resources, tick: Callable[[], None]
) -> tuple[list[Taken], Spooled]:
    """Read sources into spools in the folder `work`, where what an interrupted call has read already is kept.

    What is found is the same wherever it is read, and in whatever pieces. Raises ValueError as `formats.read` does.
    """
    taken: list[Taken] = []
    spools: list[Path] = []
    for number, source in enumerate(sources):
        folder, start = work / f"{number:02d}", taken[-1].stop if taken else 0
        folder.mkdir(parents=True, exist_ok=True)
        images, left_out, each = splits(source)
        if _is_small({split.file for split in each}):
            spool = Spool(folder / "samples.arrow")
            one = take(source, arrival, spool)
            spool.close()
            one.start, one.stop = start, start + one.stop
            files = [spool.path]
        else:
            one = Taken(source, Counts(left_out=left_out), start, start)
            files = _taken_by_tasks(one, images, each, arrival, folder, resources, tick)
        taken.append(one)
        spools += files
    return taken, Spooled(spools)


def _taken_by_tasks(
    taken: Taken,
    images: str,
    each: Sequence[Split],
    arrival: int,
    folder: Path,
    resources: Resources,
    tick: Callable[[], None],
) -> list[Path]:
    """Read the splits of a source, each into a spool; all that was found goes to `taken`."""
    files = [folder / f"samples-{number:06d}.arrow" for number in range(len(each))]
    tasks = [
        planned.Task(
            f"{number:06d}",
            1,
            {"file": str(split.file), "piece": json.dumps(split.piece), "spool": str(files[number])},
        )
        for number, split in enumerate(each)
    ]
    job = planned.Job(
        label=f"read {taken.source.name}",
        worker=SplitReader,
        arguments={"source": taken.source, "images": images, "arrival": arrival},
        tasks=tasks,
        batches=_as_told,
        pooled=False,
        unit="pieces",
    )
    for part in planned.run(folder, job, resources, tick):
        told = json.loads(read_table(part)["told"][0].as_py())
        if "error" in told:
            part.unlink()  # what could not be read may be there again when the same command goes on
            raise ValueError(told["error"])
        taken.counts.join(Counts.of(told["counts"]))
        taken.bad += [Bad(**one) for one in told["bad"]]
        taken.stop += told["rows"]
    return files


def _as_told(**what: Any) -> Iterator[dict[str, Any]]:
    yield what


class SplitReader:
    """Reads splits of a source, each into a spool."""

    def __init__(self, source: Release, images: str, arrival: int) -> None:
        self.source, self.images, self.arrival = source, images, arrival

    def whole(self, batches: Iterable[dict[str, Any]]) -> pa.Table:
        """A row for each split: what was found in it beside samples, as JSON."""
        return pa.table({"told": pa.array([json.dumps(self._read(**split)) for split in batches], pa.string())})

    def _read(self, file: str, piece: str, spool: str) -> dict[str, Any]:
        given = json.loads(piece)
        split = Split(place(file), None if given is None else (given[0], given[1]))
        with appearing(Path(spool)) as temporary:
            filled = Spool(temporary)
            try:
                reader = read_split(self.source, self.images, split)
                bad = _fill(filled, reader, self.arrival)
            except ValueError as error:
                return {"error": str(error)}
            finally:
                filled.close()
        return {"rows": len(filled), "counts": reader.counts.told(), "bad": [asdict(one) for one in bad]}


def _fill(spool: Spool, reader: Reader, arrival: int) -> list[Bad]:
    """Put the samples of a reader into a spool; the rows that are none."""
    bad, source = [], reader.release
    for row in reader:
        if isinstance(row, Bad):
            bad.append(row)
        elif isinstance(source, EvaluationSet) and (fault := unscorable(source, row)):
            bad.append(Bad(row["id"], source.name, f"unusable reference: {fault}"))
        else:
            spool.add(row, content(row, reader.folder), arrival)
    return bad


def _is_small(files: Collection[Place]) -> bool:
    """Whether they are read here. Parquet has equal values once, so its rows count too."""
    if sum(map(_bytes, files)) > HERE:
        return False
    return ROW * sum(parquet.count(file) for file in files if file.name.endswith(".parquet")) <= HERE


def _bytes(file: Place) -> int:
    if isinstance(file, Path) and file.is_dir():
        return sum(one.stat().st_size for one in file.rglob("*"))
    return size_of(file)


def say(taken: Taken) -> None:
    """What a person should know of a source, once."""
    for line in taken.counts.lines():
        log.info("%s: %s", taken.source.name, line)


def unscorable(source: EvaluationSet, sample: Sample) -> str | None:
    """Why its metric can compare nothing with this sample's references; found here, before any model has answered."""
    try:
        metric = metric_of(sample, source)
        check_references(metric, accepted_answers(sample), options_for(metric, source), question_of(sample))
    except ValueError as error:
        return str(error)
    return None
