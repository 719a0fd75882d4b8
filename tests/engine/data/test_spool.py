"""Samples on their way through a spool stay what they are, in little memory, whatever is held of them at a time."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from liit.engine.data import spool
from liit.engine.data.readers.ids import apart_id
from liit.engine.data.readers.sample import Sample
from liit.engine.data.spool import Spool, Spooled, spooled_samples
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


def spooled(folder: Path, *cuts: int) -> Spooled:
    """The rows in as many files as the cuts make."""
    paths = []
    for start, stop in zip((0, *cuts), (*cuts, len(ROWS)), strict=True):
        filled = Spool(folder / f"{start}.arrow")
        for name, content in ROWS[start:stop]:
            filled.add(sample(name, f"{name} {content}", bytes([content]) * 300), content, 3)
        filled.close()
        paths.append(filled.path)
    return Spooled(paths)


SIZES = [(256, 32 << 20), (7, 32 << 20), (256, 1000)]


@pytest.mark.parametrize(("rows", "size"), SIZES)
@pytest.mark.parametrize("cuts", [(), (23,), (1, 2, 40)])
def test_spools_give_back_each_sample_once(
    tmp_path: Path, rows: int, size: int, cuts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "ROWS", rows)
    monkeypatch.setattr(spool, "BYTES", size)
    found = spooled(tmp_path, *cuts)
    table = pa.concat_tables(found.chunks())
    assert table.schema.equals(SAMPLE)
    names = table["id"].to_pylist()
    assert len(names) == len(set(names)) == len(set(ROWS)) == len(found.keys)
    assert table["key"].to_pylist() == [key_of(name) for name in names] == found.keys.tolist()
    for row in table.to_pylist():
        assert row["conversation"][0]["text"].split() == [row["id"].split("~")[0], str(row["images"][0]["bytes"][0])]
        assert (row["conversation"][1]["context"], row["metric"], row["arrival"]) == (True, "vqa", 3)
    told = [
        (mark, name) for marks, ids in found.rows() for mark, name in zip(marks.tolist(), ids.to_pylist(), strict=True)
    ]
    assert [mark for mark, _ in told] == [key_of(apart_id(*row)) for row in ROWS]
    assert {name for _, name in told} == set(names)


@pytest.mark.parametrize(("rows", "size"), SIZES)
@pytest.mark.parametrize("most", [7, 30, 4096])
def test_tasks_hold_so_many_samples_at_most_and_all_of_them(
    tmp_path: Path, rows: int, size: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "ROWS", min(rows, most))
    monkeypatch.setattr(spool, "BYTES", size)
    found = spooled(tmp_path, 23)
    tasks = found.tasks(most, tmp_path / "release")
    assert all(0 < task.rows <= most for task in tasks)
    assert len({task.what["part"] for task in tasks}) == len(tasks) == len({task.name for task in tasks})
    given = [table for task in tasks for _, table in spooled_samples(**task.what)]
    assert [task.rows for task in tasks] == [
        sum(len(table) for _, table in spooled_samples(**task.what)) for task in tasks
    ]
    assert pa.concat_tables(given).equals(pa.concat_tables(found.chunks()))


def test_a_task_holds_so_many_bytes_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "ROWS", 1)
    monkeypatch.setattr(spool, "BYTES_OF_A_PART", 1600)
    assert max(task.rows for task in spooled(tmp_path).tasks(4096)) == 3, "of 508 bytes each"


def test_what_became_of_ids_is_told_with_two_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "ROWS", 4)
    found = spooled(tmp_path, 21)
    told = found.told(0, len(ROWS))
    kinds = Counter(name for name, _ in set(ROWS))
    assert told["ids told apart"].count == sum(kinds[name] > 1 for name, _ in ROWS)
    assert told["rows equal to an earlier one, one sample"].count == len(ROWS) - len(set(ROWS))
    assert told["ids told apart"].examples == ["d/0", "d/1"]
    late = found.told(20, 30)["ids told apart"]
    assert (late.count, late.examples) == (10, ["d/6", "d/0"])


MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from liit.engine.data import spool

def sample(name, data):
    turns = [{"role": "user", "text": "<image>"}, {"role": "assistant", "text": "a"}]
    return {"id": name, "dataset": "d", "conversation": turns, "images": [{"path": None, "bytes": data}]}

folder, size = Path(sys.argv[1]), 1 << 20
held = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rng = np.random.default_rng(0)
spool.BYTES, spool.BYTES_OF_A_PART = 4 << 20, 16 << 20
before = held()
filled = spool.Spool(folder / "s.arrow")
for n in range(256):
    filled.add(sample(f"d/{n}", rng.bytes(size)), n, 0)
found = filled.settle()
tasks = found.tasks(4096, folder)
rows = sum(len(table) for task in tasks for _, table in spool.spooled_samples(**task.what))
print(rows, (held() - before) // 1024)
"""


def test_a_quarter_of_a_gibibyte_of_pictures_passes_through_little_memory(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", MEMORY, str(tmp_path)], capture_output=True, text=True, check=True)
    rows, mebibytes = map(int, done.stdout.split())
    assert rows == 256
    assert mebibytes < 128, f"{mebibytes} MiB for 256 MiB of pictures"
