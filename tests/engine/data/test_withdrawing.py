"""What may be used no more is found by its id, its words or its pictures, and nothing else is."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from liit.engine.data import image_hashes, source_rows
from liit.engine.data.copies import content_hash, text_hash
from liit.engine.data.pool import grow
from liit.engine.data.reading import take
from liit.engine.data.source_rows import lost, write_source_rows
from liit.engine.data.spool import Spool
from liit.engine.data.withdrawing import Withdrawn, read_lines
from liit.engine.run.files import read_table, write_table
from liit.engine.run.tables import SAMPLE, key_of
from liit.engine.settings.sections import Pool
from liit.engine.settings.streams import Release


def sample(name: str, words: str, picture: bytes | None = None) -> dict[str, Any]:
    turns = [{"role": "user", "text": words}, {"role": "assistant", "text": "yes"}]
    return {
        "id": name,
        "key": key_of(name),
        "dataset": "d",
        "arrival": 0,
        "conversation": turns,
        "images": [] if picture is None else [{"path": None, "bytes": picture}],
        "content": content_hash(turns, []),
    }


@pytest.fixture
def release(tmp_path: Path) -> Path:
    path = tmp_path / "releases" / "00-d.parquet"
    path.parent.mkdir()
    rows = [
        sample("d/a", "one"),
        sample("d/b~0123456789abcdef", "two"),
        sample("d/c", "three", b"cat"),
        sample("d/d", "Four  "),
        sample("d/e", "five", b"dog"),
    ]
    write_table(path, pa.Table.from_pylist(rows, schema=SAMPLE))
    return path


TEXT = text_hash(sample("x", "FOUR")["conversation"]).hex()
CONTENT = content_hash(sample("x", "one")["conversation"], []).hex()
CAT = hashlib.sha256(b"cat").hexdigest()


@pytest.mark.parametrize(
    ("line", "gone"),
    [
        ("id: d/a", {"d/a"}),
        ("id: d/b # its owner asked", {"d/b~0123456789abcdef"}),
        ("id: d/b~0123456789abcdef", {"d/b~0123456789abcdef"}),
        (f"image: {CAT}", {"d/c"}),
        (f"content: {TEXT}", {"d/d"}),
        (f"content: {CONTENT}", {"d/a"}),
        ("id: d/none", set()),
    ],
)
def test_a_line_withdraws_what_it_names(release: Path, line: str, gone: set[str]) -> None:
    found = Withdrawn.of([line]).among([release])
    assert set(found) == gone
    assert set(found.values()) <= {"", "its owner asked"}


def test_lines_are_read_and_what_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "gone.txt"
    path.write_text(f"# a licence ended\nid: d/a   # why\n\nimage: {CAT}\nid: d/a # why\n")
    assert read_lines(path) == ("id: d/a # why", f"image: {CAT}")
    path.write_text("id: d/a\nimage: cat.png\n")
    with pytest.raises(ValueError, match=r"gone.txt:2: 'image: cat.png' is no `id: <id>`"):
        read_lines(path)
    with pytest.raises(ValueError, match="No such file"):
        read_lines(tmp_path / "none.txt")


def test_from_its_timestep_on_it_is_in_no_pool_and_accounted_for(release: Path, tmp_path: Path) -> None:
    rules = Pool(withdrawals={1: ("id: d/a",)})
    for t, gone in enumerate((set(), {"d/a"})):
        step = tmp_path / f"t{t:02d}"
        step.mkdir()
        grow(None, [release], [], rules, step / "pool.parquet", t)
        kept = set(read_table(step / "pool.parquet")["id"].to_pylist())
        left = {row["id"]: row["reason"] for row in read_table(step / "copies.parquet").to_pylist()}
        assert left == dict.fromkeys(gone, "withdrawn")
        assert kept | gone == set(read_table(release)["id"].to_pylist())
        assert not kept & gone


def published(path: Path, rows: list[dict[str, Any]]) -> Release:
    path.write_text(json.dumps(rows))
    return Release(name="d", path=str(path))


def talk(name: str, words: str) -> dict[str, Any]:
    return {"id": name, "conversations": [{"from": "human", "value": words}, {"from": "gpt", "value": "yes"}]}


def test_a_file_says_which_of_its_samples_it_has_lost(tmp_path: Path) -> None:
    """Ids that were told apart keep what they were given, and a row that is new makes another release of it."""
    rows = [talk("a", "one"), talk("b", "two"), talk("b", "three"), {"id": "bad", "conversations": []}]
    release = published(tmp_path / "d.json", rows)
    spool = Spool(tmp_path / "spool.arrow")
    taken = take(release, 0, spool)
    spooled = spool.settle()
    marks = tmp_path / "rows.parquet"
    write_source_rows(marks, spooled.rows(), taken.bad)
    names = dict(
        zip(("one", "two", "three"), (name for _, ids in spooled.rows() for name in ids.to_pylist()), strict=True)
    )
    assert names["two"] != names["three"]
    assert lost(marks, release) == set()
    assert lost(marks, published(tmp_path / "d.json", [rows[3], rows[2], rows[0]])) == {names["two"]}
    assert lost(marks, published(tmp_path / "d.json", rows[:3])) == set(), "a row that was no sample is gone"
    assert lost(marks, published(tmp_path / "d.json", [*rows, talk("c", "new")])) is None
    assert lost(marks, published(tmp_path / "d.json", [talk("a", "other"), *rows[1:]])) is None


def test_hashes_of_images_are_kept_beside_a_release(release: Path) -> None:
    table = image_hashes.images_of(release)
    assert table.to_pylist() == [
        {"id": "d/c", "image": bytes.fromhex(CAT)},
        {"id": "d/e", "image": hashlib.sha256(b"dog").digest()},
    ]
    assert image_hashes.beside(release).is_file()
    assert source_rows.beside(release).parent.name == "rows"
