"""Work files hold every planned sample once, in the order of the plan, whatever order and company it comes in."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.fleet import work


def chunk(keys: np.ndarray) -> pa.Table:
    values = [{"id": f"s{key}", "images": [f"{key}.png"] * int(key % 3)} for key in keys]
    return pa.Table.from_pylist(values).append_column("key", pa.array(keys, pa.uint64()))


def written(folder: Path) -> list[dict[str, Any]]:
    return [row for file in sorted(folder.glob("work-*.parquet")) for row in pq.read_table(file).to_pylist()]


@pytest.mark.parametrize("rows_per_bucket", [8192, 20])
def test_tasks_hold_the_planned_samples_in_order(
    rows_per_bucket: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "ROWS_PER_BUCKET", rows_per_bucket)
    rng = np.random.default_rng(0)
    pool = rng.permutation(300).astype(np.uint64)
    planned = rng.permutation(pool[:200])
    batch_N = rng.integers(0, 40, 200)
    work.write_work(tmp_path, lambda: [chunk(part) for part in np.split(pool, 6)], planned, batch_N, batch_N // 4)
    rows = written(tmp_path)
    assert [row["task"] for row in rows] == sorted({int(batch) // 4 for batch in batch_N})
    for row in rows:
        expected = [batch for batch in np.unique(batch_N) if batch // 4 == row["task"]]
        keys = [[sample["key"] for sample in batch] for batch in row["batches"]]
        assert keys == [sorted(planned[batch_N == batch].tolist()) for batch in expected]
        assert all(len(sample["images"]) == sample["key"] % 3 for batch in row["batches"] for sample in batch)
    assert not list(tmp_path.glob("bucket-*"))


def test_a_planned_sample_that_no_release_has_is_named(tmp_path: Path) -> None:
    keys = np.arange(5, dtype=np.uint64)
    with pytest.raises(KeyError, match="2 planned samples are in no release, the first has key 3"):
        work.write_work(tmp_path, lambda: [chunk(keys[:3])], keys, np.zeros(5, int), np.zeros(5, int))


def test_chunks_hold_rows_of_one_row_group(tmp_path: Path) -> None:
    """So whoever writes few large rows into one bounds the memory of whoever reads them."""
    pq.write_table(chunk(np.arange(20, dtype=np.uint64)), tmp_path / "a.parquet", row_group_size=6)
    assert [len(part) for part in work.read_chunks([tmp_path / "a.parquet"])] == [6, 6, 6, 2]


def test_files_are_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "ROWS_PER_CHUNK", 7)
    tables = [chunk(np.arange(20, dtype=np.uint64)), chunk(np.arange(20, 25, dtype=np.uint64))]
    for index, table in enumerate(tables):
        pq.write_table(table, tmp_path / f"{index}.parquet")
    read = list(work.read_chunks(sorted(tmp_path.glob("*.parquet"))))
    assert max(len(part) for part in read) == 7
    assert pa.concat_tables(read)["id"].to_pylist() == [f"s{key}" for key in range(25)]
