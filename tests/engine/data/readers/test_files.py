"""Every file of a folder is read or named: splits, subfolders, patterns, mixtures."""

import json
from pathlib import Path

import pytest

from liit.engine.data.readers import formats
from tests.engine.data.readers.written import read, release, row, write


def make(folder: Path, *names: str) -> None:
    """A file of one sample by its name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([row(name)]))


def names(path: Path | str, **settings: object) -> list[str]:
    return [sample["id"].removeprefix("mine/") for sample in read(path, **settings)[0]]


def left_out(path: Path | str, **settings: object) -> list[str]:
    return formats.read(release(path, **settings)).counts.left_out


def test_a_folder_of_files_is_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text(json.dumps([row(2), row(1)]))
    (tmp_path / "a.jsonl").write_text(json.dumps(row(1)) + "\n")
    (tmp_path / "notes.txt").write_text("no samples")
    (tmp_path / ".c.json").write_text("hidden")
    samples, bad, _ = read(tmp_path)
    assert ([sample["id"] for sample in samples], bad) == (["mine/1", "mine/2"], [])


SHARDS = ("train-00000-of-00002.json", "train-00001-of-00002.json", "validation-00000-of-00001.json", "test.json")


def test_of_several_splits_train_is_read_and_the_others_are_named(tmp_path: Path) -> None:
    make(tmp_path, *SHARDS)
    assert names(tmp_path) == list(SHARDS[:2])
    assert left_out(tmp_path) == ["files of other splits: 1 of test, 1 of validation"]
    for split, there in (
        ("train", SHARDS[:2]),
        ("validation", SHARDS[2:3]),
        ("val", SHARDS[2:3]),
        ("test", SHARDS[3:]),
    ):
        assert names(tmp_path, split=split) == list(there)
    assert names(tmp_path, split="test", skill="s") == ["test.json"]


@pytest.mark.parametrize(
    ("split", "others"),
    [("dev", ("testA", "validation")), ("validation", ("dev", "testA")), ("testA", ("dev", "validation"))],
)
def test_shards_of_the_very_name_that_is_asked_for_are_read_alone(
    tmp_path: Path, split: str, others: tuple[str, str]
) -> None:
    make(tmp_path, *(f"{one}-00000-of-00001.json" for one in (split, *others)))
    assert names(tmp_path, split=split) == [f"{split}-00000-of-00001.json"]
    assert names(tmp_path / "*.json", split=split) == [f"{split}-00000-of-00001.json"]
    assert left_out(tmp_path, split=split) == [f"files of other splits: 1 of {others[0]}, 1 of {others[1]}"]


@pytest.mark.parametrize(
    ("there", "settings", "says"),
    [
        (SHARDS, {"skill": "s"}, "holds test, train, validation; say split: to read one of them"),
        (SHARDS, {"split": "dessert"}, "has no split 'dessert': it holds test, train, validation"),
        (("a.json",), {"split": "train"}, "has no split 'train': its names say nothing of splits"),
        (("val.json", "test.json"), {}, "holds test, validation; say split:"),
        (("llava.json", "llava_val.json"), {}, "holds files of validation, and others such as llava.json; say split:"),
        (
            ("train_sft-00000-of-00001.json", "train_gen-00000-of-00001.json"),
            {},
            "holds train_gen, train_sft; say split:",
        ),
        (("sub/a.json", "other/b.json"), {}, "its subfolders other, sub do: recursive: true reads them"),
        ((), {}, "neither a file nor a folder that holds .json or .jsonl"),
    ],
    ids=str,
)
def test_a_folder_that_leaves_a_choice_is_refused(
    tmp_path: Path, there: tuple[str, ...], settings: dict[str, str], says: str
) -> None:
    make(tmp_path, *there)
    with pytest.raises(ValueError, match="release mine: ") as error:
        read(tmp_path, **settings)
    assert says in str(error.value)


def test_a_single_split_is_read_whatever_it_is(tmp_path: Path) -> None:
    make(tmp_path, "test-00000-of-00002.json", "test-00001-of-00002.json")
    assert len(names(tmp_path)) == len(names(tmp_path, skill="s")) == 2
    assert left_out(tmp_path) == []


def test_splits_of_their_own_name_are_chosen_by_it(tmp_path: Path) -> None:
    make(tmp_path, "train_sft-00000-of-00001.json", "train_gen-00000-of-00001.json")
    assert names(tmp_path, split="train_sft") == ["train_sft-00000-of-00001.json"]


@pytest.mark.parametrize(
    "name", ["latest.json", "contest.json", "constraint.json", "evaluator.json", "traindata2.json"]
)
def test_a_word_inside_another_names_no_split(tmp_path: Path, name: str) -> None:
    make(tmp_path, name, "a.json")
    assert names(tmp_path) == sorted([name, "a.json"])


def test_subfolders_are_read_on_request_and_named_otherwise(tmp_path: Path) -> None:
    make(tmp_path, "a.json", "chart/b.json", "chart/deep/c.json", ".cache/d.json")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "x.png").write_bytes(b"x")
    assert names(tmp_path) == ["a.json"]
    assert left_out(tmp_path) == ["subfolders chart; recursive: true reads them too"]
    assert names(tmp_path, recursive=True) == ["a.json", "chart/b.json", "chart/deep/c.json"]
    assert left_out(tmp_path, recursive=True) == []


def test_folders_may_be_splits(tmp_path: Path) -> None:
    make(tmp_path, "train/a.json", "test/a.json", "val/a.json")
    assert names(tmp_path, recursive=True) == ["train/a.json"]
    assert names(tmp_path, recursive=True, split="test") == ["test/a.json"]


def test_a_pattern_names_files_itself(tmp_path: Path) -> None:
    make(tmp_path, *SHARDS, "sub/a.json", "sub/b.json")
    assert names(f"{tmp_path}/sub/*.json") == ["sub/a.json", "sub/b.json"]
    assert names(f"{tmp_path}/**/?.json") == ["sub/a.json", "sub/b.json"]
    assert names(f"{tmp_path}/*.json") == sorted(SHARDS)
    assert names(f"{tmp_path}/*.json", split="test") == ["test.json"]
    with pytest.raises(ValueError, match="no file matches the pattern"):
        read(f"{tmp_path}/sub/*.parquet")


def test_image_paths_of_a_pattern_are_relative_to_where_it_begins(tmp_path: Path) -> None:
    make(tmp_path, "sub/a.json")
    assert formats.read(release(f"{tmp_path}/*/a.json")).folder == str(tmp_path)
    assert formats.read(release(tmp_path / "sub")).folder == str(tmp_path / "sub")
    assert formats.read(release(tmp_path / "sub" / "a.json")).folder == str(tmp_path / "sub")


def test_files_of_two_kinds_are_not_mixed_by_chance(tmp_path: Path) -> None:
    make(tmp_path, "a.json", "b.parquet")
    with pytest.raises(ValueError, match="holds files of JSON and Parquet; say format:, or name them by a pattern"):
        read(tmp_path)
    assert names(tmp_path, format="llava") == ["a.json"]


def test_what_is_missing_stops_the_run_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"release mine: .*absent\.json is neither a file nor a folder that holds .json or"
    ):
        read(tmp_path / "absent.json")
    with pytest.raises(ValueError, match=r"a repository of the hub is hf://datasets/owner/name"):
        read("owner/name")
    with pytest.raises(ValueError, match=r"split: train is of a folder, and .*samples\.json is one file"):
        read(write(tmp_path, row(1)), split="train")
    with pytest.raises(ValueError, match=r"release mine: image folder .*nowhere does not exist"):
        read(write(tmp_path, row(1)), images=str(tmp_path / "nowhere"))


def test_the_first_rows_are_some_of_every_file(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.json").write_text(json.dumps([row(f"{name}{n}") for n in range(10)]))
    for first, expected in ((7, ["a0", "a1", "a2", "b0", "b1", "b2", "c0"]), (2, ["a0", "b0"]), (99, None)):
        found = [
            one["id"].removeprefix("mine/") for one in formats.read(release(tmp_path), first) if isinstance(one, dict)
        ]
        assert found == expected or (expected is None and len(found) == 30)
