"""A run folder that has moved finds its own images where it is now, and leaves other people's where they are."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.data.moving import move_images
from liit.engine.run.tables import SAMPLE


@pytest.mark.parametrize("later", [None, "elsewhere"], ids=["where it is", "where it will be"])
@pytest.mark.parametrize("parts", [False, True], ids=["one file", "parts"])
def test_paths_inside_the_folder_move_with_it(tmp_path: Path, later: str | None, parts: bool) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    to = new if later is None else tmp_path / later
    (new / "data").mkdir(parents=True)
    (new / "releases").mkdir()
    place = {"row": 3, "at": ["image", "bytes"], "offset": None, "size": 9, "mark": 7}
    inside = {"path": "data/a.png", "bytes": None, "place": None}
    shard = {"path": "data/b.parquet", "bytes": None, "place": place}
    others = [{"path": "/share/b.png", "bytes": None, "place": None}, {"path": None, "bytes": b"c", "place": None}]

    def images(at: Path) -> list[Any]:
        return [
            [{**one, "path": str(at / one["path"])} for one in (inside, shard)] + others[:1],  # type: ignore[operator]
            others[1:],
            [],
        ]

    rows = [{"id": f"d/{n}", "images": one} for n, one in enumerate(images(old))]
    table = pa.Table.from_pylist(rows, schema=SAMPLE)
    path = new / "releases" / "00-d.parquet"
    if parts:
        path.mkdir()
        path = path / "part-000000.parquet"
    pq.write_table(table, path, row_group_size=1)
    move_images(new, old, None if later is None else to)
    moved = pq.read_table(path)
    assert moved.schema.equals(table.schema)
    assert moved["images"].to_pylist() == images(to)
    changed = path.stat().st_mtime_ns
    move_images(new, old, None if later is None else to)
    assert path.stat().st_mtime_ns == changed, "nothing is left to move"
