"""How even a run's selections are, from its tables: known tasks alone count, and skills are those of evaluation sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from liit.engine.run.files import write_json, write_table
from liit.engine.run.kinds import asked_in, kinds
from liit.engine.run.reading import Run
from liit.engine.run.tables import POOL, SAMPLE, SELECTION, key_of

TASKS = ["count"] * 6 + ["box"] * 2 + [None] * 4
SETS: list[dict[str, Any]] = [
    {"name": "exam-count", "skill": "vqa"},
    {"name": "exam-box", "skill": "grounding", "since": 2},
    {"name": "exam-sum", "skill": "reasoning"},
]
CONFIG = {"stream": {"kind": "files", "evaluations": SETS}}


def samples(name: str, tasks: Sequence[str | None]) -> pa.Table:
    rows = [
        {"id": f"{name}/{i}", "key": key_of(f"{name}/{i}"), "dataset": name, "arrival": 0, "task": task}
        for i, task in enumerate(tasks)
    ]
    return pa.Table.from_pylist(rows, schema=SAMPLE)


def run(root: Path, tasks: Sequence[str | None], chosen: list[int]) -> Path:
    for folder in ("releases", "exam", "t00", "t01"):
        (root / folder).mkdir(parents=True)
    table = samples("words", tasks)
    write_table(root / "releases" / "00-words.parquet", table)
    for name, task in (("exam-count", "count"), ("exam-box@t02", "box"), ("exam-sum", "sum")):
        write_table(root / "exam" / f"{name}.parquet", samples(name, [task]))
    for step in ("t00", "t01"):
        write_table(root / step / "pool.parquet", table.select(POOL.names).cast(POOL))
    rows = [table.select(["id", "key"]).to_pylist()[i] for i in chosen]
    write_table(root / "t01" / "selection.parquet", pa.Table.from_pylist(rows, schema=SELECTION))
    return root


def test_a_timestep_with_a_selection_has_a_row_of_what_its_samples_name(tmp_path: Path) -> None:
    found = kinds(run(tmp_path, TASKS, [0, 6, 9]), [0, 1], asked_in(tmp_path, CONFIG))
    assert found.index.tolist() == [1]
    row = found.loc[1]
    assert row["kinds"] == row["in the pool"] == 2
    assert row["effective"] == pytest.approx(2)  # the third is of no known task
    shares = np.array([0.75, 0.25])
    assert row["by chance"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert row["skills"] == 2
    assert row["effective skills"] == pytest.approx(2)
    assert row["rare"] == 1
    assert row["rare covered"] == 1


def test_a_rare_task_that_was_not_chosen_and_a_skill_that_was_not_are_seen(tmp_path: Path) -> None:
    row = kinds(run(tmp_path, TASKS, [0, 1]), [0, 1], asked_in(tmp_path, CONFIG)).loc[1]
    assert row["kinds"] == row["effective"] == row["skills"] == row["effective skills"] == 1
    assert row["rare covered"] == 0


def test_where_no_sample_names_a_task_there_is_nothing_to_say(tmp_path: Path) -> None:
    assert not len(kinds(run(tmp_path, [None] * 12, [0, 1]), [0, 1], asked_in(tmp_path, CONFIG)))


@pytest.mark.parametrize("composed", [False, True])
def test_a_run_has_the_same_by_its_own_evaluation_sets(composed: bool, tmp_path: Path) -> None:
    root = run(tmp_path, TASKS, [0, 6, 9])
    write_json(root / "config.yaml", {"stream": {"kind": "digits"}} if composed else CONFIG)  # JSON is YAML
    if composed:
        (root / "data").mkdir()
        write_json(
            root / "data" / "stream.json", CONFIG["stream"] | {"releases": [{"name": "words"}, {"name": "pairs"}]}
        )
    found = Run(root).kinds
    pd.testing.assert_frame_equal(found, kinds(root, [0, 1], asked_in(root, CONFIG)))
    assert found.loc[1, "skills"] == 2
