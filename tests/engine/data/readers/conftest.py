"""A folder with pictures, one that is empty, and a link to one outside."""

from pathlib import Path

import pytest

from tests.engine.data.readers.written import png


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "release"
    inside.mkdir()
    for number, name in enumerate(("a", "b")):
        (inside / f"{name}.png").write_bytes(png(number))
    (inside / "empty.png").touch()
    (tmp_path / "outside.png").write_bytes(png())
    (inside / "link.png").symlink_to(tmp_path / "outside.png")
    return inside
