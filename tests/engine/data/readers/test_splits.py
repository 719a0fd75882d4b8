"""Into however many splits files are cut, their rows, reasons, counts and messages are the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.data.readers import json_text, parquet
from liit.engine.data.readers.counts import Counts
from liit.engine.data.readers.formats import read, read_split, splits
from tests.engine.data.object_storage import s3, s3_server  # noqa: F401
from tests.engine.data.readers.written import ASK, SEE, TELL, png, release, row

LINES = 60
CUTS = [1 << 30, 1500, 400, 1]


def as_lines(rows: list[Any], newline: str = "\n") -> bytes:
    """JSON lines; what is text stands there as it is."""
    return "".join((one if isinstance(one, str) else json.dumps(one)) + newline for one in rows).encode()


def mixed() -> list[Any]:
    """Good rows, repaired ones, broken lines, blank lines, rows without an id, ids that repeat; a column late in the file."""
    rng, rows = np.random.default_rng(0), []
    for n in range(LINES):
        one: Any = row(int(rng.integers(20)), ASK, {"from": "gpt", "value": f"ä {n % 7}"}, source="s")
        kind = n % 11
        if kind == 3:
            one = '{"id": 4, "conversations": [tor'
        elif kind == 5:
            one = ""
        elif kind == 6:
            del one["id"]
        elif kind == 7:
            one = row(n, SEE, TELL, image=f"{'ab'[n % 2]}.png", late=n)
        elif kind == 8:
            one = row(n, TELL, ASK, TELL)
        elif kind == 9:
            one = row(n, ASK, TELL, tools="[1]")
        rows.append(one)
    return rows


def whole(path: Path | str, **settings: Any) -> tuple[list[Any], dict[str, Any], list[str]]:
    reader = read(release(path, **settings))
    rows = list(reader)
    return rows, reader.counts.told(), list(reader.counts.lines())


def in_splits(path: Path | str, **settings: Any) -> tuple[int, tuple[list[Any], dict[str, Any], list[str]]]:
    """How many splits there are, and what is found in them, one after the other as tasks find it."""
    source = release(path, **settings)
    folder, left_out, each = splits(source)
    counts, rows = Counts(left_out=left_out), []
    for split in each:
        reader = read_split(source, folder, split)
        rows += list(reader)
        counts.join(Counts.of(json.loads(json.dumps(reader.counts.told()))))
    return len(each), (rows, counts.told(), list(counts.lines()))


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\n\r\n"])
def test_json_lines_in_any_ranges_of_bytes(
    folder: Path, size: int, newline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "samples.jsonl"
    path.write_bytes(b"\xef\xbb\xbf\n" + as_lines(mixed(), newline))
    expected = whole(path)
    assert any("not JSON: line " in bad.reason for bad in expected[0] if hasattr(bad, "reason"))
    monkeypatch.setattr(json_text, "PIECE", size)
    number, found = in_splits(path)
    assert found == expected
    assert (number > 1) == (size < path.stat().st_size)
    assert number <= 2 * LINES + 2


@pytest.mark.parametrize("size", CUTS)
def test_parquet_in_any_runs_of_row_groups(folder: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [one for one in mixed() if not isinstance(one, str)]
    table = pa.Table.from_pylist([{**one, "image": {"bytes": png(n), "path": None}} for n, one in enumerate(rows)])
    broken = pa.array([b"\xff" if n % 9 == 4 else b"t" for n in range(len(table))]).view(pa.string())
    pq.write_table(table.append_column("task", broken), folder / "samples.parquet", row_group_size=5)
    expected = whole(folder)
    assert any("not Unicode: row " in bad.reason for bad in expected[0] if hasattr(bad, "reason"))
    monkeypatch.setattr(parquet, "PIECE", size)
    number, found = in_splits(folder)
    assert found == expected
    assert (number > 1) == (size < 1 << 20)


def test_files_that_are_read_in_one_go_are_one_split_each(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_text, "PIECE", 100)
    rows = [row(n) for n in range(20)]
    (folder / "a.json").write_text(json.dumps(rows))
    (folder / "b.json").write_text(json.dumps(rows, indent=1))
    number, found = in_splits(folder)
    assert (number, found) == (2, whole(folder))


def test_columns_are_those_of_the_beginning_of_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of a piece, which may look otherwise."""
    rows = [row(1), *({"id": n, "instruction": "do", "output": "done"} for n in range(2, 30))]
    (folder / "samples.jsonl").write_bytes(as_lines(rows))
    expected = whole(folder)
    monkeypatch.setattr(json_text, "PIECE", 300)
    number, found = in_splits(folder)
    assert number > 3
    assert found == expected
    assert found[1]["took"] == {"JSON file, chat by conversations": 1}


def error_of(path: Path) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (its text is compared)
        in_splits(path)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        as_lines([row(n) for n in range(30)]) + b'{"id": 1, "conversations": [\xff\xfe]}\n' + as_lines([row(1)]),
        as_lines(['{"a": tor', *(row(n) for n in range(30))]),
        as_lines([{"question": 1, "answer": 2}] * 40),
    ],
    ids=["not text", "not JSON", "unknown columns"],
)
def test_what_stops_a_run_is_said_in_the_same_words(folder: Path, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "samples.jsonl"
    path.write_bytes(text)
    expected = error_of(path)
    assert str(path) in expected
    for size in (1000, 200):
        monkeypatch.setattr(json_text, "PIECE", size)
        assert error_of(path) == expected


def test_lines_are_counted_as_text_has_them(folder: Path) -> None:
    path, text = folder / "a.txt", b"a\r\nb\rc\n\nd\r\n\r\r\ne"
    path.write_bytes(text)
    for stop in range(len(text) + 1):
        if text[:stop].endswith(b"\n"):
            json_text._lines_before.cache_clear()
            assert json_text._lines_before(path, stop) == len(text[:stop].decode().splitlines())


def test_counts_pass_through_json_and_add_up() -> None:
    one = Counts(rows=2, left_out=["x"])
    one.repair("k", "a")
    one.row({"id": 1, "b": 2}, {"id"})
    assert Counts.of(json.loads(json.dumps(one.told()))) == one
    both = Counts()
    both.join(one)
    both.join(one)
    assert (both.rows, both.filled, both.left_out) == (6, {"id": 2, "b": 2}, ["x", "x"])
    assert str(both.repaired["k"]) == "2 (a, a)"


@pytest.mark.parametrize("size", [400, 1])
def test_pieces_of_files_on_object_storage_are_those_of_the_same_files_on_a_disk(
    folder: Path,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
    s3: Any,  # noqa: F811
) -> None:
    (folder / "samples.jsonl").write_bytes(as_lines([one for one in mixed() if "image" not in one]))
    rows = [{"id": n, "conversations": [SEE, TELL], "image": {"bytes": png(n), "path": None}} for n in range(12)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "samples.parquet", row_group_size=5)
    for container in (json_text, parquet):
        monkeypatch.setattr(container, "PIECE", size)
    for name in ("samples.jsonl", "samples.parquet"):
        s3.put_file(str(folder / name), f"bucket/stream/{name}")
        number, found = in_splits(folder / name)
        assert number > 2
        assert in_splits(f"s3://bucket/stream/{name}") == (number, found)
