"""What stands beside a conversation is used or refused by name; what is cut off a conversation is counted."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from liit.engine.data.copies import content_hash
from liit.engine.run.tables import SAMPLE
from tests.engine.data.readers.written import ASK, SEE, TELL, read, repaired, row, said, write, write_parquet

LEADING, TRAILING = "leading assistant turn dropped", "trailing user turn dropped"


def chat(*turns: tuple[str, str] | dict[str, Any], identity: int = 1, **fields: Any) -> dict[str, Any]:
    messages = [one if isinstance(one, dict) else {"role": one[0], "content": one[1]} for one in turns]
    return {"id": identity, "messages": messages, **fields}


def test_a_leading_answer_and_a_trailing_question_are_dropped_and_counted(folder: Path) -> None:
    rows = [row(1, TELL, ASK, TELL), row(2, ASK, TELL, ASK), row(3, TELL, ASK, TELL, ASK)]
    samples, bad, reader = read(write(folder, *rows))
    assert [said(sample) for sample in samples] == [["What is it?", "A seven."]] * 3
    assert (bad, repaired(reader)) == ([], {LEADING: 2, TRAILING: 2})
    assert reader.counts.repaired[LEADING].examples == ["mine/1", "mine/3"]


def test_a_picture_that_a_dropped_question_shows_goes_with_it(folder: Path) -> None:
    rows = [row(1, SEE, TELL, SEE, image=["a.png", "b.png"]), row(2, ASK, TELL, SEE, image="a.png")]
    (first, second), bad, _ = read(write(folder, *rows))
    assert [Path(image["path"] or "").name for image in first["images"]] == ["a.png"]
    assert (second["images"], bad) == ([], [])


@pytest.mark.parametrize(
    "turns",
    [[TELL, TELL, ASK, TELL], [ASK, TELL, ASK, ASK], [ASK, ASK, TELL], [ASK, TELL, TELL], [TELL, TELL]],
    ids=str,
)
def test_two_turns_of_one_role_in_a_row_are_refused(folder: Path, turns: list[Any]) -> None:
    _, (bad,), _ = read(write(folder, row(1, *turns)))
    assert bad.reason.startswith("turns do not alternate: ")


@pytest.mark.parametrize("turns", [[TELL], [TELL, ASK], [ASK]], ids=str)
def test_nothing_is_left_of_some(folder: Path, turns: list[Any]) -> None:
    _, (bad,), _ = read(write(folder, row(1, *turns)))
    assert bad.reason.split(":")[0] in ("missing answer", "turns do not alternate")


def test_a_chosen_answer_beside_its_question_is_not_cut_off(folder: Path) -> None:
    chosen = {"from": "gpt", "value": "B"}
    rows = [row(1, ASK, TELL, ASK, chosen=chosen), row(2, ASK, TELL, chosen=chosen, rejected_response="C")]
    (whole,), (bad,), reader = read(write(folder, *rows))
    assert bad.reason.startswith("preference pair: ")
    assert whole["id"] == "mine/2"
    assert reader.counts.ignored() == {"chosen": 2, "rejected_response": 1}


SWITCHES = [
    ("weight", 0, 1),
    ("weight", 0.0, 1.0),
    ("loss", False, True),
    ("train", False, True),
    ("loss_weight", 0.0, 1),
]


@pytest.mark.parametrize(("key", "off", "on"), SWITCHES, ids=str)
def test_an_answer_whose_loss_is_switched_off_is_context(folder: Path, key: str, off: Any, on: Any) -> None:
    turns: list[Any] = [("user", "A?"), {"role": "assistant", "content": "wrong", key: off}, ("user", "B?")]
    for last in (
        {"role": "assistant", "content": "B", key: on},
        ("assistant", "B"),
        {"role": "assistant", "content": "B", key: None},
    ):
        (sample,), bad, _ = read(write(folder, chat(*turns, last)))
        assert [turn.get("context", False) for turn in sample["conversation"]] == [False, True, False, False]
        assert bad == []
    (stored,) = pa.Table.from_pylist([dict(sample)], schema=SAMPLE).to_pylist()
    assert [turn["context"] for turn in stored["conversation"]] == [None, True, None, None]


def test_the_same_answer_as_context_is_another_sample() -> None:
    told = [{"role": "user", "text": "A?"}, {"role": "assistant", "text": "a"}, {"role": "assistant", "text": "b"}]
    as_context: list[dict[str, Any]] = [told[0], {**told[1], "context": True}, told[2]]
    assert content_hash(told, []) != content_hash(as_context, [])
    assert content_hash(told, []) == content_hash([{**turn, "context": None} for turn in told], [])


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        ({"weight": 0.5}, "loss weight: weight of turn 1 is 0.5; only 0 and 1"),
        ({"weight": 2}, "loss weight: weight of turn 1 is 2; only 0 and 1"),
        ({"loss": "no"}, "loss weight: loss of turn 1 is 'no'; only 0 and 1"),
        ({"weight": 1, "train": False}, "loss weight: weight and train of turn 1 contradict each other"),
        ({"weight": 0}, "nothing to learn: every answer is context"),
        ({"tool_calls": [{"type": "function"}]}, "tool use: turn 1 has 'tool_calls'"),
        ({"function_call": {"name": "f"}}, "tool use: turn 1 has 'function_call'"),
        ({"reasoning_content": "two and two"}, "reasoning: turn 1 has 'reasoning_content'"),
        ({"images": ["a.png"]}, "media in a turn: turn 1 has 'images'"),
        ({"role": "tool"}, "tool use: turn 1 is of 'tool'"),
        ({"role": "function_call"}, "tool use: turn 1 is of 'function_call'"),
    ],
    ids=str,
)
def test_what_a_turn_says_beside_its_text_is_refused_by_name(folder: Path, turn: dict[str, Any], reason: str) -> None:
    _, (bad,), _ = read(write(folder, chat(("user", "A?"), {"role": "assistant", "content": "a"} | turn)))
    assert bad.reason.startswith(reason)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"tools": '[{"name": "clock"}]'}, "tool use: the row has 'tools'"),
        ({"tools": [{"name": "clock"}]}, "tool use: the row has 'tools'"),
        ({"function_call": {"name": "f"}}, "tool use: the row has 'function_call'"),
        ({"reasoning_content": "so"}, "reasoning: the row has 'reasoning_content'"),
        ({"videos": ["a.mp4"]}, "video field: "),
        ({"audios": ["a.wav"]}, "audio field: "),
        ({"audio": "a.wav"}, "audio field: "),
    ],
    ids=str,
)
def test_what_a_row_says_beside_its_turns_is_refused_by_name(folder: Path, fields: dict[str, Any], reason: str) -> None:
    _, (bad,), _ = read(write(folder, chat(("user", "A?"), ("assistant", "a"), **fields)))
    assert bad.reason.startswith(reason)


NOTHING: dict[str, Any] = {
    "tools": "[]",
    "tool_calls": [],
    "function_call": None,
    "video": "",
    "videos": [],
    "audios": None,
    "system": "",
}


def test_fields_that_say_nothing_say_nothing(folder: Path) -> None:
    silent: dict[str, Any] = {
        "role": "assistant",
        "content": "a",
        "tool_calls": None,
        "function_call": {},
        "reasoning_content": "",
        "weight": None,
    }
    rows = [chat(("user", "A?"), silent, identity=1, **NOTHING), row(2, SEE, TELL, image="a.png", video="")]
    samples, bad, reader = read(write(folder, *rows))
    assert (len(samples), bad, reader.counts.ignored()) == (2, [], {})


SPOKEN = [
    "Look: <video>",
    "<audio> what is said?",
    "<audio>a.wav</audio> What is said?",
    "<video></video> What happens?",
]
HTML = [
    'Which tag is wrong? <video><source src="a.mp4"></video>',
    "<audio>Your browser cannot play this.</audio> What is it?",
]


@pytest.mark.parametrize("text", SPOKEN)
def test_a_text_that_speaks_of_a_video_or_sound_is_refused(folder: Path, text: str) -> None:
    _, (bad,), _ = read(write(folder, chat(("user", text), ("assistant", "a"))))
    assert bad.reason.startswith(("video field: ", "audio field: "))


@pytest.mark.parametrize("text", HTML)
def test_a_text_about_html_is_a_text(folder: Path, text: str) -> None:
    (sample,), bad, _ = read(write(folder, chat(("user", text), ("assistant", "a"))))
    assert (said(sample)[0], bad) == (text, [])


def test_a_system_prompt_beside_the_turns_is_the_first_turn(folder: Path) -> None:
    rows = [
        row(1, system="Answer as a pirate."),
        row(2, {"from": "system", "value": "Be brief."}, ASK, TELL, system="Be brief."),
        row(3, {"from": "system", "value": "Be brief."}, ASK, TELL, system="Be long."),
        row(4, system="Be brief.", system_prompt="Be long."),
        row(5, system="", system_prompt="Be long."),
    ]
    (first, second, other), (bad, both), _ = read(write(folder, *rows))
    assert first["conversation"][0] == {"role": "system", "text": "Answer as a pirate."}
    assert said(second) == ["Be brief.", "What is it?", "A seven."]
    assert bad.reason.startswith("ambiguous system: ")
    assert both.reason.startswith("ambiguous system: ")
    assert said(other)[0] == "Be long."


def test_boxes_that_a_text_leaves_to_objects_are_refused(folder: Path) -> None:
    objects = {"ref": ["a dog"], "bbox": [[1, 2, 3, 4]]}
    rows = [chat(("user", "Where is <ref-object>?"), ("assistant", "<bbox>"), objects=objects)]
    _, (bad,), _ = read(write(folder, *rows, chat(("user", "Count."), ("assistant", "1"), identity=2, objects=objects)))
    assert bad.reason.startswith("grounding objects: ")


def test_two_conversations_in_a_row_must_be_the_same(folder: Path) -> None:
    told = chat(("user", "A?"), ("assistant", "a"))
    rows = [
        told | {"conversations": told["messages"]},
        told | {"id": 2, "conversations": [ASK, TELL]},
        told | {"id": 3, "conversations": []},
    ]
    samples, (bad,), _ = read(write(folder, *rows))
    assert [sample["id"] for sample in samples] == ["mine/1", "mine/3"]
    assert bad.reason.startswith("ambiguous conversation: ")


def test_keys_that_are_not_read_are_counted(folder: Path) -> None:
    named = {"role": "user", "content": "A?", "name": "Ann", "index": None}
    rows = [chat(named, ("assistant", "a"), identity=n, model="gpt4", score=n or None, empty="") for n in range(3)]
    _, _, reader = read(write(folder, *rows))
    assert reader.counts.ignored() == {"model": 3, "score": 2, "turn.name": 3}
    assert "not read: model (3), score (2), turn.name (3)" in list(reader.counts.lines())


def test_columns_that_are_nearly_empty_are_known(folder: Path) -> None:
    rows = [chat(("user", f"{n}?"), ("assistant", "a"), identity=n, task="t" if n == 5 else "") for n in range(100)]
    _, _, reader = read(write_parquet(folder, rows))
    assert reader.counts.sparse() == {"task": 1}
