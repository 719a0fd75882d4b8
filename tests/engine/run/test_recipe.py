"""A record has the size of every file beside its hash, and says by it what has changed; one that has none is read as before."""

from pathlib import Path

import pytest

from liit.engine.run.fingerprints import contents
from liit.engine.run.recipe import Recipe


def read_from(path: Path, text: str, rows: int | None = None) -> Recipe:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return Recipe("releases/00-b.parquet", files=contents([path]), rows=None if rows is None else lambda: rows)


def test_a_record_has_the_bytes_of_every_file_and_of_what_is_in_a_folder(tmp_path: Path) -> None:
    one = read_from(tmp_path / "b.json", "å" * 700)
    assert one.record()["sizes"] == {str(tmp_path / "b.json"): 1400}
    (tmp_path / "many" / "deep").mkdir(parents=True)
    for name in ("a.json", "deep/c.json"):
        (tmp_path / "many" / name).write_text("12345")
    assert Recipe("x", files=contents([tmp_path / "many"])).record()["sizes"] == {str(tmp_path / "many"): 10}


@pytest.mark.parametrize(
    ("text", "rows", "said"),
    [
        ("a" * 1500, (None, None), ": 1,400 → 1,500 bytes"),
        ("a" * 1500, (150, 149), ": 150 → 149 rows"),
        ("a" * 1500, (150, 150), ": 1,400 → 1,500 bytes"),
        ("b" * 1400, (150, 150), " has changed"),
    ],
)
def test_what_has_changed_is_said_by_what_differs(
    tmp_path: Path, text: str, rows: tuple[int | None, int | None], said: str
) -> None:
    before = read_from(tmp_path / "here" / "b.json", "a" * 1400, rows[0])
    record = before.record() | ({} if rows[0] is None else {"rows": rows[0]})
    moved = read_from(tmp_path / "there" / "b.json", "a" * 1400)
    assert moved.fingerprint == before.fingerprint
    now = read_from(tmp_path / "there" / "b.json", text, rows[1])
    assert now.differences(record) == (f"{tmp_path}/there/b.json{said}",)


def test_a_record_without_sizes_is_compared_by_content_alone(tmp_path: Path) -> None:
    one = read_from(tmp_path / "b.json", "same")
    record = {key: value for key, value in one.record().items() if key != "sizes"}
    assert one.differences(record) == ()
    assert record["fingerprint"] == one.fingerprint
    assert read_from(tmp_path / "b.json", "other").differences(record) == (f"{tmp_path / 'b.json'} has changed",)
