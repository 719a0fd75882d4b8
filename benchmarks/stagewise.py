"""The driver's stages of the last of six timesteps, each in a process of its own, over a pool that is written and not run for.

    python benchmarks/stagewise.py [--count N ...] [--folder FOLDER] [--stage NAME ...] [--json FILE]

Releases, the pool before and the profile are made from keys alone (`stand_ins.py`); what is measured is the driver's: seconds and
peak of anonymous memory above the start, each also per sample. With several counts also the slope of log time over log count.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from liit.engine.fleet.parts import rows_of_a_part
from liit.engine.freeing import ALLOCATOR, free_at_once
from liit.engine.run.files import write_table
from liit.engine.run.tables import POOL, QUARANTINE, REMOVED, SAMPLE, key_of
from liit.engine.settings.config import Config, read

RELEASES, LITE, SKETCH, EMBEDDING = 6, 100_000, 256, 128
SCORES = ("nll", "image_grounding", "el2n", "entropy")
console = Console(width=120)


def releases(folder: Path) -> list[Path]:
    return [folder / f"run/releases/{t:02d}-r{t}.parquet" for t in range(RELEASES)]


def prepare(folder: Path, count: int) -> None:
    """Releases, the timestep before, and the profiles of the last one: of the whole pool, and of Lite's."""
    if (folder / "whole").is_file():
        return
    for name in ("run/releases", "run/t04", "run/t05", "lite/t04", "lite/t05"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2) as workers:
        list(workers.map(write_release, releases(folder), range(RELEASES), [count // RELEASES] * RELEASES))
    old = pa.concat_tables([pq.read_table(path, columns=POOL.names) for path in releases(folder)[:-1]]).sort_by("key")
    few = old.slice(0, min(LITE, len(old)))
    for name, before in (("run", old), ("lite", few)):
        write_table(folder / name / "t04/pool.parquet", before)
        gone = [{"id": id_, "reason": "pruned"} for id_ in before["id"].slice(0, len(before) // 100).to_pylist()]
        write_table(folder / name / "t04/removed.parquet", pa.Table.from_pylist(gone, schema=REMOVED))
        write_table(folder / name / "t04/quarantine.parquet", QUARANTINE.empty_table())
        grow(folder, folder / name)()
        now = pq.read_table(folder / name / "t05/pool.parquet")
        tasks = [
            part.slice(start, 4096)
            for t in range(RELEASES)
            for part in [now.filter(pa.array(now["arrival"].to_numpy() == t))]
            for start in range(0, len(part), 4096)
        ]
        profile = folder / name / "t05/profile"
        profile.mkdir(exist_ok=True)
        with ProcessPoolExecutor(2) as workers:
            list(workers.map(write_part, [profile] * len(tasks), range(len(tasks)), tasks, chunksize=8))
        (profile / "columns.json").write_text("{}")
    (folder / "whole").touch()


def write_release(path: Path, t: int, count: int) -> None:
    ids = [f"r{t}/{number}" for number in range(count)]
    keys_n = np.array([key_of(one) for one in ids], np.uint64)
    order = np.argsort(keys_n)
    with pq.ParquetWriter(path, SAMPLE) as writer:
        for start in range(0, count, 1 << 16):
            rows = order[start : start + (1 << 16)]
            keys = keys_n[rows]
            turns = [
                [
                    {"role": "user", "text": f"What is {number}?", "context": None},
                    {"role": "assistant", "text": f"It is {number}.", "context": None},
                ]
                for number in rows.tolist()
            ]
            content = np.stack([keys, keys + np.uint64(1)], 1)
            content[keys % np.uint64(1000) == 0] = 7  # copies
            columns = {
                "id": pa.array([ids[row] for row in rows.tolist()]),
                "key": pa.array(keys),
                "dataset": pa.array([f"r{t}"] * len(rows)),
                "arrival": pa.array(np.full(len(rows), t, np.int32)),
                "task": pa.nulls(len(rows), pa.string()),
                "conversation": pa.array(turns, SAMPLE.field("conversation").type),
                "images": pa.array([[]] * len(rows), SAMPLE.field("images").type),
                "references": pa.nulls(len(rows), SAMPLE.field("references").type),
                "metric": pa.nulls(len(rows), pa.string()),
                "length": pa.array((20 + keys % np.uint64(200)).astype(np.int32)),
                "content": pa.array([row.tobytes() for row in content], pa.binary(16)),
            }
            writer.write_table(pa.table(columns, schema=SAMPLE), row_group_size=rows_of_a_part(count))


def write_part(profile: Path, number: int, rows: pa.Table) -> None:
    from stand_ins import profiled

    from liit.engine.scoring.profile_spec import ProfilerSpec
    from liit.engine.settings.specs import SketchSpec

    spec = ProfilerSpec("", scores=SCORES, sketches={"sketch": SketchSpec(dimension=SKETCH)}, embedding=EMBEDDING)
    table = profiled(rows["id"].combine_chunks(), rows["key"].to_numpy(), spec, "m")
    pq.write_table(table, profile / f"part-{number:06d}.parquet", compression="none", use_dictionary=False)


def grow(folder: Path, run: Path) -> Callable[[], object]:
    from liit.engine.data.pool import grow
    from liit.engine.settings.sections import Pool

    return lambda: grow(run / "t04", releases(folder), [], Pool(), run / "t05/pool.parquet", 5)


def cluster(folder: Path, run: Path) -> Callable[[], object]:
    from liit.engine.choosing.clustering import cluster_pool

    grid = Config().clustering.k_grid
    return lambda: cluster_pool(run / "t05/profile", "sketch", grid, 0, run / "t05/clusters.parquet")


def selecting(*told: str) -> Callable[[Path, Path], Callable[[], object]]:
    def select_(folder: Path, run: Path) -> Callable[[], object]:
        from liit.engine.choosing.selection import select

        config = read(None, ["strategy.name=adapt-inf", *told])
        target = run / "t05/selection.parquet"
        return lambda: select(run / "t05", 5, RELEASES, releases(folder), config, {}, target)

    return select_


def prune(folder: Path, run: Path) -> Callable[[], object]:
    from liit.engine.choosing.pruning import prune_pool
    from liit.engine.settings.config import read

    limit = LITE if run.name == "lite" else None
    config = read(None, ["strategy.name=lite-adapt-inf"])
    return lambda: prune_pool(run / "t05", limit, run / "t05/removed.parquet", 5, config)


def planning(folder: Path, run: Path) -> Callable[[], object]:
    from liit.engine.fleet.parts import tasks_of

    keys_N = pq.read_table(run / "t05/pool.parquet", columns=["key"])["key"].to_numpy()
    return lambda: tasks_of(releases(folder), keys_N)


STAGES: dict[str, Callable[[Path, Path], Callable[[], object]]] = {
    "grow": grow,
    "plan": planning,
    "cluster": cluster,
    "tokens": selecting("strategy.unit=tokens", "strategy.budget=2000000"),
    "select": selecting(),
    "prune": prune,
}


def child(stage: str, folder: Path, run: Path) -> dict[str, float]:
    from watching import Watch, anonymous

    free_at_once()
    work = STAGES[stage](folder, run)
    start = anonymous()
    with Watch() as watch:
        work()
    return {"seconds": watch.seconds, "cpu": watch.cpu, "above_start": watch.peak - start}


def measured(stage: str, folder: Path, run: Path) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", __file__, "--child", stage, str(folder), str(run)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {ALLOCATOR: "system"})
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    rows = pq.read_metadata(run / "t05/pool.parquet").num_rows
    found |= {"rows": rows, "bytes_a_sample": found["above_start"] / rows}
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, nargs="+", default=[60_000, 250_000])
    parser.add_argument("--folder", type=Path, default=Path("build/millions"))
    parser.add_argument("--stage", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--pool", nargs="+", choices=["run", "lite"], default=["run", "lite"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        stage, folder, run = options.child
        sys.stdout.write(json.dumps(child(stage, Path(folder), Path(run))) + "\n")
        return
    found: dict[str, dict[str, Any]] = {}
    for count in options.count:
        folder = options.folder / f"stages-{count}"
        prepare(folder, count)
        for name in options.pool:
            for stage in options.stage:
                one = found.setdefault(f"{name} {stage}", {})[str(count)] = measured(stage, folder, folder / name)
                console.print(
                    f"{count:>9,} {name:4} {stage:8} {one['seconds']:8.2f} s, cpu {one['cpu']:8.2f} s, "
                    f"{one['above_start'] / 1e6:7.0f} MB, {one['bytes_a_sample']:6.0f} bytes a sample of {one['rows']:,}"
                )
    for name, by_count in found.items():
        if len(by_count) > 1:
            few, many = by_count[min(by_count, key=int)], by_count[max(by_count, key=int)]
            slope = math.log(many["seconds"] / few["seconds"]) / math.log(many["rows"] / few["rows"])
            console.print(f"{name}: slope {slope:.2f}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
