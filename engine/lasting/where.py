"""One sample's whole life, read from a run folder alone: no Ray, no torch, and nothing is locked or written.

Where it came from, and of each timestep: whether it was in the pool or why not, its scores and cluster, whether it was chosen
and by what, and which adapters were trained on it; of an evaluation sample what each timestep's model answered.
"""

import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute as pc

from liit.engine.lasting.finding import Image, Kind, find, read_rows
from liit.engine.lasting.standing import Score, Standing, only, standing
from liit.engine.run.deciding import finished
from liit.engine.run.files import read_table
from liit.engine.run.reading import Run, open_run
from liit.engine.run.superseding import FOLDER
from liit.engine.run.tables import key_of

CHANCE, NO_SCORE = "chance", "no score"
"""What chose a sample that no score chose: beside others that scores chose, and where the strategy chooses by none."""

QUARANTINED = "quarantined"


@dataclass(frozen=True)
class Left:
    """Why a sample left a run's pool, or never was in it.

    reason: QUARANTINED, or that of a REMOVED row (duplicate, contamination, pruned, withdrawn). like: the sample that stays in
    its place, or that models are examined on. note: of a quarantine, its stage and reason.
    """

    timestep: int
    reason: str
    like: str | None = None
    note: str = ""

    def __str__(self) -> str:
        like = f" {self.like}" if self.like else " another"
        words = {
            "duplicate": f"a copy of{like}",
            "contamination": f"a copy of evaluation sample{like}",
            "pruned": f"pruned: like{like}" if self.like else "pruned",
            QUARANTINED: f"quarantined, {self.note}",
        }
        return words.get(self.reason, self.reason)


@dataclass(frozen=True)
class Answer:
    """What a model answered to an evaluation sample; None: not known. value: in percent. loss: of the reference, in nats a
    token."""

    answer: str | None
    value: float | None = None
    loss: float | None = None


@dataclass(frozen=True)
class Step:
    """A sample at a timestep that has begun.

    pool: whether it was in the pool. left: why not, or why it went on no further; None where it stays, and before it arrived.
    chosen: None where nothing is chosen at this timestep, or not yet; scorer: the score that chose it, CHANCE or NO_SCORE.
    adapter: whether there is one; saw: the timesteps whose training on the sample it goes back to, its own or those of adapters
    that it goes on from.
    """

    timestep: int
    pool: bool = False
    left: Left | None = None
    standing: Standing = field(default_factory=Standing)
    chosen: bool | None = None
    scorer: str | None = None
    adapter: bool = False
    saw: tuple[int, ...] = ()
    answer: Answer | None = None


@dataclass(frozen=True)
class Asked:
    """An evaluation set that has the sample, and the timesteps whose pools are kept free of it: since, and before until."""

    name: str
    since: int
    until: int | None


@dataclass(frozen=True)
class Life:
    """A sample of a run, from its arrival on.

    kind: of a release, of an evaluation set or of the target split. arrival: the timestep, of a release alone. table, row: where
    it lies in the run folder; None where it was quarantined before it came into a table. length: tokens of the whole sample,
    image tokens included. content: hash of its pixels and words, in hex. asked: the evaluation or target sets that have it.
    superseded: by folder name, the timesteps at which selections that no longer stand have it.
    """

    id: str
    kind: Kind
    dataset: str
    arrival: int | None
    table: Path | None
    row: int | None
    task: str | None
    length: int | None
    content: str | None
    images: tuple[Image, ...]
    quarantined: Left | None
    steps: tuple[Step, ...]
    asked: tuple[Asked, ...]
    superseded: Mapping[str, tuple[int, ...]]

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each timestep; what does not apply is missing.

        pool, left, n_tokens, n_response_tokens, each score with its percentiles (`nll`, `nll_in_cluster`, `nll_in_pool`),
        cluster, distance, chosen, scorer, adapter, saw. Of an evaluation sample: answer, value, loss.
        """
        rows = pd.Index([step.timestep for step in self.steps], name="timestep")
        scores = list(dict.fromkeys(name for step in self.steps for name in step.standing.scores))
        cells = [_answered(step) if self.kind == "evaluation" else _cells(step, scores) for step in self.steps]
        frame = pd.DataFrame(cells, index=rows)
        whole = {"cluster": "Int32", "n_tokens": "Int32", "n_response_tokens": "Int32", "chosen": "boolean"}
        return frame.astype({name: kind for name, kind in whole.items() if name in frame})


def life(run: str | Path, sample: str) -> Life:
    """The life of a sample in a run, finished or not.

    sample: its id; without the data set's name where no other data set has such an id. Of the run's tables only what is asked
    for is read: no vectors, and no pictures, but for the row group of a sample whose own are bytes in the table. Raises RunError,
    one line, for a folder that is no run, and for an id that it does not have, with the closest ones.
    """
    here = open_run(run)
    name, found = find(here, sample)
    first = next((one for one in found if one.row is not None), found[0])
    source, row = first.source, first.row
    values: Mapping[str, Any] = row.values if row else {}
    of_release = source.kind == "release"
    steps = tuple(_steps(here, name, source.since) if of_release else _examined(here, name, source.kind))
    bad = [_bad(one.source.since, each) for one in found for each in one.bad]
    bad += [step.left for step in steps if step.left is not None and step.left.reason == QUARANTINED]
    before = {folder.name: _chosen_before(here, folder, name) for folder in sorted((here.root / FOLDER).glob("[!.]*"))}
    return Life(
        id=name,
        kind=source.kind,
        dataset=source.name,
        arrival=source.since if of_release else None,
        table=source.table.relative_to(here.root) if row else None,
        row=row.number if row else None,
        task=values.get("task"),
        length=values.get("length"),
        content=values["content"].hex() if values.get("content") else None,
        images=row.images if row else (),
        quarantined=bad[0] if bad else None,
        steps=steps,
        asked=() if of_release else tuple(Asked(one.source.name, one.source.since, one.source.until) for one in found),
        superseded={when: at for when, at in before.items() if at},
    )


def _steps(run: Run, sample: str, arrival: int) -> Iterator[Step]:
    """A sample of a release at every timestep that has begun."""
    key, gone = key_of(sample), None
    chosen = {t: only(run.step(t) / "selection.parquet", key) for t in run.timesteps}
    saw = trained_on(run, {t for t, row in chosen.items() if row is not None})
    for t in run.timesteps:
        pool = only(run.step(t) / "pool.parquet", key, ["key"]) is not None
        if gone is None and t >= arrival:
            gone = _leaving(run, t, sample)
        row = chosen[t]
        yield Step(
            t,
            pool,
            gone,
            standing(run, t, key, row) if pool else Standing(),
            row is not None if (run.step(t) / "selection.parquet").is_file() else None,
            _scorer(run, t, row) if row is not None else None,
            t in saw,
            saw.get(t, ()),
        )


def trained_on(run: Run, chosen: Collection[int]) -> dict[int, tuple[int, ...]]:
    """Of every timestep that has an adapter, those of `chosen` that it was trained at or whose adapters it goes on from.

    By the records of the adapters: a strategy that starts from the base model names no adapter before it.
    """
    found: dict[int, tuple[int, ...]] = {}
    for t in run.timesteps:
        record = finished(run.step(t) / "adapter")
        if record is not None:
            named = [re.fullmatch(r"t(\d+)/adapter", parent) for parent in record["parents"]]
            before = {at for match in named if match for at in found.get(int(match[1]), ())}
            found[t] = tuple(sorted(before | ({t} & set(chosen))))
    return found


def _leaving(run: Run, t: int, sample: str) -> Left | None:
    """Why a sample leaves the pool at a timestep, or is left out of it; None where it stays."""
    step = run.step(t)
    for row in read_rows(step / "quarantine.parquet", sample):
        return _bad(t, row)
    for name in ("removed", "copies"):  # `copies` are those of `removed` that are known from the start
        for row in read_rows(step / f"{name}.parquet", sample):
            return Left(t, row["reason"], row["kept_id"])
    return None


def _bad(t: int, row: Mapping[str, str]) -> Left:
    return Left(t, QUARANTINED, note=f"{row['stage']}: {row['reason']}")


def _scorer(run: Run, t: int, row: Mapping[str, Any]) -> str:
    if row["scorer"] is not None:
        return str(row["scorer"])
    scorers = read_table(run.step(t) / "selection.parquet", ["scorer"])["scorer"]
    return CHANCE if pc.count(scorers).as_py() else NO_SCORE


def _examined(run: Run, sample: str, kind: Kind) -> Iterator[Step]:
    """An evaluation sample at every timestep that has begun; nothing is asked of the target split."""
    for t in run.timesteps if kind == "evaluation" else ():
        rows = read_rows(run.step(t) / "answers.parquet", sample)
        answer = Answer(rows[0]["answer"], rows[0]["value"], rows[0].get("loss")) if rows else None
        yield Step(t, adapter=finished(run.step(t) / "adapter") is not None, answer=answer)


def _chosen_before(run: Run, folder: Path, sample: str) -> tuple[int, ...]:
    """Timesteps at which a superseded run chose a sample, where its selection is not the one that stands."""
    found = []
    for path in sorted(folder.glob("t*/selection.parquet")):
        stands = finished(run.root / path.relative_to(folder))
        same = stands is not None and stands["fingerprint"] == (finished(path) or {}).get("fingerprint")
        if not same and only(path, key_of(sample), ["key"]) is not None:
            found.append(int(path.parent.name[1:]))
    return tuple(found)


def _cells(step: Step, scores: Sequence[str]) -> dict[str, Any]:
    stands = step.standing
    cells: dict[str, Any] = {"pool": step.pool, "left": None if step.left is None else str(step.left)}
    cells |= {"n_tokens": stands.n_tokens, "n_response_tokens": stands.n_response_tokens}
    for name in scores:
        score = stands.scores.get(name, Score(math.nan))
        cells |= {name: score.value, f"{name}_in_cluster": score.in_cluster, f"{name}_in_pool": score.in_pool}
    cells |= {"cluster": stands.cluster, "distance": stands.distance, "chosen": step.chosen, "scorer": step.scorer}
    return cells | {"adapter": step.adapter, "saw": step.saw}


def _answered(step: Step) -> dict[str, Any]:
    said = step.answer
    return {"answer": None, "value": None, "loss": None} if said is None else vars(said)
