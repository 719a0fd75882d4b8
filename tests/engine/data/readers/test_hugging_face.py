"""Folders of `datasets` are read by it, repositories of the hub from its cache at one commit; nothing else of them is needed."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from liit.engine.data.readers import formats, hugging_face
from tests.engine.data.readers.written import ASK, TELL, png, read, release, row, said, write_parquet

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def datasets() -> Any:
    return pytest.importorskip("datasets", reason="the extra `hub` is not installed")


def saved(datasets: Any, folder: Path, count: int = 3, **columns: Any) -> Path:
    """A data set with stored pictures, as `save_to_disk` writes it."""
    features = datasets.Features(
        {
            "id": datasets.Value("int64"),
            "messages": [{"from": datasets.Value("string"), "value": datasets.Value("string")}],
            "images": [datasets.Image()],
        }
    )
    rows = [
        {"id": n, "messages": [ASK, TELL], "images": [{"bytes": png(n), "path": None}] * (n % 3)} for n in range(count)
    ]
    datasets.Dataset.from_list(rows, features=features).save_to_disk(str(folder), **columns)
    return folder


def test_a_saved_data_set_is_read_with_its_pictures_as_they_are_stored(datasets: Any, tmp_path: Path) -> None:
    path = saved(datasets, tmp_path / "set", 8, num_shards=3)
    samples, bad, reader = read(path)
    assert [sample["id"] for sample in samples] == [f"mine/{n}" for n in range(8)]
    assert [[image["bytes"] for image in sample["images"]] for sample in samples] == [
        [png(n)] * (n % 3) for n in range(8)
    ]
    assert (bad, reader.counts.taken_for()) == ([], "1 datasets file, chat by messages")
    assert formats.count(release(path)) == 8


def test_a_selection_is_read_by_its_indices(datasets: Any, tmp_path: Path) -> None:
    whole = datasets.Dataset.from_dict({"query": ["a", "b", "c"], "response": ["A", "B", "C"]})
    whole.select([2, 0]).save_to_disk(str(tmp_path / "some"))
    assert [said(sample) for sample in read(tmp_path / "some")[0]] == [["c", "C"], ["a", "A"]]


def test_of_a_saved_dictionary_the_train_split_is_read(datasets: Any, tmp_path: Path) -> None:
    sets = {
        name: datasets.Dataset.from_dict({"query": [name], "response": [name]})
        for name in ("train", "test", "validation")
    }
    datasets.DatasetDict(sets).save_to_disk(str(tmp_path / "several"))
    samples, _, reader = read(tmp_path / "several")
    assert said(samples[0]) == ["train", "train"]
    assert reader.counts.left_out == ["files of other splits: 1 of test, 1 of validation"]
    assert said(read(tmp_path / "several", split="test", skill="s")[0][0]) == ["test", "test"]
    with pytest.raises(ValueError, match="holds test, train, validation; say split:"):
        read(tmp_path / "several", skill="s")


def test_an_arrow_file_alone_is_read(datasets: Any, tmp_path: Path) -> None:
    path = next(saved(datasets, tmp_path / "set").glob("*.arrow"))
    assert len(read(path)[0]) == 3


def test_a_damaged_folder_is_named(datasets: Any, tmp_path: Path) -> None:
    path = saved(datasets, tmp_path / "set")
    next(path.glob("*.arrow")).write_bytes(b"no arrow")
    with pytest.raises(ValueError, match=r"set cannot be read by datasets \d"):
        read(path)


def test_without_datasets_its_folder_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hugging_face.importlib.util, "find_spec", lambda name: None)
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(
        ValueError, match=r"is written by `datasets`: pip install 'liit\[hub\]' to read it, or write it as Parquet"
    ):
        read(tmp_path)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository as the hub's cache holds it: a revision of links to content, known under `main`."""
    repository = tmp_path / "datasets--owner--name"
    revision = repository / "snapshots" / COMMIT
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    shard = write_parquet(tmp_path, [row(n, image="images/a.png") for n in range(2)]).read_bytes()
    contents = {
        "data/train-00000-of-00001.parquet": shard,
        "data/test-00000-of-00001.parquet": shard,
        "images/a.png": png(),
        "README.md": b"about",
        "other/a.json": json.dumps([row("other")]).encode(),
    }
    for number, (name, data) in enumerate(contents.items()):
        (repository / "blobs" / str(number)).write_bytes(data)
        (revision / name).parent.mkdir(parents=True, exist_ok=True)
        (revision / name).symlink_to(Path("../" * (2 + name.count("/"))) / "blobs" / str(number))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return revision


def test_a_repository_in_the_cache_is_read_without_a_network(cache: Path) -> None:
    settings = {"recursive": True, "format": "parquet"}
    for path in (
        "hf://datasets/owner/name",
        f"hf://datasets/owner/name@{COMMIT}",
        f"hf://datasets/owner/name@{COMMIT[:40]}",
    ):
        samples, bad, reader = read(path, **settings)
        assert [sample["id"] for sample in samples] == ["mine/0", "mine/1"]
        blob = str((cache.parent.parent / "blobs" / "2").resolve())
        assert [image["path"] for sample in samples for image in sample["images"]] == [blob, blob]
        assert (bad, reader.counts.left_out) == ([], ["files of other splits: 1 of test"])


def test_a_folder_or_pattern_of_a_repository_is_read(cache: Path) -> None:
    assert [one["id"] for one in read("hf://datasets/owner/name/other")[0]] == ["mine/other"]
    assert [one["id"] for one in read("hf://datasets/owner/name/*/a.json")[0]] == ["mine/other"]
    found = formats.files_of(release("hf://datasets/owner/name/data", split="test"))
    assert [file.name for file in found] == ["test-00000-of-00001.parquet"]
    with pytest.raises(ValueError, match=r"its subfolders data, other do: recursive: true reads them"):
        read("hf://datasets/owner/name")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("hf://datasets/owner/absent", "release mine: hf://datasets/owner/absent is not to be had: "),
        ("hf://owner/name", "hf://owner/name must be hf://datasets/<owner>/<name>"),
        ("hf://datasets/../name", "is not to be had: |must be "),
    ],
)
def test_a_repository_that_is_not_to_be_had_is_named(cache: Path, path: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(path)


def test_large_batches_of_a_saved_set_are_bounded(
    datasets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(datasets, tmp_path / "set", 40)
    monkeypatch.setattr(hugging_face, "BATCH_BYTES", 1)
    sizes: list[int] = []
    plain = hugging_face.plain

    def noted(batch: pa.RecordBatch, start: int) -> list[object]:
        sizes.append(batch.num_rows)
        return plain(batch, start)

    monkeypatch.setattr(hugging_face, "plain", noted)
    assert len(read(path)[0]) == 40
    assert set(sizes) == {1}
