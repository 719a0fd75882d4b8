"""What a model answered, question by question, and kept: whatever is asked later, no question is asked twice of the same
model."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.evaluation.answering import Answerer
from liit.engine.evaluation.asking import answered
from liit.engine.evaluation.recalling import Recaller
from liit.engine.run.files import files_of, read_table, remove, write_table
from liit.engine.run.progress import log
from liit.engine.run.store import Clock
from liit.engine.run.tables import GENERATION, as_samples, sort_by_key
from liit.engine.settings.config import Config
from liit.engine.settings.streams import EvaluationSet

QUESTION = pa.schema(
    [
        ("id", pa.string()),
        ("key", pa.uint64()),
        ("length", pa.int32()),
        ("dataset", pa.string()),
        ("question", pa.binary(16)),
    ]
)
KNOWN = QUESTION.names[:-1]
"""Of a question, what a plan of batches takes."""


@dataclass(frozen=True)
class Asked:
    """An evaluation set with its questions, SAMPLE rows, and what they look like where there are experts (`looking.py`)."""

    of: EvaluationSet
    exam: Path
    queries: Path | None = None


def generate(
    asked: Sequence[Asked],
    adapter: Path | None,
    config: Config,
    before: Path | None,
    partial: Path,
    label: str,
    clock: Clock,
    to_serve: Callable[[Path], Mapping[str, str]] | None = None,
) -> None:
    """Write the GENERATION rows of a model: those that it has in `before`, and an answer to every question that has none.

    A question is the same by its pixels, its words and the length that its answer may have.

    to_serve: where `evaluation.server` answers: what the words in its command stand for, made in a folder that may be there from
    an earlier call.
    """
    known = GENERATION.empty_table() if before is None else read_table(before)
    questions = pa.concat_tables([QUESTION.empty_table(), *map(questions_of, asked)])
    new = questions.filter(pc.invert(pc.is_in(questions["question"], _there(known)["question"].combine_chunks())))
    if len(known) and len(new):
        log.info("%s: %d of %d questions have an answer already", label, len(questions) - len(new), len(questions))
    folder, served = (partial.with_name(f"{partial.name}.{kind}") for kind in ("answers", "served"))
    if len(new):
        files = [one.exam for one in asked]
        limits = {one.of.name: one.of.max_new_tokens for one in asked}
        queries = [one.queries for one in asked if one.queries is not None]
        whole = config.evaluation.losses
        worker = Recaller if whole else Answerer
        places = None if to_serve is None else to_serve(served)
        samples = new.select(KNOWN)
        given = answered(worker, samples, files, limits, adapter, config, folder, label, clock, queries, whole, places)
        known = pa.concat_tables([known, _rows(new, given)])
    write_table(partial, known)
    remove(folder)
    remove(served)


def questions_of(asked: Asked) -> pa.Table:
    """id, key, length, dataset and `question`, a hash, of every question of a set."""
    table = exam_rows(asked.exam)
    turns = zip(table["conversation"].to_pylist(), table["content"].to_pylist(), strict=True)
    marks = [_question(conversation, content, asked.of.max_new_tokens) for conversation, content in turns]
    return table.select(KNOWN).append_column("question", pa.array(marks, pa.binary(16)))


def exam_rows(exam: Path) -> pa.Table:
    """SAMPLE rows of a table without their images, sorted by key. What was erased is asked no more."""
    names = [name for name in pq.read_schema(files_of(exam)[0]).names if name != "images"]
    rows = as_samples(read_table(exam, names))
    return sort_by_key(rows.filter(pc.greater(pc.list_value_length(rows["conversation"]), 0)))


def given(table: pa.Table, asked: Asked) -> tuple[dict[str, str], dict[str, float]]:
    """Answer and loss (where it was measured) of every question of a set, by id, from GENERATION rows.

    Raises KeyError for a question that has none.
    """
    questions, table = questions_of(asked), _there(table)
    at = pc.index_in(questions["question"], table["question"].combine_chunks()).combine_chunks()
    if at.null_count:
        raise KeyError(f"{at.null_count} questions of {asked.of.name} have no answer")
    ids, losses = questions["id"].to_pylist(), table["loss"].take(at).to_pylist()
    answers = dict(zip(ids, table["answer"].take(at).to_pylist(), strict=True))
    return answers, {name: loss for name, loss in zip(ids, losses, strict=True) if loss is not None}


def _there(table: pa.Table) -> pa.Table:
    """GENERATION rows whose answer was not erased."""
    return table.filter(pc.is_valid(table["answer"]))


def _question(conversation: Iterable[Mapping[str, Any]], content: bytes, limit: int) -> bytes:
    digest = hashlib.blake2b(content, digest_size=16)
    for turn in conversation:
        digest.update(f"{turn['role']}\0{turn['text']}\0".encode())
    digest.update(str(limit).encode())
    return digest.digest()


def _rows(questions: pa.Table, given: Mapping[str, Any]) -> pa.Table:
    told = [given[name] for name in questions["id"].to_pylist()]
    both = [one if isinstance(one, dict) else {"answer": one, "loss": None} for one in told]
    columns = [
        questions["id"],
        questions["dataset"],
        questions["question"],
        pa.array([one["answer"] for one in both], pa.string()),
        pa.array([one["loss"] for one in both], pa.float32()),
    ]
    table = pa.table(columns, schema=GENERATION)
    first = np.unique(np.array(table["question"].to_pylist()), return_index=True)[1]
    return table.take(np.sort(first))
