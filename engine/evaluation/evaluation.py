"""What was learned and forgotten: one value per data set from a model's greedy answers, one per skill."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.evaluation.generations import Asked, exam_rows, given
from liit.engine.evaluation.judged import judged
from liit.engine.fleet.parts import read_chunks
from liit.engine.run.files import appearing, files_of, read_json, read_table, write_json, write_table
from liit.engine.run.tables import ANSWER, sort_by_key
from liit.engine.settings.streams import EvaluationSet

Judged = tuple[dict[str, Any], list[dict[str, Any]]]
"""What evaluation.json says of a data set, and its ANSWER rows."""


def evaluate(
    asked: Sequence[Asked],
    generations: Path,
    partial: Path,
    unscorable: Mapping[str, set[str]],
    kept: Sequence[str] = (),
) -> None:
    """Write `evaluation.json` to `partial` and `answers.parquet` beside it, from the answers that a model gave.

    The accepted answers are `references`, else the last turn. unscorable: ids of each set that its metric can compare nothing
    with. kept: names of the data sets that are judged already as they would be now, in the files that stand there.
    """
    table, before = read_table(generations), _before(partial.with_name("evaluation.json"), kept)
    samples: list[dict[str, Any]] = []
    answers: dict[str, str] = {}
    losses: dict[str, float] = {}
    for one in asked:
        if one.of.name not in before:
            rows = exam_rows(one.exam).to_pylist()
            samples += [row for row in rows if row["id"] not in unscorable.get(one.of.name, ())]
            said, lost = given(table, one)
            answers |= said
            losses |= lost
    summary, rows = summarise(samples, answers, [one.of for one in asked], losses or None, before)
    write_table(partial.with_name("answers.parquet"), pa.Table.from_pylist(rows, schema=ANSWER))
    write_json(partial, summary)


def _before(evaluation: Path, kept: Sequence[str]) -> dict[str, Judged]:
    answers = evaluation.with_name("answers.parquet")
    if not (kept and evaluation.is_file() and answers.is_file()):
        return {}
    found = {name: data for skill in read_json(evaluation).values() for name, data in skill["datasets"].items()}
    table = read_table(answers)
    return {
        name: (found[name], table.filter(pc.equal(table["dataset"], name)).to_pylist())
        for name in kept
        if name in found
    }


def keep_first_of_each(table: Path, limits: Mapping[str, int | None]) -> None:
    """Leave in a table of SAMPLE rows the first so many of each data set in the order of keys; all where the limit is None."""
    if all(limit is None for limit in limits.values()):
        return
    known = sort_by_key(read_table(table, ["key", "dataset"]))
    parts = [known.filter(pc.equal(known["dataset"], name))["key"].slice(0, limit) for name, limit in limits.items()]
    kept = pa.chunked_array([chunk for part in parts for chunk in part.chunks], pa.uint64())
    for file in files_of(table):
        with appearing(file) as temporary, pq.ParquetWriter(temporary, pq.read_schema(file)) as writer:
            for chunk in read_chunks([file]):
                writer.write_table(chunk.filter(pc.is_in(chunk["key"], kept.combine_chunks())))


def summarise(
    samples: Sequence[Mapping[str, Any]],
    answers: Mapping[str, str],
    sets: Sequence[EvaluationSet],
    losses: Mapping[str, float] | None = None,
    before: Mapping[str, Judged] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Per skill and data set the value in percent and the parse failures; and one ANSWER row per sample.

    A skill's value is the mean over its data sets that have one, None where answers are only stored; so is its loss, where there
    are some. before: sets that are judged already.
    """
    summary: dict[str, Any] = {}
    rows = []
    for one in sets:
        skill = summary.setdefault(one.skill, {"value": None, "datasets": {}})
        if before and one.name in before:
            skill["datasets"][one.name], given = before[one.name]
            rows += [row | {"skill": one.skill} for row in given]
            continue
        mine = [sample for sample in samples if sample["dataset"] == one.name]
        if not mine:
            raise ValueError(f"evaluation set {one.name} has no usable sample; see its quarantine table")
        skill["datasets"][one.name], given = judged(one, mine, answers)
        for sample, row in zip(mine, given, strict=True):
            rows.append(row | {"loss": None if losses is None else losses[sample["id"]]})
        if losses is not None:
            skill["datasets"][one.name]["loss"] = float(np.mean([losses[sample["id"]] for sample in mine]))
    for skill in summary.values():
        for figure in ("value", "loss") if all("loss" in data for data in skill["datasets"].values()) else ("value",):
            known = [data[figure] for data in skill["datasets"].values() if data[figure] is not None]
            skill[figure] = float(np.mean(known)) if known else None
    return summary, rows
