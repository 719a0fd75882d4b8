"""What is in the pool, and who left it."""

from pathlib import Path

import pyarrow as pa
import pytest

from liit.engine.data.pool import grow, remaining, samples
from liit.engine.run.files import read_table, write_table
from liit.engine.run.tables import POOL, QUARANTINE, REMOVED, SAMPLE, key_of
from liit.engine.settings.sections import Pool


def rows(dataset: str, names: str, arrival: int, **contents: str) -> list[dict[str, object]]:
    return [
        {
            "id": f"{dataset}/{n}",
            "key": key_of(f"{dataset}/{n}"),
            "dataset": dataset,
            "arrival": arrival,
            "images": [],
            "content": contents.get(f"{dataset}/{n}", f"{dataset}/{n}").encode().ljust(16),
        }
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
    grow(None, releases[:1], [], Pool(), step / "pool.parquet")
    gone = [{"id": "a/1", "reason": "pruned", "kept_id": "a/2"}]
    bad = [{"id": "a/3", "dataset": "a", "stage": "score", "reason": "torn"}]
    bad += [{"id": "a/4", "dataset": "a", "stage": "read", "reason": "another row with this id"}]
    write_table(step / "removed.parquet", pa.Table.from_pylist(gone, schema=REMOVED))
    write_table(step / "quarantine.parquet", pa.Table.from_pylist(bad, schema=QUARANTINE))
    assert set(remaining(step)["key"].to_pylist()) == {key_of(f"a/{n}") for n in "2456"}
    grow(step, releases, [], Pool(), tmp_path / "next.parquet")
    table = read_table(tmp_path / "next.parquet")
    assert table.schema.equals(POOL)
    assert set(table["id"].to_pylist()) == {"a/2", "a/4", "a/5", "a/6", "b/1", "b/2"}
    assert table["key"].to_pylist() == sorted(table["key"].to_pylist())


def test_samples_come_from_any_release_and_a_missing_one_is_named(releases: list[Path]) -> None:
    found = samples(releases, pa.chunked_array([["b/2"], ["a/5"]]))
    assert set(found["id"].to_pylist()) == {"a/5", "b/2"}
    with pytest.raises(KeyError, match="1 samples are in no release, the first is c/9"):
        samples(releases, pa.chunked_array([["a/1", "c/9"]]))


def copied(tmp_path: Path, rules: Pool) -> tuple[set[str], dict[str, tuple[str, str]]]:
    """Ids in the pool and why others are not: b/1 is a copy of a/2, b/2 and b/3 are one sample, a/5 is in the exam."""
    first = tmp_path / "t00"
    first.mkdir()
    paths = [tmp_path / name for name in ("a.parquet", "b.parquet", "exam.parquet")]
    exam = rows("exam", "1", 0, **{"exam/1": "a/5"})
    new = rows("b", "123", 1, **{"b/1": "a/2", "b/3": "b/2"})
    for path, table in zip(paths, (rows("a", "12345", 0), new, exam), strict=True):
        write_table(path, pa.Table.from_pylist(table, schema=SAMPLE))
    grow(None, paths[:1], [], rules, first / "pool.parquet")
    write_table(first / "removed.parquet", REMOVED.empty_table())
    grow(first, paths[:2], paths[2:], rules, tmp_path / "pool.parquet")
    left_out = read_table(tmp_path / "copies.parquet").to_pylist()
    pool = set(read_table(tmp_path / "pool.parquet")["id"].to_pylist())
    return pool, {row["id"]: (row["reason"], row["kept_id"]) for row in left_out}


def test_exact_copies_are_left_out_with_what_they_are_copies_of(tmp_path: Path) -> None:
    pool, left_out = copied(tmp_path, Pool())
    later, earlier = sorted(("b/2", "b/3"), key=key_of, reverse=True)
    assert left_out == {
        "b/1": ("duplicate", "a/2"),
        later: ("duplicate", earlier),
        "a/5": ("contamination", "exam/1"),
    }
    assert pool == {"a/1", "a/2", "a/3", "a/4", earlier}


def test_copies_stay_where_they_are_asked_to(tmp_path: Path) -> None:
    pool, left_out = copied(tmp_path, Pool(duplicates="keep", contamination="report"))
    assert left_out == {}
    assert pool == {"a/1", "a/2", "a/3", "a/4", "a/5", "b/1", "b/2", "b/3"}
