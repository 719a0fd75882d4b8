"""What earlier runs wrote is read as rows of today."""

from typing import Any

import pyarrow as pa
import pytest

from liit.engine.run.tables import POOL, SAMPLE, as_samples

TURN = pa.struct([("role", pa.string()), ("text", pa.string())])
IMAGE = pa.struct([("path", pa.string()), ("bytes", pa.binary())])
CHANGED = {"conversation": pa.list_(TURN), "images": pa.list_(IMAGE)}
BEFORE = pa.schema([(field.name, CHANGED.get(field.name, field.type)) for field in SAMPLE if field.name != "metric"])
"""SAMPLE without `context`, `metric` and large types."""

ROW: dict[str, Any] = {
    "id": "a/1",
    "key": 1,
    "dataset": "a",
    "arrival": 0,
    "conversation": [{"role": "user", "text": "q"}, {"role": "assistant", "text": "a"}],
    "images": [{"path": None, "bytes": b"x"}],
    "references": ["a"],
    "length": 3,
    "content": b"0" * 16,
}


def test_samples_of_earlier_runs_gain_what_they_lack_as_null() -> None:
    table = as_samples(pa.Table.from_pylist([ROW], schema=BEFORE))
    assert table.schema.equals(SAMPLE)
    (row,) = table.to_pylist()
    assert [turn.pop("context") for turn in row["conversation"]] == [None, None]
    assert [image.pop("place") for image in row["images"]] == [None]
    assert row.pop("metric") is None
    assert row == ROW | {"task": None}


@pytest.mark.parametrize("columns", [["id", "key"], ["id", "conversation"], ["images", "expert"]], ids=str)
def test_some_columns_stay_those_and_others_beside_them_stay_as_they_are(columns: list[str]) -> None:
    whole = pa.Table.from_pylist([ROW], schema=BEFORE).append_column("expert", pa.array(["base"]))
    table = as_samples(whole.select(columns))
    assert table.column_names == columns
    assert all(table.schema.field(name).type == SAMPLE.field(name).type for name in columns if name in SAMPLE.names)


def test_other_tables_are_left_alone() -> None:
    table = POOL.empty_table()
    assert as_samples(table) is table


def test_samples_of_today_pass_unchanged() -> None:
    table = pa.Table.from_pylist([ROW], schema=SAMPLE)
    assert as_samples(table).equals(table)
