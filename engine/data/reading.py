"""One source of a stream is read: samples to a spool, the others with their reasons, and what a person should know of it.

The same code for a run and for `liit check`.
"""

from dataclasses import dataclass, field

from liit.engine.answers.metrics import accepted_answers, check_references, metric_of, options_for, question_of
from liit.engine.data.readers.checks import Bad, content
from liit.engine.data.readers.counts import Counts
from liit.engine.data.readers.formats import read
from liit.engine.data.readers.sample import Sample, by_kind
from liit.engine.data.spool import Spool, Spooled
from liit.engine.run.progress import log
from liit.engine.settings.streams import EvaluationSet, Release


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
    reader = read(source, first)
    taken = Taken(source, reader.counts, len(spool), len(spool))
    for row in reader:
        if isinstance(row, Bad):
            taken.bad.append(row)
        elif isinstance(source, EvaluationSet) and (fault := unscorable(source, row)):
            taken.bad.append(Bad(row["id"], source.name, f"unusable reference: {fault}"))
        else:
            spool.add(row, content(row, reader.folder), arrival)
    taken.stop = len(spool)
    return taken


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
