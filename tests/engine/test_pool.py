"""What is in the pool, and who left it."""

from pathlib import Path

import pyarrow as pa
import pytest

from liit.engine.pool import grow, remaining, samples
from liit.engine.store import read_table, write_table
from liit.engine.tables import POOL, QUARANTINE, REMOVED, SAMPLE, key_of


def rows(dataset: str, names: str, arrival: int) -> list[dict[str, object]]:
    return [
        {"id": f"{dataset}/{n}", "key": key_of(f"{dataset}/{n}"), "dataset": dataset, "arrival": arrival, "images": []}
        for n in names
    ]


@pytest.fixture
def releases(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    write_table(paths[0], pa.Table.from_pylist(rows("a", "123456", 0), schema=SAMPLE))
    write_table(paths[1], pa.Table.from_pylist(rows("b", "12", 1), schema=SAMPLE))
    return paths


def test_the_pool_is_what_stayed_and_what_arrived(releases: list[Path], tmp_path: Path) -> None:
    step = tmp_path / "t00"
    step.mkdir()
    grow(None, releases[0], step / "pool.parquet")
    gone = [{"id": "a/1", "reason": "pruned", "kept_id": "a/2"}]
    bad = [{"id": "a/3", "dataset": "a", "stage": "score", "reason": "torn"}]
    write_table(step / "removed.parquet", pa.Table.from_pylist(gone, schema=REMOVED))
    write_table(step / "quarantine.parquet", pa.Table.from_pylist(bad, schema=QUARANTINE))
    assert set(remaining(step)["id"].to_pylist()) == {"a/2", "a/4", "a/5", "a/6"}
    grow(step, releases[1], tmp_path / "next.parquet")
    table = read_table(tmp_path / "next.parquet")
    assert table.schema.equals(POOL)
    assert set(table["id"].to_pylist()) == {"a/2", "a/4", "a/5", "a/6", "b/1", "b/2"}
    assert table["key"].to_pylist() == sorted(table["key"].to_pylist())


def test_samples_come_from_any_release_and_a_missing_one_is_named(releases: list[Path]) -> None:
    found = samples(releases, pa.chunked_array([["b/2"], ["a/5"]]))
    assert set(found["id"].to_pylist()) == {"a/5", "b/2"}
    with pytest.raises(KeyError, match="1 samples are in no release, the first is c/9"):
        samples(releases, pa.chunked_array([["a/1", "c/9"]]))
