"""Samples on their way through a spool stay what they are, in little memory, whatever is held of them at a time."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.data import spool
from liit.engine.data.dealing import dealt
from liit.engine.data.readers.sample import Sample
from liit.engine.data.spool import Spool, by_key, in_key_order, spooled_samples
from liit.engine.run.tables import SAMPLE, key_of


def sample(name: str, text: str, data: bytes) -> Sample:
    turns: Any = [{"role": "user", "text": text}, {"role": "assistant", "text": "a", "context": True}]
    return {
        "id": name,
        "dataset": "d",
        "task": None,
        "conversation": turns,
        "images": [{"path": None, "bytes": data}],
        "references": ["r"],
        "metric": "vqa",
    }


ROWS = [(f"d/{n % 7}", n % 5) for n in range(60)]
"""Ids and contents: ids repeat, some rows are equal."""


def spooled(path: Path) -> spool.Spooled:
    filled = Spool(path)
    for name, content in ROWS:
        filled.add(sample(name, f"{name} {content}", bytes([content]) * 300), content, 3)
    return filled.settle()


@pytest.mark.parametrize(("rows", "size"), [(1024, 32 << 20), (7, 32 << 20), (1024, 1000)])
def test_a_spool_gives_back_each_sample_once(
    tmp_path: Path, rows: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "ROWS", rows)
    monkeypatch.setattr(spool, "BYTES", size)
    found = spooled(tmp_path / "s.parquet")
    table = pa.concat_tables(found.chunks())
    assert table.schema.equals(SAMPLE)
    names = table["id"].to_pylist()
    assert len(names) == len(set(names)) == len(set(ROWS)) == len(found.keys) == len(found.sizes)
    assert table["key"].to_pylist() == [key_of(name) for name in names] == found.keys.tolist()
    for row in table.to_pylist():
        assert row["conversation"][0]["text"].split() == [row["id"].split("~")[0], str(row["images"][0]["bytes"][0])]
        assert (row["conversation"][1]["context"], row["metric"], row["arrival"]) == (True, "vqa", 3)


def test_what_became_of_ids_is_told_with_two_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "ROWS", 4)
    found = spooled(tmp_path / "s.parquet")
    told = found.told(0, len(ROWS))
    kinds = Counter(name for name, _ in set(ROWS))
    assert told["ids told apart"].count == sum(kinds[name] > 1 for name, _ in ROWS)
    assert told["rows equal to an earlier one, one sample"].count == len(ROWS) - len(set(ROWS))
    assert told["ids told apart"].examples == ["d/0", "d/1"]
    late = found.told(20, 30)["ids told apart"]
    assert (late.count, late.examples) == (10, ["d/6", "d/0"])


@pytest.mark.parametrize("most", [1, 1000, 1 << 30])
def test_samples_leave_in_the_order_of_their_keys_whatever_is_sorted_at_a_time(tmp_path: Path, most: int) -> None:
    found = spooled(tmp_path / "s.parquet")
    keys, sizes = found.keys[::2], found.sizes[::2]
    buckets = by_key(keys, sizes, most)
    assert (np.diff(buckets[np.argsort(keys)]) >= 0).all()
    lengths, contents = (
        pa.chunked_array([np.arange(len(keys), dtype=np.int32)]),
        pa.chunked_array([[b"%016d" % n for n in range(len(keys))]], pa.binary(16)),
    )
    path = tmp_path / "sorted.parquet"
    with pq.ParquetWriter(path, SAMPLE) as writer:
        in_key_order(dealt(tmp_path, found.chunks, keys, buckets), lengths, contents, writer, 10)
    table = pq.read_table(path)
    assert max(pq.read_metadata(path).row_group(n).num_rows for n in range(pq.read_metadata(path).num_row_groups)) <= 10
    assert table["key"].to_pylist() == sorted(keys.tolist())
    place = {key: n for n, key in enumerate(keys.tolist())}
    assert table["length"].to_pylist() == [place[key] for key in table["key"].to_pylist()]
    assert table["content"].to_pylist() == [b"%016d" % place[key] for key in table["key"].to_pylist()]
    assert not list(tmp_path.glob("bucket-*"))


def test_tasks_of_a_spool_are_its_row_groups_under_the_ids_of_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "ROWS", 7)
    found = spooled(tmp_path / "s.parquet")
    rows = []
    for task in found.tasks():
        what = {name: one.to_pylist() if isinstance(one, pa.Array) else one for name, one in task.what.items()}
        mine = [row for batch in spooled_samples(**what) for row in batch]
        assert len(mine) == task.rows
        rows += mine
    assert rows == pa.concat_tables(found.chunks()).to_pylist()


MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from liit.engine.data import spool
from liit.engine.data.dealing import dealt
from liit.engine.run.tables import SAMPLE

def sample(name, data):
    turns = [{"role": "user", "text": "<image>"}, {"role": "assistant", "text": "a"}]
    return {"id": name, "dataset": "d", "conversation": turns, "images": [{"path": None, "bytes": data}]}

folder, size = Path(sys.argv[1]), 1 << 20
held = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rng = np.random.default_rng(0)
spool.BYTES = 4 << 20
before = held()
filled = spool.Spool(folder / "s.parquet")
for n in range(256):
    filled.add(sample(f"d/{n}", rng.bytes(size)), n, 0)
found = filled.settle()
buckets = spool.by_key(found.keys, found.sizes, 8 << 20)
with pq.ParquetWriter(folder / "sorted.parquet", SAMPLE) as writer:
    rows = dealt(folder, found.chunks, found.keys, buckets)
    ones = pa.chunked_array([[1] * 256], pa.int32()), pa.chunked_array([[b"0" * 16] * 256], pa.binary(16))
    spool.in_key_order(rows, *ones, writer, 4096)
print(pq.read_metadata(folder / "sorted.parquet").num_rows, (held() - before) // 1024)
"""


def test_a_quarter_of_a_gibibyte_of_pictures_passes_through_little_memory(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True)
    rows, mebibytes = map(int, done.stdout.split())
    assert rows == 256
    assert mebibytes < 128, f"{mebibytes} MiB for 256 MiB of pictures"
