"""What was learned and forgotten: one value per data set from a model's greedy answers, one per skill."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.evaluation.answering import Answerer, answered
from liit.engine.evaluation.judged import judged
from liit.engine.evaluation.recalling import Recaller
from liit.engine.fleet.work import read_chunks
from liit.engine.run.files import appearing, read_json, read_table, remove, write_json, write_table
from liit.engine.run.store import Clock
from liit.engine.run.tables import ANSWER, as_samples
from liit.engine.settings.config import Config
from liit.engine.settings.streams import EvaluationSet


def evaluate(
    exam: Path,
    sets: Sequence[EvaluationSet],
    adapter: Path | None,
    config: Config,
    partial: Path,
    label: str,
    clock: Clock,
    queries: Path | None = None,
) -> None:
    """Write `evaluation.json` to `partial` and `answers.parquet` beside it.

    exam: SAMPLE rows of all evaluation sets. The accepted answers are `references`, else the last turn. queries: what
    each sample looks like (`task_features.py`), by which it finds its expert.
    """
    folder, limits = partial.with_name(f"{partial.name}.answers"), {one.name: one.max_new_tokens for one in sets}
    worker = Recaller if config.evaluation.losses else Answerer
    answers = answered(worker, exam, limits, adapter, config, folder, label, clock, queries)
    losses = None
    if config.evaluation.losses:
        losses = {name: given["loss"] for name, given in answers.items()}
        answers = {name: given["answer"] for name, given in answers.items()}
    said = [name for name in pq.read_schema(exam).names if name != "images"]
    summary, rows = summarise(as_samples(read_table(exam, said)).to_pylist(), answers, sets, losses)
    write_table(partial.with_name("answers.parquet"), pa.Table.from_pylist(rows, schema=ANSWER))
    remove(folder)
    write_json(partial, summary)


def again(evaluation: Path, partial: Path) -> None:
    """The same as at an earlier timestep, whose model is that of this one."""
    write_table(partial.with_name("answers.parquet"), read_table(evaluation.with_name("answers.parquet")))
    write_json(partial, read_json(evaluation))


def keep_first_of_each(table: Path, limits: Mapping[str, int | None]) -> None:
    """Leave in a file of SAMPLE rows the first so many of each data set in its order; all where the limit is None."""
    if all(limit is None for limit in limits.values()):
        return
    known = read_table(table, ["key", "dataset"])
    parts = [known.filter(pc.equal(known["dataset"], name))["key"].slice(0, limit) for name, limit in limits.items()]
    kept = pa.chunked_array([chunk for part in parts for chunk in part.chunks], pa.uint64())
    with appearing(table) as temporary, pq.ParquetWriter(temporary, pq.read_schema(table)) as writer:
        for chunk in read_chunks([table]):
            writer.write_table(chunk.filter(pc.is_in(chunk["key"], kept.combine_chunks())))


def summarise(
    samples: Sequence[Mapping[str, Any]],
    answers: Mapping[str, str],
    sets: Sequence[EvaluationSet],
    losses: Mapping[str, float] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Per skill and data set the value in percent and the parse failures; and one ANSWER row per sample.

    A skill's value is the mean over its data sets that have one, None where answers are only stored; so is its loss, where there
    are some.
    """
    summary: dict[str, Any] = {}
    rows = []
    for one in sets:
        mine = [sample for sample in samples if sample["dataset"] == one.name]
        if not mine:
            raise ValueError(f"evaluation set {one.name} has no usable sample; see its quarantine table")
        skill = summary.setdefault(one.skill, {"value": None, "datasets": {}})
        skill["datasets"][one.name], given = judged(one, mine, answers)
        for sample, row in zip(mine, given, strict=True):
            rows.append(row | {"loss": None if losses is None else losses[sample["id"]]})
        if losses is not None:
            skill["datasets"][one.name]["loss"] = float(np.mean([losses[sample["id"]] for sample in mine]))
    for skill in summary.values():
        for figure in ("value", "loss") if losses is not None else ("value",):
            known = [data[figure] for data in skill["datasets"].values() if data[figure] is not None]
            skill[figure] = float(np.mean(known)) if known else None
    return summary, rows
