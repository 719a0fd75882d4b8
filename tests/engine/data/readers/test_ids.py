"""Ids repeat in published files: nothing is lost by it, and nothing depends on the order of rows."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from liit.engine.data.readers.ids import Ids, apart_id
from liit.engine.run.tables import key_of
from tests.engine.data.readers.written import ASK, SEE, TELL, png, read, row, said, write, write_parquet


def answer(text: str) -> dict[str, str]:
    return {"from": "gpt", "value": text}


def test_an_images_id_with_several_conversations_is_several_samples(folder: Path) -> None:
    """The ids of LLaVA-665K: 364,100 rows on 88,524 of them."""
    rows = [row("000001", SEE, answer(text), image="a.png") for text in ("red", "a square", "plain")]
    samples, bad, _ = read(write(folder, *rows, row("000002", SEE, TELL, image="a.png")))
    assert bad == []
    assert [said(sample)[1] for sample in samples] == ["red", "a square", "plain", "A seven."]
    names = [sample["id"] for sample in samples]
    assert len(set(names)) == 4
    assert all(name.startswith("mine/000001~") and len(name) == len("mine/000001~") + 16 for name in names[:3])
    assert names[3] == "mine/000002"


def test_equal_rows_are_one_sample_under_their_own_id(folder: Path) -> None:
    samples, bad, reader = read(write(folder, row(1), row("1"), row(1, model="ignored"), row(2)))
    assert [sample["id"] for sample in samples] == ["mine/1", "mine/2"]
    assert (bad, reader.counts.rows) == ([], 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"image": "b.png"},
        {"task": "t"},
        {"references": ["x"]},
        {"conversations": [SEE, TELL, ASK, TELL]},
        {"metric": "vqa"},
        {"conversations": [SEE, {**TELL, "weight": 0}, ASK, TELL]},
    ],
    ids=str,
)
def test_whatever_differs_tells_rows_apart(folder: Path, changes: dict[str, Any]) -> None:
    one = row(1, SEE, TELL, image="a.png")
    samples, bad, _ = read(write(folder, one, one | changes))
    assert (len({sample["id"] for sample in samples}), bad) == (2, [])


def test_ids_say_the_same_wherever_the_images_lie_and_however_they_are_stored(folder: Path, tmp_path: Path) -> None:
    rows = [row(1, SEE, answer(text), image="a.png") for text in ("red", "blue")]
    here, _, _ = read(write(folder, *rows))
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "a.png").write_bytes(png(9))
    there, _, _ = read(write(moved, *rows))
    assert [one["id"] for one in here] == [one["id"] for one in there]
    by_bytes = [{**one, "image": png(shade)} for one in rows for shade in (0, 1)]
    stored, _, _ = read(write_parquet(folder, by_bytes))
    assert len({one["id"] for one in stored}) == 4


def test_a_permuted_file_gives_the_permuted_ids() -> None:
    """Against the naive rule: an id with one content keeps its name, of any other all rows are told apart."""
    rng = np.random.default_rng(0)
    rows = [(f"d/{rng.integers(20)}", int(rng.integers(4))) for _ in range(200)]
    contents: dict[str, set[int]] = {}
    for name, content in rows:
        contents.setdefault(name, set()).add(content)
    expected = {(name, word): name if len(contents[name]) == 1 else apart_id(name, word) for name, word in rows}
    for _ in range(3):
        rng.shuffle(rows)
        ids = Ids()
        for name, content in rows:
            ids.add(name, content)
        settled = ids.settled()
        names = settled.ids(pa.array([name for name, _ in rows])).to_pylist()
        assert names == [expected[name, content] for name, content in rows]
        assert settled.key_N.tolist() == [key_of(name) for name in names]
        kept = [names[at] for at in np.flatnonzero(settled.stays_N)]
        assert sorted(kept) == sorted(expected.values())
        first = {one: at for at, one in reversed(list(enumerate(rows)))}
        assert np.flatnonzero(settled.stays_N).tolist() == sorted(first.values()), "of equal rows the first stays"


def test_no_rows_and_one_row_are_settled_too() -> None:
    assert len(Ids().settled().stays_N) == 0
    ids = Ids()
    ids.add("d/1", 5)
    assert ids.settled().stays_N.tolist() == [True]


def test_ids_that_would_meet_again_are_refused() -> None:
    ids = Ids()
    for name, content in (("d/a", 1), ("d/a", 2), (apart_id("d/a", 1), 3)):
        ids.add(name, content)
    with pytest.raises(ValueError, match="stand beside the ids that they are made of"):
        ids.settled()


def test_a_row_costs_24_bytes() -> None:
    ids = Ids()
    for number in range(1000):
        ids.add(f"d/{number}", number)
    assert sum(len(one) * one.itemsize for one in vars(ids).values()) == 24_000
