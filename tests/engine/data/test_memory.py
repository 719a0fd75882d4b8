"""Releases that hold their pictures need memory for what is looked at, not for all: each step in a process of its own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.run.tables import SAMPLE, key_of

ROOT = Path(__file__).resolve().parents[3]
ROWS, PICTURE = 400, 1 << 20
ALLOWED = 240 << 20
"""Bytes above the start; the release holds 400."""
STEPS = {
    "selected": "table = samples([release], pa.chunked_array([[f'd/{n}' for n in range(0, 400, 50)]])); assert len(table) == 8",
    "read by scoring": """
keys = np.sort(pq.read_table(release, columns=['key'])['key'].to_numpy())
tasks = tasks_of([release], keys)
assert len(tasks) == 25
assert sum(len(batch) for task in tasks for batch in Batches(4, 1 << 20)(**task.what)) == 400
""",
    "trained from": """
every = pa.chunked_array([[f'd/{n}' for n in range(400)]])
write_rows(folder / 'rows.arrow', streamed([release], every))
rows = Rows(folder / 'rows.arrow')
assert {rows[n]['images'][0]['bytes'][:4] for n in np.random.default_rng(0).permutation(400).tolist()} == first
""",
    "examined on": """
from liit.engine.evaluation.evaluation import keep_first_of_each
before = peak()
shutil.copy(release, folder / 'exam.parquet')
keep_first_of_each(folder / 'exam.parquet', {'d': 300})
assert sum(len(chunk) for chunk in read_chunks([folder / 'exam.parquet'])) == 300
""",
    "ingested": """
spool = Spool(folder / 'spool.arrow')
source = Release(name='e', path=str(release.with_name('published.parquet')))
taken = take(source, 1, spool)
assert (len(spool), taken.bad) == (400, [])
spooled = spool.settle()
assert spool.path.stat().st_size < 1 << 20, 'pictures stay where they are'
tasks = spooled.tasks(4096)
assert len(tasks) > 3
given = (one for task in tasks for _, rows in spooled_samples(**task.what) for one in rows.to_pylist())
assert sum(bytes_of(one['images'][0])[:4] in first for one in given) == 400
""",
}


def write(path: Path, row: Callable[[int], dict[str, Any]], schema: pa.Schema | None) -> None:
    schema = schema or pa.Table.from_pylist([row(0)]).schema
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, ROWS, 16):
            writer.write_table(pa.Table.from_pylist([row(n) for n in range(start, start + 16)], schema=schema))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 samples with a picture of a mebibyte each, in row groups of 16: bytes that nothing has to decode."""
    path, noise = tmp_path_factory.mktemp("large") / "release.parquet", np.random.default_rng(0).bytes(PICTURE)
    turns = [
        {"role": "user", "text": "<image>What?", "context": None},
        {"role": "assistant", "text": "x", "context": None},
    ]
    said = [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "x"}]
    common = {"dataset": "d", "arrival": 1, "conversation": turns, "length": 9}

    def kept(n: int) -> dict[str, Any]:
        return {"id": f"d/{n}", "key": key_of(f"d/{n}"), **common, "images": [picture(n)]}

    def picture(n: int) -> dict[str, Any]:
        return {"path": None, "bytes": n.to_bytes(4, "big") + noise}

    write(path, kept, SAMPLE)
    write(path.with_name("published.parquet"), lambda n: {"id": n, "conversations": said, "image": picture(n)}, None)
    return path


@pytest.mark.parametrize("step", STEPS)
def test_memory_does_not_grow_with_the_pictures_of_a_release(step: str, release: Path, tmp_path: Path) -> None:
    code = f"""
import resource, shutil
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from liit.engine.data.pool import samples, streamed
from liit.engine.data.reading import take
from liit.engine.data.rows import Rows, write_rows
from liit.engine.data.image_bytes import bytes_of
from liit.engine.data.spool import Spool, spooled_samples
from liit.engine.fleet.parts import Batches, read_chunks, tasks_of
import pyarrow.parquet as pq
from liit.engine.settings.streams import Release
release, folder = Path({str(release)!r}), Path({str(tmp_path)!r})
peak = lambda: 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
first = set(n.to_bytes(4, 'big') for n in range(400))
before = peak()
{STEPS[step]}
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < ALLOWED
