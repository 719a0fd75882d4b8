"""A picture in a larger file is the same picture when it is read from there again, and one that is another is refused by name."""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.data import image_bytes, spool
from liit.engine.data.image_bytes import Changed, Stored, bytes_of, with_bytes
from liit.engine.data.image_hashes import hashes_of, image_hash
from liit.engine.data.readers import parquet
from liit.engine.data.readers.formats import read
from liit.engine.data.readers.images import open_image
from liit.engine.data.reading import take
from liit.engine.data.rows import Rows, write_rows
from liit.engine.data.spool import Spool
from liit.engine.data.writers.images import Images
from liit.engine.run.tables import SAMPLE, as_samples
from tests.engine.data.object_storage import s3, s3_server  # noqa: F401
from tests.engine.data.readers.written import SEE, TELL, png, release

TWO = {"from": "human", "value": "<image><image>\nWhich?"}
COUNT = 23


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "release"
    inside.mkdir()
    return inside


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    image_bytes._columns.__init__()  # type: ignore[misc]


def in_parquet(folder: Path, shade: int = 0, column: str = "struct") -> Path:
    """Pictures as bytes, as structs, in lists and in the parts of a conversation."""
    data = [png(shade + n) for n in range(COUNT)]
    cells: dict[str, Any] = {
        "bytes": [{"image": one} for one in data],
        "struct": [{"image": {"bytes": one, "path": "a.png"}} for one in data],
        "list": [{"images": [{"bytes": one, "path": None}, {"bytes": data[0], "path": None}]} for one in data],
    }
    said = [[TWO if column == "list" else SEE, TELL]] * COUNT
    table = pa.Table.from_pylist([{"id": n, "conversations": said[n], **cell} for n, cell in enumerate(cells[column])])
    path = folder / f"{column}.parquet"
    pq.write_table(table, path, row_group_size=5)
    return path


def in_messages(folder: Path) -> Path:
    parts = [
        [
            {
                "role": "user",
                "content": [
                    {"type": "image", "text": None, "image": {"bytes": png(n), "path": None}},
                    {"type": "text", "text": "What?", "image": None},
                ],
            },
            {"role": "assistant", "content": [{"type": "text", "text": "That.", "image": None}]},
        ]
        for n in range(COUNT)
    ]
    path = folder / "messages.parquet"
    pq.write_table(pa.table({"id": list(range(COUNT)), "messages": parts}), path, row_group_size=4)
    return path


def in_tar(folder: Path, mode: str = "w", shade: int = 0) -> Path:
    path = folder / ("samples.tar.gz" if mode == "w:gz" else "samples.tar")
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for n in range(COUNT):
            for suffix, data in (("png", png(shade + n)), ("txt", b"Text.")):
                member = tarfile.TarInfo(f"{n:04d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


MADE = {
    "bytes": lambda folder: in_parquet(folder, column="bytes"),
    "struct": in_parquet,
    "list": lambda folder: in_parquet(folder, column="list"),
    "messages": in_messages,
    "tar": in_tar,
}


def spooled(path: Path | str, folder: Path) -> pa.Table:
    filled = Spool(folder / "spool.arrow")
    taken = take(release(path), 0, filled)
    assert taken.bad == []
    return pa.concat_tables(filled.settle().chunks())


@pytest.mark.parametrize("kind", MADE)
def test_references_open_to_the_same_pixels_as_the_bytes(kind: str, folder: Path, tmp_path: Path) -> None:
    path = MADE[kind](folder)
    expected = {one["id"]: one["images"] for one in read(release(path)) if isinstance(one, dict)}
    table = spooled(path, tmp_path)
    assert table.schema.equals(SAMPLE)
    assert len(table) == len(expected) == COUNT
    for one in reversed(table.to_pylist()):
        for image, told in zip(one["images"], expected[one["id"]], strict=True):
            assert isinstance(told["bytes"], Stored)
            assert (image["path"], image["bytes"]) == (str(path), None)
            assert image["place"]["size"] == len(told["bytes"])
            assert bytes_of(image) == told["bytes"]
            assert image_hash(image) == hashlib.sha256(told["bytes"]).digest()
            assert open_image(image).tobytes() == open_image(told).tobytes()


@pytest.mark.parametrize("kind", ["struct", "tar"])
def test_a_file_that_changed_is_named_and_one_that_was_touched_is_as_good(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    path = MADE[kind](folder)
    images = [image for one in spooled(path, tmp_path).to_pylist() for image in one["images"]]
    expected = [bytes_of(image) for image in images]
    path.write_bytes(path.read_bytes())
    assert [bytes_of(image) for image in images] == expected
    in_tar(folder, shade=100) if kind == "tar" else in_parquet(folder, shade=100)
    for image in images:
        with pytest.raises(ValueError, match=rf"^changed source: {path} holds another picture at (row|byte) \d+"):
            open_image(image)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=rf"^changed source: {path} "):
        bytes_of(images[-1])
    path.unlink()
    with pytest.raises(
        ValueError, match=rf"^changed source: {path} cannot be read as it was at ingest: .*No such file"
    ):
        bytes_of(images[0])


def test_fewer_rows_or_another_column_is_a_change_too(folder: Path, tmp_path: Path) -> None:
    path = in_parquet(folder)
    image = spooled(path, tmp_path).to_pylist()[-1]["images"][0]
    whole = pq.read_table(path)
    for changed in (whole.slice(0, 3), whole.drop_columns(["image"]), whole.set_column(2, "image", [["x"] * COUNT])):
        pq.write_table(changed, path)
        with pytest.raises(ValueError, match=r"^changed source: "):
            bytes_of(image)


def test_what_cannot_be_found_again_stays_bytes(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = spooled(in_tar(folder, "w:gz"), tmp_path)
    (folder / "samples.tar.gz").rename(folder / "really.tar")
    renamed = spooled(folder / "really.tar", tmp_path)
    monkeypatch.setattr(parquet, "READ_AGAIN", 10)
    large = spooled(in_parquet(folder), tmp_path)
    for table in (packed, renamed, large):
        images = [image for one in table.to_pylist() for image in one["images"]]
        assert [image["bytes"] for image in images] == [png(n) for n in range(COUNT)]
        assert {(image["path"], image["place"]) for image in images} == {(None, None)}


def test_rows_in_any_order_and_little_memory_give_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [one["images"][0] for one in spooled(in_parquet(folder), tmp_path).to_pylist()]
    monkeypatch.setattr(image_bytes, "KEPT", 1)
    assert [bytes_of(images[n * 7 % COUNT]) for n in range(COUNT)] == [png(n * 7 % COUNT) for n in range(COUNT)]
    assert len(image_bytes._columns._kept) == 1


def test_parts_are_as_small_as_their_pictures_ask_for(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what a part's pictures stand in fits into memory, although the part holds none of them."""
    monkeypatch.setattr(spool, "ROWS", 1)
    monkeypatch.setattr(spool, "BYTES_OF_A_PART", 1000)
    filled = Spool(tmp_path / "spool.arrow")
    take(release(in_parquet(folder)), 0, filled)
    assert max(task.rows for task in filled.settle().tasks(4096)) == 1000 // (200 + len(png()) + 27)


def test_what_is_trained_on_holds_the_pictures_of_parquet_and_refers_to_those_of_tars(
    folder: Path, tmp_path: Path
) -> None:
    for kind, held in (("struct", True), ("tar", False)):
        table = spooled(MADE[kind](folder), tmp_path)
        assert with_bytes(table.slice(0, 0)).schema.equals(SAMPLE)
        write_rows(tmp_path / "rows.arrow", [table, table.slice(0, 0)])
        assert not image_bytes._columns._kept, "whoever trains reads that file, and none of these again"
        rows = Rows(tmp_path / "rows.arrow")
        by_id = {one["id"]: one for one in table.to_pylist()}
        for n in range(COUNT):
            (image,) = rows[n]["images"]
            assert (image["bytes"] is not None) == held
            assert bytes_of(image) == bytes_of(by_id[rows[n]["id"]]["images"][0])


def test_each_row_group_is_decoded_once_for_all_that_is_trained_on(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the order of the rows, of two files and of samples without a picture, and however little is kept."""
    tables = [spooled(in_parquet(folder, column=column), tmp_path) for column in ("struct", "list")]
    none = tables[0].slice(0, 1).to_pylist()[0] | {"id": "none", "key": 5, "images": []}
    rows = pa.concat_tables([*tables, pa.Table.from_pylist([none], schema=SAMPLE)])
    rows = rows.set_column(0, "id", pa.array([f"{n}" for n in range(len(rows))]))
    shuffled = rows.take(pa.array([n * 7 % len(rows) for n in range(len(rows))]))
    decoded, whole = list[int](), pq.ParquetFile.read_row_group

    def read_row_group(file: pq.ParquetFile, group: int, **told: Any) -> pa.Table:
        decoded.append(group)
        return whole(file, group, **told)

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", read_row_group)
    monkeypatch.setattr(image_bytes, "KEPT", 1)
    write_rows(tmp_path / "rows.arrow", (shuffled.slice(n, 1) for n in range(len(rows))))
    assert len(decoded) == 2 * -(-COUNT // 5)
    found, written = {one["id"]: one for one in rows.to_pylist()}, Rows(tmp_path / "rows.arrow")
    assert len(written) == len(rows)
    for one in (written[n] for n in range(len(rows))):
        assert [image["bytes"] for image in one["images"]] == [bytes_of(image) for image in found[one["id"]]["images"]]


def test_exports_write_them_as_files(folder: Path, tmp_path: Path) -> None:
    (one, *_) = spooled(in_parquet(folder), tmp_path).to_pylist()
    images = Images(tmp_path / "images", copy=False)
    assert images.place(one["images"][0], one["id"]).read_bytes() == png(0)
    in_parquet(folder, shade=9)
    with pytest.raises(ValueError, match=rf"^sample {one['id']}: changed source: {folder}"):
        images.place(one["images"][0], one["id"])


def test_tables_of_earlier_runs_are_read(tmp_path: Path) -> None:
    """Whose images are a path or bytes, and nothing else."""
    of = pa.list_(pa.struct([("path", pa.string()), ("bytes", pa.binary())]))
    (tmp_path / "a.png").write_bytes(png(1))
    images = [[{"path": str(tmp_path / "a.png"), "bytes": None}], [{"path": None, "bytes": png(2)}]]
    table = as_samples(pa.table({"id": ["a", "b"], "images": pa.array(images, of)}))
    assert table["images"].type == SAMPLE.field("images").type
    assert [bytes_of(image) for one in table.to_pylist() for image in one["images"]] == [png(1), png(2)]


@pytest.mark.parametrize("kind", MADE)
def test_on_object_storage_they_are_read_from_there_and_a_change_is_seen(
    kind: str,
    folder: Path,
    tmp_path: Path,
    s3: Any,  # noqa: F811
) -> None:
    path = MADE[kind](folder)
    local = spooled(path, tmp_path)
    url, key = f"s3://bucket/release/{path.name}", f"bucket/release/{path.name}"
    s3.put_file(str(path), key)
    images = [image for one in spooled(url, tmp_path).to_pylist() for image in one["images"]]
    expected = [image for one in local.to_pylist() for image in one["images"]]
    assert [{**image, "path": str(path)} for image in images] == expected
    assert {image["path"] for image in images} == {url}
    assert [bytes_of(image) for image in images] == [bytes_of(image) for image in expected]
    s3.pipe_file(key, path.read_bytes()[:100])
    with pytest.raises(Changed, match=rf"^changed source: {url} "):
        bytes_of(images[0])
    s3.rm_file(key)
    with pytest.raises(Changed, match=rf"^changed source: {url} cannot be read as it was at ingest: .*does not exist"):
        bytes_of(images[0])


def test_what_is_gone_or_changed_has_no_hash_and_the_others_have_theirs(folder: Path, tmp_path: Path) -> None:
    (folder / "a.png").write_bytes(png(50))
    image = spooled(in_parquet(folder), tmp_path).to_pylist()[0]["images"][0]
    paths = [{"path": str(folder / name), "bytes": None, "place": None} for name in ("a.png", "gone.png")]
    row = {"images": [image, *paths, {"path": None, "bytes": b"x", "place": None}]}
    marks = [hashlib.sha256(data).digest() for data in (png(0), png(50), b"x")]
    assert hashes_of(row) == marks
    in_parquet(folder, shade=100)
    assert hashes_of(row) == marks[1:]
