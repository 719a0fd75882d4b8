"""Tasks are parts of tables: every planned sample is in one, and whoever runs it plans the same batches of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.fleet import parts
from liit.engine.fleet.batching import plan
from liit.engine.fleet.parts import Batches, read_chunks, rows_of_a_part, tasks_of
from liit.engine.fleet.planned import Task

COUNT = 300


def rows(keys: Sequence[int]) -> pa.Table:
    """Of each key a sample whose length, data set and images follow from it."""
    values = [
        {"id": f"s{key}", "length": key * 7 % 50 + 1, "dataset": "abc"[key % 3], "images": [f"{key}.png"] * (key % 3)}
        for key in keys
    ]
    return pa.Table.from_pylist(values).append_column("key", pa.array(keys, pa.uint64()))


@pytest.fixture
def tables(tmp_path: Path) -> list[Path]:
    """A file and a folder of two files, in row groups of 40, their samples in a random order."""
    keys = np.random.default_rng(0).permutation(COUNT).tolist()
    paths = [tmp_path / "a.parquet", tmp_path / "b" / "0.parquet", tmp_path / "b" / "1.parquet"]
    (tmp_path / "b").mkdir()
    for at, path in enumerate(paths):
        pq.write_table(rows(keys[100 * at : 100 * at + 100]), path, row_group_size=40)
    return [tmp_path / "a.parquet", tmp_path / "b"]


def batches_of(task: Task, batches: Batches) -> list[list[dict[str, Any]]]:
    """As whoever runs it makes them: arrays come as lists."""
    what = {name: one.to_pylist() if isinstance(one, pa.Array) else one for name, one in task.what.items()}
    return list(batches(**what))


def test_every_planned_sample_is_in_one_task_with_what_is_told_of_it(tables: list[Path]) -> None:
    rng = np.random.default_rng(1)
    keys = rng.permutation(COUNT)[:120].astype(np.uint64)
    told = pa.array([None if key % 2 else float(key) for key in keys], pa.float32())
    tasks = tasks_of(tables, keys, {"best": told})
    assert len({task.name for task in tasks}) == len(tasks) == 9
    seen = [[one for batch in batches_of(task, Batches(8, 200)) for one in batch] for task in tasks]
    assert [len(one) for one in seen] == [task.rows for task in tasks]
    samples = [sample for one in seen for sample in one]
    assert sorted(sample["key"] for sample in samples) == sorted(keys.tolist())
    for sample in samples:
        assert sample["best"] == (None if sample["key"] % 2 else sample["key"])
        assert len(sample["images"]) == sample["key"] % 3


def test_what_is_told_may_be_null_for_all_of_a_task(tables: list[Path]) -> None:
    keys = np.arange(COUNT, dtype=np.uint64)
    for task in tasks_of(tables, keys, {"best": pa.nulls(COUNT, pa.float32())}):
        assert {one["best"] for batch in batches_of(task, Batches(8, 200)) for one in batch} == {None}


def test_tasks_are_the_same_in_whatever_order_samples_are_planned(tables: list[Path]) -> None:
    keys = np.arange(0, COUNT, 2, dtype=np.uint64)
    order = np.random.default_rng(2).permutation(len(keys))
    names = pa.array([f"e{key % 5}" for key in keys])
    by = Batches(6, 150, ("expert",))
    one, other = (
        tasks_of(tables, keys, {"expert": names}),
        tasks_of(tables, keys[order], {"expert": names.take(order)}),
    )
    assert [batches_of(task, by) for task in one] == [batches_of(task, by) for task in other]


@pytest.mark.parametrize("most", [5, None])
def test_batches_hold_their_limits_and_one_value_of_each_column(tables: list[Path], most: int | None) -> None:
    keys = np.arange(COUNT, dtype=np.uint64)
    names = pa.array(["x", "x/b", "b"], pa.string()).take(keys // 5 % 3)
    room = pa.array(10 * (keys % 3))
    for task in tasks_of(tables, keys, {"expert": names, "room": room}):
        found = batches_of(task, Batches(most, 120, ("dataset", "expert"), beyond="room"))
        for batch in found:
            lengths = [one["length"] + 10 * (one["key"] % 3) for one in batch]
            assert most is None or len(batch) <= most
            assert len(batch) * max(lengths) <= 120 or len(batch) == 1
            assert len({(one["dataset"], one["expert"]) for one in batch}) == 1
            assert [one["key"] for one in batch] == sorted(one["key"] for one in batch)


def test_the_batches_of_a_part_are_the_plan_of_its_planned_samples(tables: list[Path]) -> None:
    keys = np.arange(1, COUNT, 3, dtype=np.uint64)
    for task in tasks_of(tables, keys):
        found = batches_of(task, Batches(4, 90))
        mine = np.array([one["key"] for batch in found for one in batch], np.uint64)
        lengths = np.array([one["length"] for batch in found for one in batch])
        numbers = np.repeat(np.arange(len(found)), [len(batch) for batch in found])
        assert plan(mine, lengths, 4, 90).tolist() == numbers.tolist()


def test_a_task_without_samples_has_no_batch(tables: list[Path]) -> None:
    assert list(Batches(4, 90)(str(tables[0]), 0, bytes(5))) == []
    assert tasks_of(tables, np.empty(0, np.uint64)) == []
    assert tasks_of([], np.empty(0, np.uint64)) == []


def test_a_row_group_without_rows_is_no_task(tmp_path: Path) -> None:
    table = rows([1, 2, 3])
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as writer:
        for some in (table[:2], table[:0], table[2:]):
            writer.write_table(some)
    tasks = tasks_of([tmp_path / "a.parquet"], np.array([1, 2, 3], np.uint64))
    assert [task.rows for task in tasks] == [2, 1]


def test_a_sample_in_no_table_is_named_and_one_that_is_there_twice_is_refused(tables: list[Path]) -> None:
    keys = np.array([5, 1000, 7, 2000], np.uint64)
    with pytest.raises(KeyError, match="2 planned samples are in no release, the first has key 1000"):
        tasks_of(tables, keys)
    with pytest.raises(ValueError, match=r"2 planned samples are twice in .*a\.parquet"):
        tasks_of([*tables, *tables], keys[[0, 2]])
    empty = tables[1] / "empty"
    empty.mkdir()
    with pytest.raises(FileNotFoundError, match="holds no Parquet file"):
        tasks_of([empty], keys)


def test_a_part_is_neither_small_nor_large() -> None:
    sizes = [rows_of_a_part(count) for count in (0, 10, 256 * 64, 100_000, 4_000_000)]
    assert sizes == [256, 256, 256, 1562, 4096]


def test_chunks_hold_rows_of_one_row_group(tmp_path: Path) -> None:
    """So whoever writes few large rows into one bounds the memory of whoever reads them."""
    pq.write_table(rows(range(20)), tmp_path / "a.parquet", row_group_size=6)
    assert [len(part) for part in read_chunks([tmp_path / "a.parquet"])] == [6, 6, 6, 2]


def test_files_are_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "ROWS_PER_CHUNK", 7)
    for index, table in enumerate([rows(range(20)), rows(range(20, 25))]):
        pq.write_table(table, tmp_path / f"{index}.parquet")
    read = list(read_chunks([tmp_path]))
    assert max(len(part) for part in read) == 7
    assert pa.concat_tables(read)["id"].to_pylist() == [f"s{key}" for key in range(25)]
