"""Every row of a user's file is yielded once: as a sample in the one form that the engine knows, or with its reason."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from liit.engine.data.readers.checks import PLACED, TAKEN
from liit.engine.data.stream import contents_of, reading
from liit.engine.run import tables
from tests.engine.data.readers.written import ASK, SEE, TELL, read, release, repaired, row, said, write


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
        "metric": None,
    }
    assert (bad, repaired(reader)) == ([], {})


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
    assert (bad, repaired(reader)) == ([], {})


def test_images_without_any_placeholder_are_put_first_and_counted(folder: Path) -> None:
    rows = [row(1, ASK, TELL, ASK, TELL, image=["a.png", "b.png"]), row(2, SEE, TELL, image="a.png"), row(3)]
    samples, bad, reader = read(write(folder, *rows))
    assert samples[0]["conversation"][0]["text"] == "<image>\n<image>\nWhat is it?"
    assert samples[0]["conversation"][2]["text"] == "What is it?"
    assert (bad, repaired(reader)) == ([], {PLACED: 1})


BAD_ROWS: dict[str, tuple[Any, str]] = {
    "not an object": ([1, 2], "wrong type: a sample must be an object, not list"),
    "null row": (None, "wrong type: a sample must be an object, not NoneType"),
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
    "system only": (row(1, {"from": "system", "value": "x"}), "missing answer: the conversation ends with a system"),
    "answer without text": (row(1, ASK, {"from": "gpt"}), "missing answer: turn 1 has no text"),
    "null answer": (row(1, ASK, {"from": "gpt", "value": None}), "missing answer: turn 1 has no text"),
    "empty answer": (row(1, ASK, {"from": "gpt", "value": " \t"}), "empty answer: turn 1"),
    "empty answer in the middle": (row(1, ASK, {"from": "gpt", "value": ""}, ASK, TELL), "empty answer: turn 1"),
    "two questions in a row": (row(1, ASK, ASK, TELL), "turns do not alternate: user, user, assistant"),
    "late system": (row(1, ASK, TELL, {"from": "system", "value": "x"}, ASK, TELL), "turns do not alternate: "),
    "unknown part": (row(1, {"role": "user", "content": [{"type": "table"}]}, TELL), "wrong type: content of turn 0"),
    "sound as a part": (row(1, {"role": "user", "content": [{"type": "audio"}]}, TELL), "audio field: "),
    "lone surrogate": (row(1, {"from": "human", "value": "\ud800"}, TELL), "not Unicode: text of turn 0"),
    "lone surrogate in id": (row("\ud800"), "not Unicode: id"),
    "too few placeholders": (row(1, SEE, TELL, image=["a.png", "b.png"]), "placeholder count: 1 <image>"),
    "too many placeholders": (row(1, SEE, TELL, SEE, TELL, image="a.png"), "placeholder count: 2 <image>"),
    "placeholder without image": (row(1, SEE, TELL), "placeholder count: 1 <image> in the user turns for 0 images"),
    "placeholder in an answer": (
        row(1, SEE, {"from": "gpt", "value": "<image>"}, image="a.png"),
        "misplaced placeholder",
    ),
    "missing image": (row(1, SEE, TELL, image="absent.png"), "missing image file: "),
    "empty image": (row(1, SEE, TELL, image="empty.png"), "empty image file: "),
    "image is a folder": (row(1, SEE, TELL, image="."), "missing image file: "),
    "image is a URL": (row(1, SEE, TELL, image="https://example.org/a.png"), "image is a URL: "),
    "image path goes up": (row(1, SEE, TELL, image="../x.png"), "image path leaves its folder: "),
    "image path is absolute": (row(1, SEE, TELL, image="/etc/hostname"), "image path leaves its folder: "),
    "image link leads outside": (row(1, SEE, TELL, image="link.png"), "image path leaves its folder: "),
    "image is a number": (row(1, SEE, TELL, image=3), "wrong type: image must be text, not int"),
    "images nested": (row(1, SEE, TELL, image=[["a.png"]]), "wrong type: image must be text, not list"),
    "image and images": (row(1, SEE, TELL, image="a.png", images=["b.png"]), "ambiguous images: "),
    "null among images": (
        row(1, {"from": "human", "value": "<image><image>"}, TELL, image=["a.png", None]),
        "null field: image",
    ),
    "video": (row(1, video="a.mp4"), "video field: "),
    "task is a truth value": (row(1, task=True), "wrong type: task must be text, not bool"),
    "references are objects": (row(1, references=[{"answer": "a"}]), "wrong type: reference must be text, not dict"),
    "null among references": (row(1, references=["a", None]), "null field: reference"),
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
    samples, bad, reader = read(write(folder, *rows))
    assert len(samples) == 5
    assert len(bad) == len(BAD_ROWS)
    assert reader.counts.rows == len(rows)
    assert all(item.id.startswith("mine/") for item in bad)


def test_a_bad_row_does_not_take_its_id_from_a_sound_one(folder: Path) -> None:
    samples, bad, _ = read(write(folder, row(1, ASK), row(1)))
    assert [item["id"] for item in samples] == [item.id for item in bad] == ["mine/1"]
    assert bad[0].reason.startswith("missing answer")


IDS = [(12.0, "12"), (12, "12"), ("012", "012"), (1.5, "1.5"), (2**70, "1180591620717411303424"), (" a b ", " a b ")]


@pytest.mark.parametrize(("given", "wanted"), IDS, ids=repr)
def test_ids_and_tasks_of_any_kind_are_text(folder: Path, given: Any, wanted: str) -> None:
    (sample,), bad, _ = read(write(folder, row(given, task=given)))
    assert (sample["id"], sample["task"], bad) == (f"mine/{wanted}", wanted, [])


@pytest.mark.parametrize("missing", [None, "", float("nan")], ids=repr)
def test_a_missing_id_is_a_hash_of_the_content_and_a_missing_task_is_none(folder: Path, missing: Any) -> None:
    other = {"from": "gpt", "value": "Another."}
    path = write(folder, row(missing, task=missing), row(missing, ASK, other), row(missing, task=missing))
    (one, two), bad, _ = read(path)
    assert len({one["id"], two["id"]}) == 2
    assert (one["task"], bad) == (None, [])
    again, _, _ = read(path)
    assert [sample["id"] for sample in again] == [one["id"], two["id"]]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("seven", ["seven"]),
        (7, ["7"]),
        (0.5, ["0.5"]),
        (["a", 2, 3.0], ["a", "2", "3"]),
        ("", None),
        ([], None),
        ([None], None),
    ],
    ids=repr,
)
def test_references_are_a_text_a_number_or_a_list(folder: Path, given: Any, wanted: list[str] | None) -> None:
    (sample,), bad, _ = read(write(folder, row(1, references=given)), skill="s")
    assert (sample["references"], bad) == (wanted, [])


def test_a_question_with_references_and_no_answer_is_for_evaluation_alone(folder: Path) -> None:
    asked = row(1, ASK, TELL, ASK, references=["a seven", "7"], metric="vqa")
    alone = row(2, ASK, references=5)
    (first, second), bad, reader = read(write(folder, asked, alone), skill="s")
    assert said(first) == ["What is it?", "A seven.", "What is it?", "a seven"]
    assert said(second) == ["What is it?", "5"]
    assert [first["metric"], second["metric"]] == ["vqa", None]
    assert (bad, repaired(reader)) == ([], {TAKEN: 2})
    pa.Table.from_pylist([dict(first)], schema=tables.SAMPLE)
    (first,), (bad_one,), reader = read(write(folder, asked, alone))
    assert said(first) == ["What is it?", "A seven."]
    assert bad_one.reason.startswith("missing answer")


ROWS = st.sampled_from(
    [
        *(broken for broken, _ in BAD_ROWS.values()),
        *(row(n, SEE, TELL, image=name) for n in (1, "1", 2) for name in ("a.png", "b.png")),
        *(
            row(n, *turns, **more)
            for n in (1, 1.0, None)
            for turns in ([], [TELL, ASK, TELL], [ASK, TELL, ASK])
            for more in ({}, {"task": "t"}, {"model": "ignored"})
        ),
    ]
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(ROWS, min_size=1, max_size=12), shuffle=st.randoms())
def test_in_is_kept_and_quarantined_and_equal_whatever_the_order(folder: Path, rows: list[Any], shuffle: Any) -> None:
    rows.append(row("one"))  # a file without any row that has a conversation is refused as a whole
    samples, bad, reader = read(write(folder, *rows))
    named = {sample["id"]: {**sample, "id": ""} for sample in samples}
    assert len(named) == len(samples), "two samples share an id"
    told = [{**sample, "id": sample["id"].split("~")[0]} for sample in samples]
    assert all(one not in told[at + 1 :] for at, one in enumerate(told)), "equal rows are one sample"
    assert reader.counts.rows == len(rows) >= len(samples) + len(bad)
    mixed = list(rows)
    shuffle.shuffle(mixed)
    again, bad_again, _ = read(write(folder, *mixed))
    assert {sample["id"]: {**sample, "id": ""} for sample in again} == named
    assert sorted((one.id, one.reason) for one in bad_again) == sorted((one.id, one.reason) for one in bad)


def test_a_release_is_another_one_where_its_images_lie_elsewhere(tmp_path: Path) -> None:
    """Their paths are kept by all that is made of it; its annotations may move, and images with the run folder."""
    (tmp_path / "moved").mkdir()
    for folder in (tmp_path, tmp_path / "moved"):
        (folder / "a.json").write_text("[]", encoding="utf-8")
    here, there = (release(str(folder / "a.json")) for folder in (tmp_path, tmp_path / "moved"))
    assert reading(here, tmp_path) == reading(there, tmp_path)
    assert list(contents_of(here).values()) == list(contents_of(there).values())
    path, run = str(tmp_path / "a.json"), tmp_path / "run"
    low, high = (release(path, images=f"{tmp_path}/{name}") for name in ("low", "high"))
    assert reading(low, run) != reading(high, run)
    first, second = (
        reading(release(path, images=str(root / "data" / "images")), root) for root in (run, tmp_path / "elsewhere")
    )
    assert first == second
