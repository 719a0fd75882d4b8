"""Every row of a user's file is yielded once: as a sample in the one form that the engine knows, or with its reason."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from liit.engine.data.readers import formats, llava
from liit.engine.data.readers.checks import Bad, Sample
from liit.engine.data.stream import mark
from liit.engine.run import tables
from liit.engine.settings.sections import Release

ASK = {"from": "human", "value": "What is it?"}
SEE = {"from": "human", "value": "<image>\nWhat is it?"}
TELL = {"from": "gpt", "value": "A seven."}


def png(shade: int = 0) -> bytes:
    stream = BytesIO()
    Image.new("RGB", (4, 4), (shade, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def row(identity: Any = 1, *turns: Any, **fields: Any) -> dict[str, Any]:
    return {"id": identity, "conversations": list(turns) or [ASK, TELL], **fields}


def read(path: Path, form: Literal["llava", "parquet"] = "llava") -> tuple[list[Sample], list[Bad], formats.Reader]:
    """Kept, quarantined, and the reader; each row is in exactly one of the two."""
    reader = formats.read(Release(name="mine", format=form, path=str(path)))
    found = list(reader)
    bad = [item for item in found if isinstance(item, Bad)]
    return [item for item in found if not isinstance(item, Bad)], bad, reader


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / f"{name}.png").write_bytes(png())
    (tmp_path / "empty.png").touch()
    outside = tmp_path.parent / f"{tmp_path.name}-outside.png"
    outside.write_bytes(png())
    (tmp_path / "link.png").symlink_to(outside)
    return tmp_path


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "samples.json"
    path.write_text(json.dumps(list(rows)))
    return path


def write_parquet(folder: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    path = folder / "samples.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, **options)
    return path


def test_a_llava_sample_becomes_turns_resolved_images_and_a_prefixed_id(folder: Path) -> None:
    path = write(folder, row(7, SEE, TELL, ASK, TELL, image="a.png", task="digit", references=["seven"]))
    (sample,), bad, reader = read(path)
    assert sample == {
        "id": "mine/7",
        "dataset": "mine",
        "task": "digit",
        "conversation": [
            {"role": "user", "text": "<image>\nWhat is it?"},
            {"role": "assistant", "text": "A seven."},
            {"role": "user", "text": "What is it?"},
            {"role": "assistant", "text": "A seven."},
        ],
        "images": [{"path": str(folder.resolve() / "a.png"), "bytes": None}],
        "references": ["seven"],
    }
    assert (bad, reader.prepended) == ([], 0)


def test_both_spellings_of_a_conversation_are_one(folder: Path) -> None:
    system = {"role": "system", "content": "Be brief."}
    pieces = [{"type": "image"}, {"type": "text", "text": "\nWhat is it?"}]
    messages = [system, {"role": "user", "content": pieces}, {"role": "assistant", "content": "A seven."}]
    spoken = [{"from": "system", "value": "Be brief."}, SEE, TELL]
    path = write(folder, {"id": 1, "messages": messages, "images": ["a.png"]}, row(2, *spoken, image=["a.png"]))
    (one, other), bad, _ = read(path)
    assert one["conversation"] == other["conversation"]
    assert one["images"] == other["images"]
    assert bad == []


def test_text_only_and_several_images_with_placeholders_anywhere_are_kept(folder: Path) -> None:
    between = {"from": "human", "value": "Is <image> the same as <image>?"}
    late = {"from": "human", "value": "And this? <image>"}
    path = write(folder, row(1), row(2, between, TELL, late, TELL, image=["a.png", "b.png", "a.png"]), row(3, image=[]))
    samples, bad, reader = read(path)
    assert [len(sample["images"]) for sample in samples] == [0, 3, 0]
    assert samples[1]["conversation"][0]["text"] == between["value"]
    assert (bad, reader.prepended) == ([], 0)


def test_images_without_any_placeholder_are_put_first_and_counted(folder: Path) -> None:
    rows = [row(1, ASK, TELL, ASK, TELL, image=["a.png", "b.png"]), row(2, SEE, TELL, image="a.png"), row(3)]
    samples, bad, reader = read(write(folder, *rows))
    assert samples[0]["conversation"][0]["text"] == "<image>\n<image>\nWhat is it?"
    assert samples[0]["conversation"][2]["text"] == "What is it?"
    assert (bad, reader.prepended) == ([], 1)


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "not an object": ([1, 2], "wrong type: a sample must be an object, not list"),
    "null row": (None, "wrong type: a sample must be an object, not NoneType"),
    "id is a number with a point": (row(1.5), "wrong type: id must be text, not float"),
    "id is a truth value": (row(True), "wrong type: id must be text, not bool"),
    "no conversation": ({"id": 1}, "missing conversation: none of "),
    "null conversation": ({"id": 1, "conversations": None}, "missing conversation: none of "),
    "conversation without turns": ({"id": 1, "conversations": []}, "missing conversation: it has no turns"),
    "conversation is text": ({"id": 1, "conversations": "hi"}, "wrong type: the conversation must be a list"),
    "null turn": (row(1, ASK, None), "null field: turn 1"),
    "turn is text": (row(1, "hi", TELL), "wrong type: turn 0 must be an object"),
    "null role": (row(1, {"from": None, "value": "hi"}, TELL), "null field: role of turn 0"),
    "unknown role": (row(1, {"from": "robot", "value": "hi"}, TELL), "unknown role: 'robot' in turn 0"),
    "null question": (row(1, {"from": "human", "value": None}, TELL), "null field: text of turn 0"),
    "question is a number": (row(1, {"from": "human", "value": 3}, TELL), "wrong type: text of turn 0 must be text"),
    "empty question": (row(1, {"from": "human", "value": " \n"}, TELL), "empty question: turn 0"),
    "no answer": (row(1, ASK), "missing answer: the conversation ends with a user turn"),
    "ends with a question": (row(1, ASK, TELL, ASK), "missing answer: the conversation ends with a user turn"),
    "system only": (row(1, {"from": "system", "value": "x"}), "missing answer: the conversation ends with a system"),
    "answer without text": (row(1, ASK, {"from": "gpt"}), "missing answer: turn 1 has no text"),
    "null answer": (row(1, ASK, {"from": "gpt", "value": None}), "missing answer: turn 1 has no text"),
    "empty answer": (row(1, ASK, {"from": "gpt", "value": " \t"}), "empty answer: turn 1"),
    "empty answer in the middle": (row(1, ASK, {"from": "gpt", "value": ""}, ASK, TELL), "empty answer: turn 1"),
    "two questions in a row": (row(1, ASK, ASK, TELL), "turns do not alternate: user, user, assistant"),
    "answer first": (row(1, TELL, ASK, TELL), "turns do not alternate: assistant, user, assistant"),
    "late system": (row(1, ASK, TELL, {"from": "system", "value": "x"}, ASK, TELL), "turns do not alternate: "),
    "unknown piece": (row(1, {"role": "user", "content": [{"type": "audio"}]}, TELL), "wrong type: content of turn 0"),
    "lone surrogate": (row(1, {"from": "human", "value": "\ud800"}, TELL), "not Unicode: text of turn 0"),
    "lone surrogate in id": (row("\ud800"), "not Unicode: id"),
    "too few placeholders": (row(1, SEE, TELL, image=["a.png", "b.png"]), "placeholder count: 1 <image>"),
    "too many placeholders": (row(1, SEE, TELL, SEE, TELL, image="a.png"), "placeholder count: 2 <image>"),
    "placeholder without image": (row(1, SEE, TELL), "placeholder count: 1 <image> in the user turns for 0 images"),
    "placeholder in an answer": (row(1, SEE, {"from": "gpt", "value": "<image>"}, image="a.png"), "misplaced placeh"),
    "missing image": (row(1, SEE, TELL, image="absent.png"), "missing image file: "),
    "empty image": (row(1, SEE, TELL, image="empty.png"), "empty image file: "),
    "image is a folder": (row(1, SEE, TELL, image="."), "missing image file: "),
    "image is a URL": (row(1, SEE, TELL, image="https://example.org/a.png"), "image is a URL: "),
    "image path goes up": (row(1, SEE, TELL, image="../x.png"), "image path leaves its folder: "),
    "image path is absolute": (row(1, SEE, TELL, image="/etc/hostname"), "image path leaves its folder: "),
    "image link leads outside": (row(1, SEE, TELL, image="link.png"), "image path leaves its folder: "),
    "empty image path": (row(1, SEE, TELL, image=""), "empty image path: "),
    "null among images": (row(1, SEE, TELL, image=[None]), "null field: image"),
    "image is a number": (row(1, SEE, TELL, image=3), "wrong type: image must be text, not int"),
    "images nested": (row(1, SEE, TELL, image=[["a.png"]]), "wrong type: image must be text, not list"),
    "image and images": (row(1, SEE, TELL, image="a.png", images=["a.png"]), "ambiguous images: "),
    "video": (row(1, video="a.mp4"), "video field: "),
    "task is a number": (row(1, task=3), "wrong type: task must be text, not int"),
    "references are text": (row(1, references="seven"), "wrong type: references must be a list, not str"),
    "null reference": (row(1, references=[None]), "null field: reference"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_is_quarantined_with_its_reason_and_the_run_goes_on(folder: Path, case: str) -> None:
    broken, reason = BAD_ROWS[case]
    samples, (bad,), _ = read(write(folder, row("before"), broken, row("after")))
    assert [sample["id"] for sample in samples] == ["mine/before", "mine/after"]
    assert (bad.dataset, bad.stage) == ("mine", "read")
    assert bad.reason.startswith(reason)
    pa.Table.from_pylist([vars(bad)], schema=tables.QUARANTINE)


def test_all_that_goes_in_is_kept_or_quarantined(folder: Path) -> None:
    rows = [row(f"good-{number}") for number in range(5)] + [broken for broken, _ in BAD_ROWS.values()]
    samples, bad, _ = read(write(folder, *rows))
    assert len(samples) == 5
    assert len(bad) == len(BAD_ROWS)
    assert all(item.id.startswith("mine/") for item in bad)


def test_of_duplicate_ids_the_first_in_file_order_stays(folder: Path) -> None:
    other = {"from": "gpt", "value": "Another."}
    samples, bad, _ = read(write(folder, row(1), row("1", ASK, other), row(2), row(1)))
    assert [(sample["id"], sample["conversation"][1]["text"]) for sample in samples] == [
        ("mine/1", "A seven."),
        ("mine/2", "A seven."),
    ]
    assert [(item.id, item.reason.split(":")[0]) for item in bad] == [("mine/1", "duplicate id")] * 2


def test_a_bad_row_does_not_take_its_id_from_a_sound_one(folder: Path) -> None:
    samples, bad, _ = read(write(folder, row(1, ASK), row(1)))
    assert [item["id"] for item in samples] == [item.id for item in bad] == ["mine/1"]
    assert bad[0].reason.startswith("missing answer")


@pytest.mark.parametrize("missing", [None, ""])
def test_a_missing_id_is_a_hash_of_the_content(folder: Path, missing: str | None) -> None:
    other = {"from": "gpt", "value": "Another."}
    path = write(folder, row(missing), row(missing, ASK, other), row(missing))
    (one, two), (twin,), _ = read(path)
    assert len({one["id"], two["id"]}) == 2
    assert (twin.id, twin.reason.split(":")[0]) == (one["id"], "duplicate id")
    again, _, _ = read(path)
    assert [sample["id"] for sample in again] == [one["id"], two["id"]]


def test_json_lines_give_what_the_list_gives_and_a_broken_line_is_quarantined(folder: Path) -> None:
    rows = [row(number, SEE, TELL, image="a.png") for number in range(3)]
    listed, _, _ = read(write(folder, *rows))
    lines = [json.dumps(item) for item in rows]
    path = folder / "samples.jsonl"
    path.write_text(
        "\ufeff\n" + "\r\n".join([lines[0], '{"id": 9, "conv', "[" * 100_000, "", *lines[1:], lines[0][:-9]])
    )
    samples, bad, _ = read(path)
    assert samples == listed
    assert [item.reason[: len("not JSON: line 3 ")] for item in bad] == [f"not JSON: line {n} " for n in (3, 4, 8)]
    assert len({item.id for item in bad}) == 3


@pytest.mark.parametrize("chunk", [1, 2, 7, 64])
def test_a_list_reads_the_same_whatever_part_of_it_is_held_at_a_time(
    tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llava, "_CHUNK", chunk)
    values = [{"a": ['x"]},', "七\n", {"b": None}]}, -12.5e3, 345, "]", [], {}, True, [[1], [2, 3]]]
    path = tmp_path / "list.json"
    for indent in (None, 3):
        path.write_text(json.dumps(values, indent=indent, ensure_ascii=False) + " \n", encoding="utf-8")
        assert list(llava.rows(path)) == values
    path.write_text(" [ ] ")
    assert list(llava.rows(path)) == []


def test_a_list_is_not_held_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llava, "_CHUNK", 1000)
    path = write(tmp_path, *(row(number) for number in range(1000)))
    with path.open() as stream:
        window = llava._Window(stream)
        window.take("[")
        for _ in range(900):
            window.value()
            window.take(",")
            assert len(window.text) < 3000
        assert stream.read(1), "the end of the file was read before it was needed"


NOT_JSON = {
    "empty": b"",
    "blank": b" \n",
    "words": b"id,question,answer\n1,a,b\n",
    "number": b"12",
    "broken off": json.dumps([row(1), row(2)]).encode()[:-20],
    "never closed": b'[{"id": 1}',
    "comma at the end": b'[{"id": 1},]',
    "comma missing": b'[{"id": 1} {"id": 2}]',
    "two lists": b"[] []",
    "indented object": b'{\n  "data": []\n}',
    "nested without end": b"[" * 100_000,
    "binary": bytes(range(128, 256)),
    "Parquet": b"PAR1\x00\x00",
    "other encoding": json.dumps([row(1)]).encode("utf-16"),
    "invalid byte in a list": b'[{"id": "\xff"}]',
}


@pytest.mark.parametrize("case", NOT_JSON)
def test_a_file_that_is_not_json_stops_the_run_and_is_named(tmp_path: Path, case: str) -> None:
    path = tmp_path / "broken.json"
    path.write_bytes(NOT_JSON[case])
    with pytest.raises(ValueError, match=r"broken\.json (is|starts) "):
        read(path)


def test_what_is_missing_stops_the_run_and_is_named(tmp_path: Path) -> None:
    for name in ("absent.json", "."):
        with pytest.raises(ValueError, match=r"release mine: .*neither a file nor a folder that holds .json or .jsonl"):
            read(tmp_path / name)
    path = write(tmp_path, row(1))
    with pytest.raises(ValueError, match=r"release mine: image folder .*nowhere does not exist"):
        formats.read(Release(name="mine", path=str(path), images=str(tmp_path / "nowhere")))


def test_a_folder_of_files_is_read_in_the_order_of_their_names(folder: Path) -> None:
    parts = folder / "parts"
    parts.mkdir()
    (parts / "b.json").write_text(json.dumps([row(2), row(1)]))
    (parts / "a.jsonl").write_text(json.dumps(row(1)) + "\n")
    (parts / "notes.txt").write_text("no samples")
    samples, bad, _ = read(parts)
    assert [sample["id"] for sample in samples] == ["mine/1", "mine/2"]
    assert [item.id for item in bad] == ["mine/1"]


@pytest.mark.parametrize("name", ["conversations", "messages", "conversation"])
def test_parquet_images_may_be_paths_bytes_or_structs(folder: Path, name: str) -> None:
    path = str(folder.resolve() / "a.png")
    by_path, by_bytes = {"path": path, "bytes": None}, {"path": None, "bytes": png(3)}
    for value, wanted in [
        ("a.png", [by_path]),
        (png(3), [by_bytes]),
        ({"bytes": png(3), "path": "/once/upon.png"}, [by_bytes]),
        ({"bytes": None, "path": "a.png"}, [by_path]),
        (["a.png", "a.png"], [by_path, by_path]),
        ([{"bytes": png(3), "path": None}], [by_bytes]),
    ]:
        (sample,), bad, reader = read(write_parquet(folder, [{"id": 1, name: [ASK, TELL], "image": value}]), "parquet")
        assert sample["images"] == wanted
        assert sample["conversation"][0]["text"].count("<image>") == len(wanted)
        assert (bad, reader.prepended) == ([], 1)
        pa.Table.from_pylist([dict(sample)], schema=tables.SAMPLE)


def test_parquet_gives_what_llava_json_gives_over_many_row_groups(folder: Path) -> None:
    rows = [row(number, SEE, TELL, image="a.png", task="t", references=["x"]) for number in range(150)]
    rows[70]["conversations"] = [SEE]
    rows[71]["image"] = "/etc/hostname"
    rows[149]["id"] = 0
    expected, expected_bad, _ = read(write(folder, *rows))
    samples, bad, _ = read(write_parquet(folder, rows, row_group_size=40), "parquet")
    assert (samples, bad) == (expected, expected_bad)
    assert (len(samples), len(bad)) == (147, 3)


def test_parquet_rows_with_nulls_are_quarantined_one_by_one(folder: Path) -> None:
    rows = [
        row(1, SEE, TELL, images=[{"bytes": png(), "path": None}]),
        row(2, SEE, TELL, images=[{"bytes": None, "path": None}]),
        row(3, SEE, TELL, images=[{"bytes": b"", "path": None}]),
        row(4, SEE, TELL, images=None),
        row(5, SEE, {"from": "gpt", "value": None}, images=[{"bytes": png(), "path": None}]),
        {"id": 6, "conversations": None, "images": None},
    ]
    samples, bad, _ = read(write_parquet(folder, rows), "parquet")
    assert [sample["id"] for sample in samples] == ["mine/1"]
    assert [item.reason.split(":")[0] for item in bad] == [
        "null field",
        "empty image file",
        "placeholder count",
        "missing answer",
        "missing conversation",
    ]


def test_a_parquet_row_that_is_not_unicode_is_quarantined_alone(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([row(f"id-{number}") for number in range(100)])
    invalid = pa.array([b"\xff" if n == 70 else str(n).encode() for n in range(100)]).view(pa.string())
    path = tmp_path / "samples.parquet"
    pq.write_table(table.set_column(0, "id", invalid), path)
    samples, (bad,), _ = read(path, "parquet")
    assert len(samples) == 99
    assert bad.reason.startswith("not Unicode: row 70")


def test_bytes_without_an_id_are_told_apart_by_their_content(folder: Path) -> None:
    rows = [row(None, SEE, TELL, image=png(shade)) for shade in (1, 2, 1)]
    samples, bad, _ = read(write_parquet(folder, rows), "parquet")
    assert len({sample["id"] for sample in samples}) == 2
    assert [item.reason.split(":")[0] for item in bad] == ["duplicate id"]


def test_a_file_that_is_not_parquet_stops_the_run_and_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path, [row(1)])
    whole = path.read_bytes()
    for broken in (b"", b"[]", whole[: len(whole) // 2], whole[:4] + b"\xff" * 200 + whole[204:]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"samples\.parquet cannot be read as Parquet"):
            read(path, "parquet")
    pq.write_table(pa.table({"id": ["1"], "question": ["why"]}), path)
    with pytest.raises(ValueError, match=r"samples\.parquet has columns id, question, but none of conversations"):
        read(path, "parquet")


def test_a_release_is_another_one_where_its_images_lie_elsewhere(tmp_path: Path) -> None:
    """Their paths are kept by all that is made of it; its annotations may move."""
    (tmp_path / "moved").mkdir()
    for folder in (tmp_path, tmp_path / "moved"):
        (folder / "a.json").write_text("[]", encoding="utf-8")
    here, there = (str(folder / "a.json") for folder in (tmp_path, tmp_path / "moved"))
    assert mark(Release(name="a", path=here)) == mark(Release(name="a", path=there))
    low, high = (Release(name="a", path=here, images=f"{tmp_path}/{name}") for name in ("low", "high"))
    assert mark(low) != mark(high)
