"""A run folder that a selection can be made in."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from liit.engine.run.files import write_table
from liit.engine.run.tables import POOL, QUARANTINE, REMOVED, SAMPLE, key_of, sort_by_key

SIZES = {"base": 90, "words": 120, "pairs": 60}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder whose third timestep has its pool: of every release the first five samples are gone, each else."""
    rows = [
        {"id": f"{name}/{i}", "dataset": name, "arrival": t, "task": "odd" if i % 2 else None, "length": 10 + i % 7}
        for t, (name, size) in enumerate(SIZES.items())
        for i in range(size)
    ]
    table = sort_by_key(pa.Table.from_pylist([row | {"key": key_of(str(row["id"]))} for row in rows], schema=SAMPLE))
    for t, name in enumerate(SIZES):
        (tmp_path / f"run/t{t:02d}").mkdir(parents=True)
        (tmp_path / "run/releases").mkdir(exist_ok=True)
        write_table(tmp_path / f"run/releases/{t:02d}-{name}.parquet", table.filter(pc.equal(table["dataset"], name)))
        gone = [{"id": f"{name}/{i}", "stage": "check", "reason": "torn"} for i in range(3)]
        write_table(tmp_path / f"run/t{t:02d}/quarantine.parquet", pa.Table.from_pylist(gone, schema=QUARANTINE))
        gone = [{"id": f"{name}/{i}", "reason": "duplicate"} for i in (3, 4)]
        for file in ("copies", "removed"):
            write_table(tmp_path / f"run/t{t:02d}/{file}.parquet", pa.Table.from_pylist(gone, schema=REMOVED))
    stays = pa.array([int(name.split("/")[1]) > 4 for name in table["id"].to_pylist()])
    write_table(tmp_path / "run/t02/pool.parquet", table.filter(stays).select(POOL.names))
    return tmp_path / "run"
