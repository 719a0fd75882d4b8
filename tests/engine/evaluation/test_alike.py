"""Equal prompts are one: the same words, images, expert and length of an answer; of others each is its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.evaluation.alike import first_alike
from liit.engine.run.tables import SAMPLE

LIMITS = {"a": 5, "b": 5, "c": 6}
Question = tuple[str, str, str, str, str]
"""Data set, what is asked, the picture's file, the expert, and the reference."""


def table_of(questions: list[Question], folder: Path) -> tuple[list[Path], pa.Table]:
    """The rows in two files of small row groups, in another order than they are asked in."""
    rows: list[dict[str, Any]] = []
    for key, (dataset, words, picture, _, reference) in enumerate(questions):
        turns = [{"role": "user", "text": words}, {"role": "assistant", "text": reference}]
        held = {"path": picture or None, "bytes": None if picture else words.encode()}
        rows.append({"id": str(key), "key": key, "dataset": dataset, "conversation": turns, "images": [held]})
    order = np.random.default_rng(0).permutation(len(rows))
    table, half = pa.Table.from_pylist([rows[at] for at in order], schema=SAMPLE), len(rows) // 2
    for name, part in (("0", table[:half]), ("1", table[half:])):
        pq.write_table(part, folder / f"{name}.parquet", row_group_size=7)
    asked = pa.Table.from_pylist([{"key": row["key"], "dataset": row["dataset"]} for row in rows])
    asked = asked.set_column(0, "key", asked["key"].cast(pa.uint64()))
    asked = asked.append_column("expert", pa.array([question[3] for question in questions]))
    return [folder / "0.parquet", folder / "1.parquet"], asked


@pytest.mark.parametrize("whole", [False, True])
def test_the_first_alike_is_that_of_comparing_every_pair(tmp_path: Path, whole: bool) -> None:
    rng = np.random.default_rng(1)
    kinds = ("abc", ("x", "y"), ("", "p.png", "q.png"), ("base", "e"), ("r", "s"))
    questions: list[Any] = [tuple(str(rng.choice(list(kind))) for kind in kinds) for _ in range(90)]
    files, asked = table_of(questions, tmp_path)
    seen = [(LIMITS[one[0]], *one[1:4], one[4] if whole else "") for one in questions]
    naive = [seen.index(one) for one in seen]
    assert first_alike(files, asked, LIMITS, whole).tolist() == naive
    assert len(set(naive)) < len(naive)


def test_nothing_asked_is_nothing_alike(tmp_path: Path) -> None:
    files, asked = table_of([("a", "x", "", "base", "r")], tmp_path)
    assert first_alike(files, asked[:0], LIMITS, False).tolist() == []
