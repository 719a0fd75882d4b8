"""Tars are streamed: members of one name are a sample, pictures stay in memory, nothing is unpacked."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from liit.engine.data.readers import webdataset
from tests.engine.data.readers.written import ASK, SEE, TELL, png, read, row, said

CHAT = json.dumps(row(None, SEE, TELL)).encode()
TWO = {"conversations": [{"from": "human", "value": "<image> or <image>?"}, TELL]}


def tar(folder: Path, members: list[tuple[str, bytes]], name: str = "a.tar", mode: Any = "w") -> Path:
    with tarfile.open(folder / name, mode) as file:
        for member, data in members:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return folder / name


@pytest.mark.parametrize(("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tgz", "w:gz")])
def test_json_and_picture_of_one_name_are_a_sample(tmp_path: Path, name: str, mode: str) -> None:
    members = [
        ("0/a.json", CHAT),
        ("0/a.png", png(1)),
        ("0/b.jpg", png(2)),
        ("0/b.json", CHAT),
        ("0/c.json", json.dumps(row("own")).encode()),
    ]
    samples, bad, reader = read(tar(tmp_path, members, name, mode))
    assert [sample["id"] for sample in samples] == ["mine/0/a", "mine/0/b", "mine/own"]
    assert [[image["bytes"] for image in sample["images"]] for sample in samples] == [[png(1)], [png(2)], []]
    assert (bad, reader.counts.taken_for()) == ([], "1 WebDataset file, chat by conversations")
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_a_caption_is_the_answer_to_its_picture(tmp_path: Path) -> None:
    members = [
        ("a.jpg", png(1)),
        ("a.txt", "Ein Hund ü.".encode()),
        ("a.json", b'{"width": 4}'),
        ("b.png", png(2)),
        ("b.txt", b"cat"),
    ]
    samples, bad, reader = read(tar(tmp_path, members))
    assert [said(sample) for sample in samples] == [["<image>", "Ein Hund ü."], ["<image>", "cat"]]
    assert (bad, reader.counts.ignored()) == ([], {"width": 1})


@pytest.mark.parametrize("named", [None, ["k.1.png", "k.0.png"], ["folder/1.png", "folder/0.png"]], ids=str)
def test_several_pictures_stand_as_the_json_names_them_else_as_in_the_tar(
    tmp_path: Path, named: list[str] | None
) -> None:
    told = json.dumps({**TWO, **({"images": named} if named else {})}).encode()
    (sample,), bad, _ = read(tar(tmp_path, [("k.0.png", png(0)), ("k.1.png", png(1)), ("k.json", told)]))
    assert [image["bytes"] for image in sample["images"]] == ([png(1), png(0)] if named else [png(0), png(1)])
    assert bad == []


def test_a_picture_that_the_json_calls_by_an_old_name_is_the_one_beside_it(tmp_path: Path) -> None:
    told = json.dumps(row(1, SEE, TELL, image="coco/train2017/000001.jpg")).encode()
    (sample,), bad, _ = read(tar(tmp_path, [("k.jpg", png(3)), ("k.json", told)]))
    assert ([image["bytes"] for image in sample["images"]], bad) == ([png(3)], [])


BROKEN: dict[str, tuple[list[tuple[str, bytes]], str]] = {
    "json": ([("k.json", b"{"), ("k.png", png())], "not JSON: 'k'"),
    "a list": ([("k.json", b"[]")], "wrong type: the json of 'k' must be an object, not list"),
    "other pictures": (
        [("k.0.png", png()), ("k.1.png", png()), ("k.json", json.dumps({**TWO, "images": ["x", "y"]}).encode())],
        "ambiguous images: ",
    ),
    "a video": ([("k.mp4", b"mp4"), ("k.json", json.dumps(row(1)).encode())], "video field: "),
    "a sound": ([("k.wav", b"wav"), ("k.json", json.dumps(row(1)).encode())], "audio field: "),
    "a caption without picture": ([("k.txt", b"cat")], "missing conversation: "),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_sample_that_cannot_be_made_is_quarantined_alone(tmp_path: Path, case: str) -> None:
    members, reason = BROKEN[case]
    fine = [("z.json", json.dumps(row("z", ASK, TELL)).encode())]
    samples, (bad,), _ = read(tar(tmp_path, [("a.json", fine[0][1]), *members, *fine]))
    assert [sample["id"] for sample in samples] == ["mine/z"]
    assert bad.reason.startswith(reason)


def test_a_member_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "MAX_MEMBER", 200)
    members = [("a.json", json.dumps(row(1)).encode()), ("b.png", b"x" * 201), ("b.json", CHAT)]
    samples, (bad,), _ = read(tar(tmp_path, members))
    assert len(samples) == 1
    assert bad.reason.startswith("large member: 'b.png' has 201 bytes")


def test_links_folders_and_names_without_suffix_are_no_members(tmp_path: Path) -> None:
    path = tar(tmp_path, [("a.json", json.dumps(row(1)).encode()), ("README", b"x"), (".hidden", b"x")])
    with tarfile.open(path, "a") as file:
        link = tarfile.TarInfo("b.json")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        file.addfile(link)
    samples, bad, _ = read(path)
    assert (len(samples), bad) == (1, [])


def test_a_tar_that_is_none_or_breaks_off_is_named(tmp_path: Path) -> None:
    path = tar(tmp_path, [("a.json", CHAT), ("a.png", png() * 50)])
    whole = path.read_bytes()
    for broken in (b"", b"words", whole[:700]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"a\.tar cannot be read as a tar"):
            read(path)
