"""What the driver holds of a sample is a few numbers, and what it says of samples is what a plain loop says."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.choosing.summary import summarise
from liit.engine.data.pool import ids_of, lengths
from liit.engine.fleet.in_key_order import merged, written
from liit.engine.run.files import read_table, write_table
from liit.engine.run.tables import CLUSTERS, POOL, QUARANTINE, REMOVED, SAMPLE, SELECTION, SUMMARY, key_of, keys_of

ROOT = Path(__file__).resolve().parents[3]
FEW, MANY, ALLOWED = 100_000, 500_000, 100
"""Samples, and bytes of memory for each of those by which there are more."""
STEPS = {
    "the pool grown": "grow(run / 't00', [run / 'a.parquet', run / 'b.parquet'], [], Pool(), run / 't01/grown.parquet', 1)",
    "what selectors see": "pool_arrays(run / 't01', ('nll', 'el2n'), ('sketch',), True)",
    "the summary": "summarise(run / 't01', REMOVED.empty_table(), run / 't01/summary.parquet')",
}


def made(run: Path, count: int) -> None:
    """Two releases of half of the samples each, and the timestep at which the second came: pool, profile, clusters."""
    for name in ("t00", "t01/profile"):
        (run / name).mkdir(parents=True)
    tables = []
    for t, name in enumerate("ab"):
        keys = np.sort(np.random.default_rng(t).integers(2**63, size=count // 2, dtype=np.uint64))
        columns = {
            "id": pa.array([f"{name}/{key}" for key in keys.tolist()]),
            "key": pa.array(keys),
            "dataset": pa.array([name]).take(pa.array(np.zeros(len(keys), np.int32))),
            "arrival": pa.array(np.full(len(keys), t, np.int32)),
            "content": pa.array([key.tobytes() * 2 for key in keys], pa.binary(16)),
        }
        rest = {field.name: pa.nulls(len(keys), field.type) for field in SAMPLE if field.name not in columns}
        table = pa.table({field.name: (columns | rest)[field.name] for field in SAMPLE}, schema=SAMPLE)
        pq.write_table(table, run / f"{name}.parquet", row_group_size=4096)
        tables.append(table.select(POOL.names))
    pq.write_table(tables[0], run / "t00/pool.parquet", row_group_size=1 << 16)
    write_table(run / "t00/removed.parquet", REMOVED.empty_table())
    pool = pa.concat_tables(tables).sort_by("key")
    pq.write_table(pool, run / "t01/pool.parquet", row_group_size=1 << 16)
    numbers = pa.array(np.zeros(len(pool), np.float32))
    for start in range(0, len(pool), 4096):
        rows = pool.slice(start, 4096)
        few = numbers.slice(0, len(rows))
        status = pa.array(["ok"] * len(rows))
        profile = pa.table({"id": rows["id"], "key": rows["key"], "status": status, "nll": few, "el2n": few})
        pq.write_table(profile, run / f"t01/profile/part-{start:08d}.parquet", compression="none", use_dictionary=False)
    labels = pa.array(np.zeros(len(pool), np.int32))
    write_table(run / "t01/clusters.parquet", pa.table([pool["id"], pool["key"], labels, numbers], schema=CLUSTERS))


def above_start(step: str, run: Path) -> int:
    """Peak of anonymous memory of a process of its own, above what it had before the step."""
    code = f"""
import threading, time
from pathlib import Path
from typing import Any
from liit.engine.choosing.selection import pool_arrays
from liit.engine.choosing.summary import summarise
from liit.engine.data.pool import grow
from liit.engine.run.tables import REMOVED
from liit.engine.settings.sections import Pool
run, peak = Path({str(run)!r}), [0]
def anonymous():
    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('RssAnon')) * 1024
def watch():
    while True:
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.002)
before = anonymous()
threading.Thread(target=watch, daemon=True).start()
kept = {STEPS[step]}
print(max(peak[0], anonymous()) - before)
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    plain = os.environ | {
        "ARROW_DEFAULT_MEMORY_POOL": "system"
    }  # others keep what was freed, more or less of it by chance
    done = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    folder = tmp_path_factory.mktemp("growth")
    for count in (FEW, MANY):
        made(folder / str(count), count)
    return {count: folder / str(count) for count in (FEW, MANY)}


@pytest.mark.parametrize("step", STEPS)
def test_the_driver_holds_a_few_numbers_of_a_sample(step: str, runs: dict[int, Path]) -> None:
    few, many = (above_start(step, runs[count]) for count in (FEW, MANY))
    assert (many - few) / (MANY - FEW) < ALLOWED


def table_of(names: list[str], **columns: Any) -> pa.Table:
    return pa.table({"id": names, "key": keys_of(pa.chunked_array([names])), **columns})


def test_ids_and_lengths_come_in_the_order_of_the_keys_asked_for(tmp_path: Path) -> None:
    names = [f"a/{n}" for n in range(50)]
    write_table(tmp_path / "a.parquet", table_of(names, length=list(range(50))))
    asked = [names[n] for n in np.random.default_rng(0).integers(50, size=30)]
    keys = keys_of(pa.chunked_array([asked]))
    assert ids_of([tmp_path / "a.parquet"], keys).to_pylist() == asked
    own = np.unique(keys)
    length_of = {key_of(name): n for n, name in enumerate(names)}
    assert lengths([tmp_path / "a.parquet"], own).tolist() == [length_of[int(key)] for key in own]
    with pytest.raises(KeyError, match="1 samples are in no release"):
        ids_of([tmp_path / "a.parquet"], np.array([key_of("b/1")], np.uint64))


@pytest.mark.parametrize("in_order", [True, False])
def test_tables_are_merged_by_key_whatever_their_chunks(tmp_path: Path, in_order: bool) -> None:
    chance, tables = np.random.default_rng(0), []
    for number, count in enumerate((1, 700, 40)):
        keys = chance.integers(2**63, size=count, dtype=np.uint64)
        keys = np.sort(keys) if in_order else keys
        pq.write_table(pa.table({"key": keys}), tmp_path / f"{number}.parquet", row_group_size=7)
        tables.append(tmp_path / f"{number}.parquet")
    expected = np.sort(np.concatenate([read_table(table)["key"].to_numpy() for table in tables]))
    found = [chunk["key"].to_numpy() for chunk in merged(tables, ["key"])]
    assert np.array_equal(np.concatenate(found), expected)
    written(tmp_path / "some.parquet", merged(tables, ["key"]), expected[::3], pa.schema([("key", pa.uint64())]))
    assert np.array_equal(read_table(tmp_path / "some.parquet")["key"].to_numpy(), expected[::3])


def test_a_summary_counts_what_a_loop_over_all_samples_counts(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    names = [f"{'ab'[n % 2]}/{n}" for n in range(200)]
    keys = keys_of(pa.chunked_array([names]))
    order = np.argsort(keys)
    datasets = [name[0] for name in names]
    pool = pa.table([names, keys, datasets, np.zeros(200, np.int32)], schema=POOL).take(order)
    cluster = {name: int(chance.integers(3)) for name in names[20:]}
    scorer = {name: ("nll", None)[int(chance.integers(2))] for name in names[30:90]}
    gone = {**dict.fromkeys(names[80:120], "pruned"), "a/500": "duplicate", "b/501": "withdrawn"}
    write_table(tmp_path / "pool.parquet", pool)
    distance: list[object] = [0.0] * len(cluster)
    clusters = table_of(list(cluster), cluster=list(cluster.values()), distance=distance).cast(CLUSTERS)
    write_table(tmp_path / "clusters.parquet", clusters)
    chosen = {"id": list(scorer), "key": keys_of(pa.chunked_array([list(scorer)])), "scorer": list(scorer.values())}
    nulls = {field.name: pa.nulls(len(scorer), field.type) for field in SELECTION if field.name not in chosen}
    columns = {**chosen, **nulls}
    write_table(tmp_path / "selection.parquet", pa.table({n: columns[n] for n in SELECTION.names}, schema=SELECTION))
    bad = [
        {"id": "a/900", "dataset": "a", "stage": "read", "reason": "torn: x"},
        {"id": names[0], "dataset": "a", "stage": "score"},
    ]
    write_table(tmp_path / "quarantine.parquet", pa.Table.from_pylist(bad, schema=QUARANTINE))
    removed = pa.table([list(gone), list(gone.values()), [None] * len(gone)], schema=REMOVED)
    summarise(tmp_path, removed, tmp_path / "summary.parquet")
    samples: Counter[tuple[object, ...]] = Counter({("a", None, "quarantined", "torn"): 1})
    pruned: Counter[tuple[object, ...]] = Counter()
    for name in [*names, "a/500", "b/501"]:
        if name not in names:
            samples[name[0], None, "left out", gone[name]] += 1
            continue
        outcome = ("selected", scorer[name] or "chance") if name in scorer else ("not selected", None)
        samples[name[0], cluster.get(name), *outcome] += 1
        pruned[name[0], cluster.get(name), *outcome] += name in gone
    table = read_table(tmp_path / "summary.parquet")
    assert table.schema.equals(SUMMARY)
    group = SUMMARY.names[:4]
    assert {tuple(row[name] for name in group): row["samples"] for row in table.to_pylist()} == samples
    assert all(row["pruned"] == pruned[tuple(row[name] for name in group)] for row in table.to_pylist())
