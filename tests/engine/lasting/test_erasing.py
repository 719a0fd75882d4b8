"""What is withdrawn is nowhere in the folder any more, and everything else is as it was."""

from pathlib import Path

import pyarrow as pa
import yaml

from liit.engine.data.copies import text_hash
from liit.engine.lasting.erasing import erase, pictures_outside, withdrawn_of
from liit.engine.run.files import read_table, write_table
from liit.engine.run.store import Store
from liit.engine.run.superseding import supersede
from liit.engine.run.tables import ANSWER, GENERATION, SAID, SAMPLE
from tests.engine.data.test_withdrawing import sample

SECRET = "the patient's name"


def run_with(root: Path) -> Path:
    """A folder with a release that says the secret, in the run as it stands and in one that it took the place of."""
    store = Store(root)
    rows = [sample("d/a", SECRET, b"portrait"), sample("d/b", "two", b"cat")]

    def write(partial: Path, clock: object) -> None:
        write_table(partial, pa.Table.from_pylist(rows, schema=SAMPLE))

    store.make("releases/00-d.parquet", write)
    answers = [{"id": row["id"], "answer": "it is", "value": 1.0} for row in rows]
    store.make(
        "t00/answers.parquet", lambda partial, clock: write_table(partial, pa.Table.from_pylist(answers, ANSWER))
    )
    turn = {"turn": 1, "question": SECRET, "reference": SECRET, "answer": SECRET, "value": 100.0}
    said = pa.Table.from_pylist([{"id": row["id"], **turn} for row in rows[:1]], SAID)
    store.make("t00/chat.parquet", lambda partial, clock: write_table(partial, said))
    given = [{"id": row["id"], "question": b"0123456789abcdef", "answer": "it is"} for row in rows]
    written = pa.Table.from_pylist(given, GENERATION)
    store.make("t00/generations.parquet", lambda partial, clock: write_table(partial, written))
    store.make("t00/x", lambda partial, clock: partial.write_text("x"))
    store.close()
    pool = {"withdrawals": {1: ["id: d/a # she asked"]}}
    (root / "config.yaml").write_text(yaml.safe_dump({"pool": pool, "stream": {"releases": [{"name": "d"}]}}))
    (root / "report.html").write_text(SECRET)
    supersede(root, {"t00/x": ("why",)})
    return root


def test_it_is_erased_everywhere_and_id_and_reason_stay(tmp_path: Path) -> None:
    root = run_with(tmp_path / "run")
    assert withdrawn_of(root) == {"d/a": "she asked"}
    done = erase(root)
    assert len(done) == 8, "four tables, in two folders"
    for path in root.rglob("*"):
        assert not path.is_file() or (
            SECRET.encode() not in path.read_bytes() and b"portrait" not in path.read_bytes()
        ), path
    for folder in (root, *(root / "superseded").iterdir()):
        first, second = read_table(folder / "releases/00-d.parquet").to_pylist()
        assert (first["id"], first["conversation"], first["images"]) == ("d/a", [], [])
        assert second["conversation"][0]["text"] == "two"
        for name in ("answers", "generations"):
            assert read_table(folder / f"t00/{name}.parquet")["answer"].to_pylist() == [None, "it is"]
        assert read_table(folder / "t00/generations.parquet")["question"].null_count == 0, "a hash says nothing"
        assert read_table(folder / "t00/chat.parquet")["value"].to_pylist() == [100.0]
    assert not (root / "report.html").exists()
    assert erase(root) == {}
    assert withdrawn_of(root) == {"d/a": "she asked"}


def test_what_was_found_by_its_words_is_known_after_they_are_erased(tmp_path: Path) -> None:
    root = run_with(tmp_path / "run")
    line = f"content: {text_hash(sample('x', SECRET)['conversation']).hex()}"
    settings = yaml.safe_load((root / "config.yaml").read_text()) | {"pool": {"withdrawals": {1: [line]}}}
    (root / "config.yaml").write_text(yaml.safe_dump(settings))
    assert list(withdrawn_of(root)) == ["d/a"]
    (root / "t01").mkdir()
    (root / "t01" / "x.partial").write_text(SECRET)
    erase(root)
    assert list(withdrawn_of(root)) == ["d/a"]
    assert not (root / "t01" / "x.partial").exists()


def test_pictures_that_stand_in_files_of_the_user_are_named(tmp_path: Path) -> None:
    """Of a release in parts, too."""
    root = run_with(tmp_path / "run")
    folder = root / "releases" / "01-e.parquet"
    folder.mkdir()
    place = {"row": 3, "at": ["image"], "offset": None, "size": 9, "mark": 7}
    rows = [sample("e/a", SECRET), sample("e/b", "two"), sample("e/c", "three")]
    for row, name in zip(rows, ("a", "a", "c"), strict=True):
        row["images"] = [{"path": f"/share/{name}.parquet", "bytes": None, "place": place}]
    for number, part in enumerate((rows[:1], rows[1:])):
        write_table(folder / f"part-{number:06d}.parquet", pa.Table.from_pylist(part, schema=SAMPLE))
    settings = yaml.safe_load((root / "config.yaml").read_text())
    settings |= {"pool": {"withdrawals": {1: ["id: e/a", "id: e/b"]}}}
    (root / "config.yaml").write_text(yaml.safe_dump(settings))
    assert pictures_outside(root, withdrawn_of(root)) == {Path("/share/a.parquet"): 2}
    assert erase(root) == {folder: 2}
    assert [row["images"] == [] for row in read_table(folder).to_pylist()] == [True, True, False]
    assert pictures_outside(root, withdrawn_of(root)) == {}
