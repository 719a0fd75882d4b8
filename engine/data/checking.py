"""What a run would make of its data, before anything is computed: every source read and encoded by the run's own code.

No weights are loaded. Of a source are said its samples, what was refused, ignored and repaired, its copies, and one sample as the
model sees it. N samples.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from liit.engine.data.copies import words
from liit.engine.data.digits.stream import write_stream
from liit.engine.data.ingest import Checker, checked
from liit.engine.data.readers.images import open_image
from liit.engine.data.readers.sample import Bad, Tally, by_kind
from liit.engine.data.reading import Taken, TooManyBadSamples, take
from liit.engine.data.spool import Spool, Spooled
from liit.engine.models.encoding import encode
from liit.engine.models.processors import tokenizer_of
from liit.engine.run.files import read_table
from liit.engine.run.tables import slices
from liit.engine.settings.config import Config
from liit.engine.settings.streams import DigitsStream, FileStream, Release
from liit.selectors.duplicates import contamination, duplicates

HERE = 2000
"""So many samples are checked in this process; more are dealt out to Ray's tasks, as a run does."""
OPEN, CLOSE = "⟦", "⟧"
"""Around what is learned."""

Say = Callable[[str], None]


@dataclass
class Seen:
    """Contents of the samples so far, for copies: of the evaluation sets, and of the releases in their order."""

    examined: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty((0, 2), np.uint64))
    taught: npt.NDArray[np.uint64] = field(default_factory=lambda: np.empty((0, 2), np.uint64))

    def copies(self, contents: npt.NDArray[np.uint64], keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Which of these are in an earlier release, or twice here; they count as earlier ones from now on."""
        both = np.concatenate([self.taught, contents])
        arrival = np.r_[np.zeros(len(self.taught), np.int32), np.ones(len(contents), np.int32)]
        found = duplicates(both, arrival, np.r_[np.zeros(len(self.taught), np.uint64), keys]) >= 0
        self.taught = both[~found]
        return found[len(both) - len(contents) :]

    def leaked(self, contents: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Which of these an evaluation set holds."""
        return contamination(contents, self.examined) >= 0


def check(config: Config, first: int | None, say: Say) -> bool:
    """Say of every source what a run would make of it; whether a run would go on.

    first: look at so many rows of each source. Raises ValueError for a model whose processor cannot be loaded.
    """
    model, seen, sound = config.model, Seen(), True
    checker = Checker(model.path, model.revision, model.max_length, model.template())
    with TemporaryDirectory() as folder:
        for label, one, arrival in _sources(config, Path(folder)):
            try:
                sound &= _source(label, one, arrival, config, checker, first, seen, Path(folder), say)
            except ValueError as error:
                say(f"{label} {one.name}: a run would stop here: {error}")
                sound = False
    return sound


def _sources(config: Config, folder: Path) -> Iterator[tuple[str, Release, int]]:
    """Evaluation sets first: samples of the releases may be copies of theirs."""
    stream: FileStream | DigitsStream = config.stream
    if isinstance(stream, DigitsStream):
        stream = write_stream(folder / "digits", stream)
    yield from (("evaluation set", one, 0) for one in stream.evaluations)
    yield from (("target set", one, 0) for one in stream.targets)
    yield from (("release", one, t) for t, one in enumerate(stream.releases))


def _source(
    label: str,
    source: Release,
    arrival: int,
    config: Config,
    checker: Checker,
    first: int | None,
    seen: Seen,
    folder: Path,
    say: Say,
) -> bool:
    """Say of one source what there is to say; whether a run would go on after it. Raises ValueError where it cannot be read."""
    spool = Spool(folder / "samples.arrow")
    taken = take(source, arrival, spool, first)
    spooled = spool.settle()
    taken.settle(spooled)
    stops = _stops(taken, config)
    if stops is None:
        table = _checked(spooled, config, checker, source.name)
        failed = table.filter(pc.is_valid(table["reason"])).select(["id", "reason"]).to_pylist()
        taken.bad += [Bad(row["id"], source.name, row["reason"], "check") for row in failed]
        stops = _stops(taken, config)
        good = table.filter(pc.is_null(table["reason"]))
        say(f"{label} {source.name}: {_figures(taken, spooled, good)}")
        for line in (*taken.counts.lines(), *_findings(taken), *_copies(label, good, seen)):
            say(f"  {line}")
        for line in _example(spooled, set(good["key"].to_pylist()), checker):
            say(f"  {line}")
    else:
        say(
            f"{label} {source.name}: {taken.counts.rows:,} rows, {taken.stop - taken.start - taken.merged:,} of them samples"
        )
        for line in (*taken.counts.lines(), *_findings(taken)):
            say(f"  {line}")
    if stops is not None:
        say(f"  a run would stop here: {stops}")
    return stops is None


def _stops(taken: Taken, config: Config) -> str | None:
    """Why a run would stop at what was found of a source so far."""
    try:
        taken.judge(config.max_bad_share, "its quarantine table")
    except (TooManyBadSamples, ValueError) as error:
        return str(error)
    return None


def _checked(spooled: Spooled, config: Config, checker: Checker, name: str) -> pa.Table:
    if len(spooled.keys) > HERE:
        shared = Path(config.output).parent  # where every node of a cluster sees it
        shared.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".check-", dir=shared) as folder:
            found = checked(spooled, config, Path(folder) / "checks", name, lambda: None)
            return pa.concat_tables(map(read_table, found))
    parts = [checker(samples.to_pylist()) for chunk in spooled.chunks() for samples in slices(chunk, 32)]
    return pa.concat_tables(parts) if parts else checker([])


def _figures(taken: Taken, spooled: Spooled, good: pa.Table) -> str:
    """Rows, samples, pictures, turns and tokens in a line."""
    rows = f"{taken.counts.rows:,} rows, {len(good):,} samples"
    if not len(good):
        return rows
    keys = good["key"].combine_chunks()
    pictures, turns = [], []
    for chunk in spooled.chunks():
        chunk = chunk.filter(pc.is_in(chunk["key"], keys))
        pictures.append(pc.list_value_length(chunk["images"]).to_numpy())
        turns.append(pc.list_value_length(chunk["conversation"]).to_numpy())
    picture_N, turn_N = np.concatenate(pictures), np.concatenate(turns)
    length_N = good["length"].to_numpy()
    shown = int((picture_N > 0).sum())
    with_pictures = f"; {shown:,} with pictures" + (f", {picture_N[picture_N > 0].mean():.1f} each" if shown else "")
    middle, most = np.percentile(length_N, [50, 95], method="inverted_cdf")
    tokens = f"tokens {middle:,} in the median, {most:,} at 95 %, {length_N.max():,} at most"
    return f"{rows}{with_pictures}; {turn_N.mean():.1f} turns; {tokens}; {taken.counts.taken_for()}"


def _findings(taken: Taken) -> Iterator[str]:
    """What was refused, by kind with two ids each, and the columns that say next to nothing."""
    for kind, tally in by_kind(taken.bad).items():
        reason = next(bad.reason for bad in taken.bad if bad.reason.startswith(kind))
        yield f"refused {tally}: {reason[:200]}"
    for column, rows in taken.counts.sparse().items():
        yield f"nearly empty: {column}, {rows:,} of {taken.counts.rows:,} rows"


def _copies(label: str, good: pa.Table, seen: Seen) -> Iterator[str]:
    """Copies among the samples, and of evaluation samples among those of a release."""
    contents = words(good["content"])
    if label == "evaluation set":
        seen.examined = np.concatenate([seen.examined, contents])
    elif label == "release":
        for what, mark_N in (
            ("exact copies of other samples", seen.copies(contents, good["key"].to_numpy())),
            ("contamination, copies of evaluation samples", seen.leaked(contents)),
        ):
            if mark_N.any():
                tally = Tally()
                for name in good["id"].filter(pa.array(mark_N)).to_pylist():
                    tally.add(name)
                yield f"{what}: {tally}"


def _example(spooled: Spooled, good: set[int], checker: Checker) -> Iterator[str]:
    """The first sample with a picture, else the first, as the model sees it; what is learned stands in brackets."""
    chunk = next((chunk for chunk in spooled.chunks() if len(chunk)), None)
    samples = [] if chunk is None else [one for one in chunk.slice(0, 64).to_pylist() if one["key"] in good]
    if samples:
        sample = next((one for one in samples if one["images"]), samples[0])
        yield f"{sample['id']} as the model sees it, what is learned in {OPEN}{CLOSE}:"
        yield from (f"  {line}" for line in rendered(sample, checker).split("\n"))


def rendered(sample: dict[str, Any], checker: Checker) -> str:
    """The tokens of a sample as text, runs of one token written once, those that are learned in brackets."""
    images = [open_image(image) for image in sample["images"]]
    encoded = encode(checker.processor, sample["conversation"], images, checker.max_length)
    decode = tokenizer_of(checker.processor).decode
    pieces, ids, learned = [], encoded.input_ids.tolist(), encoded.response.tolist()
    for start, stop in _runs(learned):
        text = _folded(ids[start:stop], decode)
        pieces.append(f"{OPEN}{text}{CLOSE}" if learned[start] else text)
    return "".join(
        char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in "".join(pieces)
    )


def _runs(values: Sequence[object]) -> Iterator[tuple[int, int]]:
    """Where runs of equal values begin and end."""
    start = 0
    for at in range(1, len(values) + 1):
        if at == len(values) or values[at] != values[start]:
            yield start, at
            start = at


def _folded(ids: list[int], decode: Callable[[list[int]], str]) -> str:
    """Text of tokens; four or more of one token, as an image has, are written once with their number."""
    out, plain = "", []
    for start, stop in _runs(ids):
        if stop - start < 4:
            plain += ids[start:stop]
            continue
        out += decode(plain) + f"{decode(ids[start : start + 1])}×{stop - start}"
        plain = []
    return out + decode(plain)
