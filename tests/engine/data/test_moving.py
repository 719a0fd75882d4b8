"""A run folder that has moved finds its own images where it is now, and leaves other people's where they are."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.data.moving import move_images
from liit.engine.run.tables import SAMPLE


@pytest.mark.parametrize("later", [None, "elsewhere"], ids=["where it is", "where it will be"])
def test_paths_inside_the_folder_move_with_it(tmp_path: Path, later: str | None) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    to = new if later is None else tmp_path / later
    (new / "data").mkdir(parents=True)
    (new / "releases").mkdir()
    images = [
        [{"path": str(old / "data" / "a.png"), "bytes": None}, {"path": "/share/b.png", "bytes": None}],
        [{"path": None, "bytes": b"c"}],
        [],
    ]
    table = pa.Table.from_pylist([{"id": f"d/{n}", "images": one} for n, one in enumerate(images)], schema=SAMPLE)
    path = new / "releases" / "00-d.parquet"
    pq.write_table(table, path, row_group_size=1)
    move_images(new, old, None if later is None else to)
    moved = pq.read_table(path)
    assert moved.schema.equals(table.schema)
    assert moved["images"].to_pylist() == [
        [{"path": str(to / "data" / "a.png"), "bytes": None}, {"path": "/share/b.png", "bytes": None}],
        [{"path": None, "bytes": b"c"}],
        [],
    ]
    changed = path.stat().st_mtime_ns
    move_images(new, old, None if later is None else to)
    assert path.stat().st_mtime_ns == changed, "nothing is left to move"
