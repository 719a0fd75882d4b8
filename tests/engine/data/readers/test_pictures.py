"""A picture is read where a published convention names it; a text about one that is not found never becomes a text sample."""

import base64
from pathlib import Path
from typing import Any

import pytest

from liit.engine.data.readers.checks import PLACED
from tests.engine.data.readers.written import ASK, SEE, TELL, png, read, repaired, row, said, write, write_parquet

NAN = float("nan")
EMPTY: list[dict[str, Any]] = [
    {"image": ""},
    {"image": None},
    {"image": []},
    {"images": []},
    {"image": [None]},
    {"images": [""]},
    {"image": {}},
    {"image": NAN},
    {"image": {"bytes": None, "path": None}},
    {"images": [{"bytes": None, "path": ""}]},
    {"image": "", "images": []},
]


@pytest.mark.parametrize("fields", EMPTY, ids=str)
def test_an_empty_image_is_no_image(folder: Path, fields: dict[str, Any]) -> None:
    (sample,), (bad,), _ = read(write(folder, row(1, **fields), row(2, SEE, TELL, **fields)))
    assert (sample["id"], sample["images"]) == ("mine/1", [])
    assert bad.reason.startswith("placeholder count: 1 <image> in the user turns for 0 images")


def test_an_empty_image_beside_a_real_one_is_no_ambiguity(folder: Path) -> None:
    rows = [row(1, SEE, TELL, image="a.png", images=[]), row(2, SEE, TELL, image=[], images=["a.png"])]
    rows.append(row(3, SEE, TELL, image="a.png", images=["a.png"]))
    samples, bad, _ = read(write(folder, *rows))
    assert [len(sample["images"]) for sample in samples] == [1, 1, 1]
    assert bad == []


def test_empty_images_are_none_in_parquet_too(folder: Path) -> None:
    rows = [
        row(n, images=images)
        for n, images in enumerate([[{"bytes": None, "path": None}], [], None, [{"bytes": png(), "path": "x"}]])
    ]
    samples, bad, _ = read(write_parquet(folder, rows))
    assert [len(sample["images"]) for sample in samples] == [0, 0, 0, 1]
    assert bad == []


def parts(*content: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "messages": [{"role": "user", "content": list(content)}, {"role": "assistant", "content": "no"}],
        **fields,
    }


TEXT = {"type": "text", "text": "Same?"}
DATA = "data:image/png;base64," + base64.b64encode(png(7)).decode()
CONVENTIONS: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "Qwen-VL tags": (
        row(1, {"from": "user", "value": "Picture 1: <img>a.png</img>\nWhat?"}, TELL),
        "Picture 1: <image>\nWhat?",
        ["a"],
    ),
    "Qwen parts": (parts({"type": "image", "image": "a.png"}, TEXT), "<image>Same?", ["a"]),
    "Qwen-VL parts": (parts({"image": "a.png"}, {"text": "Same?"}), "<image>Same?", ["a"]),
    "transformers parts": (
        parts({"type": "image", "path": "a.png"}, TEXT, {"type": "image", "url": "b.png"}),
        "<image>Same?<image>",
        ["a", "b"],
    ),
    "OpenAI parts": (
        parts({"type": "image_url", "image_url": {"url": "a.png", "detail": "low"}}, TEXT),
        "<image>Same?",
        ["a"],
    ),
    "OpenAI parts, short": (parts(TEXT, {"type": "image_url", "image_url": "b.png"}), "Same?<image>", ["b"]),
    "OpenAI parts with data": (parts({"type": "image_url", "image_url": {"url": DATA}}, TEXT), "<image>Same?", ["7"]),
    "base64 parts": (parts({"type": "image", "base64": DATA.partition(",")[2]}, TEXT), "<image>Same?", ["7"]),
    "parts and the row's images": (
        parts({"type": "image", "text": None}, TEXT, {"type": "image"}, images=["a.png", "b.png"]),
        "<image>Same?<image>",
        ["a", "b"],
    ),
    "parts beside the same images": (
        parts({"type": "image", "image": "a.png"}, TEXT, images=["a.png"]),
        "<image>Same?",
        ["a"],
    ),
    "one of each": (
        parts({"type": "image"}, {"type": "image", "image": "b.png"}, TEXT, images="a.png"),
        "<image><image>Same?",
        ["a", "b"],
    ),
    "MiniCPM": (
        row(
            1,
            {"role": "user", "content": "<image_01> or <image_00>?"},
            TELL,
            image={"<image_00>": "a.png", "<image_01>": "b.png"},
        ),
        "<image> or <image>?",
        ["b", "a"],
    ),
    "a path alone": (row(1, SEE, TELL, images="a.png"), "<image>\nWhat is it?", ["a"]),
    "bytes of None": (row(1, SEE, TELL, images=[{"path": "a.png", "bytes": None}]), "<image>\nWhat is it?", ["a"]),
}


@pytest.mark.parametrize("case", CONVENTIONS)
def test_published_conventions_are_read(folder: Path, case: str) -> None:
    given, text, names = CONVENTIONS[case]
    (sample,), bad, reader = read(write(folder, given))
    assert said(sample)[0] == text
    assert [Path(image["path"]).stem if image["path"] else "7" for image in sample["images"]] == names
    assert all(image["bytes"] in (None, png(7)) for image in sample["images"])
    assert (bad, repaired(reader)) == ([], {})


BASE64 = base64.b64encode(png(1) * 4).decode()
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "image_path": (
        row(1, image_path="a.png"),
        "unread image: none is in image or images, but 'image_path' seems to name one",
    ),
    "img": (
        row(1, SEE, TELL, img="a.png"),
        "placeholder count: 1 <image> in the user turns for 0 images, but 'img' seems",
    ),
    "image_file": (row(1, image_file="coco/1"), "unread image: "),
    "file_name": (row(1, file_name="a.PNG"), "unread image: "),
    "a list of them": (row(1, pictures=["a.png"]), "unread image: "),
    "images_bytes": (row(1, image_bytes={"x": "y"}), "unread image: "),
    "any file of a picture": (row(1, source="coco/a.jpg"), "unread image: "),
    "URL in a part": (
        parts({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}, TEXT),
        "image is a URL: ",
    ),
    "URL in the text": (
        row(1, {"from": "user", "value": "<img>https://example.org/a.png</img>?"}, TELL),
        "image is a URL: ",
    ),
    "path out of the folder in the text": (
        row(1, {"from": "user", "value": "<img>../outside.png</img>?"}, TELL),
        "image path leaves",
    ),
    "part out of the folder": (parts({"type": "image", "image": "/etc/hostname"}, TEXT), "image path leaves"),
    "tags in an answer": (row(1, ASK, {"from": "gpt", "value": "<img>a.png</img>"}), "misplaced placeholder: "),
    "base64 as a path": (row(1, SEE, TELL, image=BASE64), "base64 image: "),
    "damaged base64": (parts({"type": "image", "base64": "abcde"}, TEXT), "damaged base64: "),
    "too few of the row": (
        parts({"type": "image"}, {"type": "image"}, TEXT, images=["a.png"]),
        "placeholder count: 2 <image>",
    ),
    "others than the row's": (parts({"type": "image", "image": "a.png"}, TEXT, images=["b.png"]), "ambiguous images: "),
    "two in a part": (parts({"type": "image", "image": "a.png", "path": "b.png"}, TEXT), "ambiguous part: "),
    "a text in a picture's part": (parts({"type": "image", "image": "a.png", "text": "Same?"}), "ambiguous part: "),
    "a picture in a text's part": (parts({"type": "text", "text": "Same?", "image": "a.png"}), "ambiguous part: "),
    "a numbered one that is not shown": (
        row(1, {"from": "user", "value": "<image_00>?"}, TELL, image={"<image_00>": "a.png", "<image_01>": "b.png"}),
        "placeholder count: ",
    ),
    "numbered without a name": (
        row(1, {"from": "user", "value": "<image_00>?"}, TELL),
        "unknown placeholder: <image_00>",
    ),
    "Phi": (
        row(1, {"from": "user", "value": "<|image_1|>\nWhat?"}, TELL, image="a.png"),
        "unknown placeholder: <|image_1|>",
    ),
    "XComposer": (row(1, {"from": "user", "value": "<ImageHere>What?"}, TELL), "unknown placeholder: <ImageHere>"),
    "a video as a part": (parts({"type": "video", "video": "a.mp4"}, TEXT), "video field: "),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_picture_that_is_not_found_where_it_should_be_is_no_text_sample(folder: Path, case: str) -> None:
    given, reason = REFUSED[case]
    samples, (bad,), _ = read(write(folder, given))
    assert samples == []
    assert bad.reason.startswith(reason)
    assert len(bad.reason) < 1200


def test_a_key_beside_a_picture_that_was_found_is_only_counted(folder: Path) -> None:
    (sample,), bad, reader = read(
        write(folder, row(1, SEE, TELL, image="a.png", file_name="a.png", image_id=7, width=4))
    )
    assert (len(sample["images"]), bad) == (1, [])
    assert reader.counts.ignored() == {"file_name": 1, "image_id": 1, "width": 1}


def test_a_key_that_is_said_to_be_ignored_is(folder: Path) -> None:
    (sample,), bad, _ = read(write(folder, row(1, source="a.png")), columns={"source": "ignore"})
    assert (sample["images"], bad) == ([], [])


def test_placeholders_are_put_before_what_is_the_first_question_in_the_end(folder: Path) -> None:
    (sample,), bad, reader = read(write(folder, row(1, TELL, ASK, TELL, image="a.png")))
    assert (said(sample)[0], bad) == ("<image>\nWhat is it?", [])
    assert repaired(reader) == {"leading assistant turn dropped": 1, PLACED: 1}
