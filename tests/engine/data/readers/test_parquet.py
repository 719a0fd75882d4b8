"""Parquet gives what JSON gives, in bounded memory, whatever its columns are."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.data.readers import parquet
from liit.engine.data.readers.checks import PLACED
from liit.engine.run import tables
from tests.engine.data.readers.written import ASK, SEE, TELL, png, read, repaired, row, write, write_parquet


@pytest.mark.parametrize("name", ["conversations", "messages", "conversation"])
def test_parquet_images_may_be_paths_bytes_or_structs(folder: Path, name: str) -> None:
    path = str(folder.resolve() / "a.png")
    by_path, by_bytes = {"path": path, "bytes": None}, {"path": None, "bytes": png(3)}
    for value, wanted in [
        ("a.png", [by_path]),
        (png(3), [by_bytes]),
        ({"bytes": png(3), "path": "/once/upon.png"}, [by_bytes]),
        ({"bytes": None, "path": "a.png"}, [by_path]),
        (["a.png", "a.png"], [by_path, by_path]),
        ([{"bytes": png(3), "path": None}], [by_bytes]),
    ]:
        written = write_parquet(folder, [{"id": 1, name: [ASK, TELL], "image": value}])
        (sample,), bad, reader = read(written, format="parquet")
        assert sample["images"] == wanted
        assert sample["conversation"][0]["text"].count("<image>") == len(wanted)
        assert (bad, repaired(reader)) == ([], {PLACED: 1})
        pa.Table.from_pylist([dict(sample)], schema=tables.SAMPLE)


def test_parquet_gives_what_json_gives_over_many_row_groups(folder: Path) -> None:
    rows = [row(number, SEE, TELL, image="a.png", task="t", references=["x"]) for number in range(150)]
    rows[70]["conversations"] = [SEE]
    rows[71]["image"] = "/etc/hostname"
    rows[149]["id"] = 0
    expected, expected_bad, _ = read(write(folder, *rows))
    samples, bad, _ = read(write_parquet(folder, rows, row_group_size=40))
    assert (samples, bad) == (expected, expected_bad)
    assert (len(samples), len(bad)) == (147, 2)


def test_parquet_rows_with_nulls_are_quarantined_one_by_one(folder: Path) -> None:
    rows = [
        row(1, SEE, TELL, images=[{"bytes": png(), "path": None}]),
        row(2, SEE, TELL, images=[{"bytes": None, "path": None}]),
        row(3, SEE, TELL, images=[{"bytes": b"", "path": None}]),
        row(4, SEE, TELL, images=None),
        row(5, SEE, {"from": "gpt", "value": None}, images=[{"bytes": png(), "path": None}]),
        {"id": 6, "conversations": None, "images": None},
    ]
    samples, bad, _ = read(write_parquet(folder, rows))
    assert [sample["id"] for sample in samples] == ["mine/1"]
    assert [item.reason.split(":")[0] for item in bad] == [
        "placeholder count",
        "empty image file",
        "placeholder count",
        "missing answer",
        "missing conversation",
    ]


def test_a_parquet_row_that_is_not_unicode_is_quarantined_alone(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([row(f"id-{number}") for number in range(100)])
    invalid = pa.array([b"\xff" if n == 70 else str(n).encode() for n in range(100)]).view(pa.string())
    path = tmp_path / "samples.parquet"
    pq.write_table(table.set_column(0, "id", invalid), path)
    samples, (bad,), _ = read(path)
    assert len(samples) == 99
    assert bad.reason.startswith("not Unicode: row 70")


def test_numbers_as_pandas_leaves_them_are_text(tmp_path: Path) -> None:
    """A column of whole numbers with a gap is one of floats, with NaN in the gap."""
    table = pa.table(
        {
            "id": pa.array([1.0, float("nan"), 3.0]),
            "task": pa.array([7, 8, None]),
            "conversations": pa.array([[ASK, TELL]] * 3),
            "image": pa.array([float("nan")] * 3),
        }
    )
    pq.write_table(table, tmp_path / "samples.parquet")
    samples, bad, _ = read(tmp_path / "samples.parquet")
    assert [sample["id"] for sample in samples][::2] == ["mine/1", "mine/3"]
    assert [sample["task"] for sample in samples] == ["7", "8", None]
    assert ([sample["images"] for sample in samples], bad) == ([[], [], []], [])


def test_bytes_without_an_id_are_told_apart_by_their_content(folder: Path) -> None:
    rows = [row(None, SEE, TELL, image=png(shade)) for shade in (1, 2, 1)]
    samples, bad, reader = read(write_parquet(folder, rows))
    assert len({sample["id"] for sample in samples}) == 2
    assert (bad, reader.counts.rows) == ([], 3)


def test_a_file_that_is_not_parquet_stops_the_run_and_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, [row(1)])
    whole = path.read_bytes()
    for broken in (b"", b"[]", whole[: len(whole) // 2], whole[:4] + b"\xff" * 200 + whole[204:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"samples\.parquet cannot be read as Parquet"):
            read(path)
    pq.write_table(pa.table({"id": ["1"], "question": ["why"]}), path)
    with pytest.raises(ValueError, match=r"samples\.parquet has columns id, question, but none of: conversations or"):
        read(path)


LARGE = """
import sys, pyarrow as pa
from pathlib import Path
from liit.engine.data.readers import parquet
count = sum(len(row["images"][0]["bytes"]) for row in parquet.rows(Path(sys.argv[1])))
print(count, pa.default_memory_pool().max_memory())
"""


def test_a_row_group_is_never_held_whole(tmp_path: Path) -> None:
    """96 MiB of bytes in one row group, read by batches of 2 MiB."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("messages", pa.string()), ("images", pa.list_(image))])
    rng, size = np.random.default_rng(0), 1 << 20
    rows = [{"messages": "x", "images": [{"bytes": rng.bytes(size), "path": None}]} for _ in range(96)]
    path = tmp_path / "large.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path, row_group_size=96, write_batch_size=2)
    code = LARGE.replace("count =", "parquet.BATCH_BYTES = 2 << 20\ncount =")
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    total, held = map(int, done.stdout.split())
    assert total == 96 * size
    assert held < 24 * size, f"{held >> 20} MiB of Arrow memory for batches of 2 MiB"


def test_rows_are_counted_without_being_read(tmp_path: Path) -> None:
    assert parquet.count(write_parquet(tmp_path, [row(n) for n in range(7)])) == 7


def test_what_may_be_more_than_two_gibibytes_has_offsets_for_it() -> None:
    """With 32-bit offsets a sort by key overflows; seen here on 65 rows that share one buffer of 32 MiB."""
    size, count = 32 << 20, 65
    ends = pa.py_buffer(np.array([0, size], np.int32).tobytes())
    small = pa.Array.from_buffers(pa.binary(), 1, [None, ends, pa.py_buffer(bytes(size))])
    table = pa.table({"bytes": pa.chunked_array([small] * count), "key": list(range(count, 0, -1))})
    with pytest.raises(pa.ArrowInvalid, match="offset overflow while concatenating arrays"):
        tables.sort_by_key(table)
    assert tables.SAMPLE.field("images").type.value_type.field("bytes").type == pa.large_binary()
    assert tables.SAMPLE.field("conversation").type.value_type.field("text").type == pa.large_string()
