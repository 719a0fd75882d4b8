"""Published columns are recognised by their names and say what they were taken for; anything else is mapped by `columns`."""

import base64
import json
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from liit.engine.data.readers import formats
from liit.engine.settings import extensions
from liit.engine.settings.config import ConfigError
from liit.engine.settings.config import read as configure
from tests.engine.data.readers.written import ASK, TELL, png, read, row, said, write, write_parquet

PNG64 = base64.b64encode(png(7)).decode()
PAIR = ["Q", "A"]
SHAPES: dict[str, tuple[dict[str, Any], list[str], str]] = {
    "sharegpt": ({"conversations": [ASK, TELL]}, ["What is it?", "A seven."], "chat by conversations"),
    "openai": (
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        PAIR,
        "chat by messages",
    ),
    "alpaca": ({"instruction": "Q", "input": "", "output": "A"}, PAIR, "alpaca by instruction, output"),
    "alpaca with input": ({"instruction": "Add.", "input": "1 2", "output": "3"}, ["Add.\n1 2", "3"], "alpaca by"),
    "alpaca with history": (
        {"instruction": "Q2", "output": "A2", "history": [PAIR], "system": "S"},
        ["S", "Q", "A", "Q2", "A2"],
        "alpaca by",
    ),
    "prompt": ({"prompt": "Q", "completion": "A"}, PAIR, "prompt-completion by prompt, completion"),
    "prompt of messages": (
        {"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "A"}]},
        PAIR,
        "prompt-completion by",
    ),
    "ms-swift": ({"query": "Q", "response": "A"}, PAIR, "query-response by query, response"),
    "ms-swift with history": (
        {"query": "Q2", "response": "A2", "history": [PAIR], "system": "S"},
        ["S", *PAIR, "Q2", "A2"],
        "query",
    ),
    "cauldron": (
        {
            "images": ["a.png"],
            "texts": [{"user": "Q", "assistant": "A", "source": "x"}, {"user": "Q2", "assistant": "A2"}],
        },
        ["<image>\nQ", "A", "Q2", "A2"],
        "cauldron by texts",
    ),
    "m3it": (
        {"instruction": "Say.", "inputs": "Q", "outputs": "A", "image_base64_str": [PNG64]},
        ["<image>\nSay.\nQ", "A"],
        "m3it by instruction, outputs, image_base64_str",
    ),
}


@pytest.mark.parametrize("stored", ["json", "parquet"])
@pytest.mark.parametrize("case", SHAPES)
def test_columns_are_recognised_and_said(folder: Path, case: str, stored: str) -> None:
    given, texts, took = SHAPES[case]
    path = write(folder, given) if stored == "json" else write_parquet(folder, [given])
    (sample,), bad, reader = read(path)
    assert (said(sample), bad) == (texts, [])
    assert [turn.get("context", False) for turn in sample["conversation"]] == [False] * len(texts)
    assert reader.counts.taken_for().startswith(f"1 {'JSON' if stored == 'json' else 'Parquet'} file, {took}")


def test_base64_is_decoded_where_the_format_says_so(folder: Path) -> None:
    m3it = {"instruction": "Say.", "inputs": None, "outputs": "A"}
    rows = [
        {**m3it, "image_base64_str": PNG64},
        {**m3it, "image_base64_str": [PNG64, PNG64]},
        {**m3it, "image_base64_str": ""},
    ]
    samples, bad, _ = read(write(folder, *rows))
    assert [[image["bytes"] for image in sample["images"]] for sample in samples] == [[png(7)], [png(7)] * 2, []]
    assert bad == []
    mapped = {"question": "Q", "answer": "A", "picture": PNG64}
    columns = {"question": "user", "answer": "assistant", "picture": "image_base64"}
    (sample,), bad, _ = read(write(folder, mapped), columns=columns)
    assert ([image["bytes"] for image in sample["images"]], bad) == ([png(7)], [])


def test_answers_in_a_prompt_are_context(folder: Path) -> None:
    """TRL trains on the completion alone."""
    prompt = [("user", "A?"), ("assistant", "a"), ("user", "B?")]
    given = {"prompt": [{"role": role, "content": text} for role, text in prompt], "completion": "b"}
    (sample,), bad, _ = read(write(folder, given))
    assert [turn.get("context", False) for turn in sample["conversation"]] == [False, True, False, False]
    assert bad == []


def test_rows_of_another_shape_than_their_file_are_quarantined(folder: Path) -> None:
    alpaca = {"id": "x", "instruction": "Q", "output": "A"}
    samples, (bad,), _ = read(write(folder, row(1), alpaca))
    assert [sample["id"] for sample in samples] == ["mine/1"]
    assert (bad.id, bad.reason.split(":")[0]) == ("mine/x", "missing conversation")
    samples, (bad,), _ = read(write(folder, alpaca, {**alpaca, "output": None}, {**alpaca, "id": "y"}))
    assert [sample["id"] for sample in samples] == ["mine/x", "mine/y"]
    assert bad.reason == "missing answer: turn 1 has no text"


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "history": ({"query": "Q", "response": "A", "history": ["Q"]}, "wrong type: history must be a list of pairs"),
    "texts": ({"texts": ["Q"], "images": []}, "wrong type: texts must be a list of objects"),
    "no question": ({"instruction": "", "input": None, "output": "A"}, "empty question: turn 0"),
    "a number for an answer": ({"query": "Q", "response": 7}, "wrong type: text of turn 1 must be text, not int"),
    "base64": ({"instruction": "Q", "outputs": "A", "image_base64_str": "abcde"}, "damaged base64: "),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_row_that_does_not_keep_to_its_shape_is_quarantined(folder: Path, case: str) -> None:
    given, reason = BROKEN[case]
    _, (bad,), _ = read(write(folder, given))
    assert bad.reason.startswith(reason)


COLUMNS: list[tuple[dict[str, Any], dict[str, str], list[str]]] = [
    ({"question": "Q", "answer": "A"}, {"question": "user", "answer": "assistant"}, PAIR),
    ({"q": "Q", "hint": "H", "a": 7}, {"q": "user", "hint": "user", "a": "assistant"}, ["Q\nH", "7"]),
    ({"q": "Q", "hint": "", "a": 7.0}, {"q": "user", "hint": "user", "a": "assistant"}, ["Q", "7"]),
    ({"q": "Q", "a": "A", "s": "S"}, {"q": "user", "a": "assistant", "s": "system"}, ["S", *PAIR]),
    ({"q": "Q", "a": "A", "photo": "a.png"}, {"q": "user", "a": "assistant", "photo": "image"}, ["<image>\nQ", "A"]),
    ({"dialog": [ASK, TELL]}, {"dialog": "conversation"}, ["What is it?", "A seven."]),
    ({"conversations": [ASK, TELL], "img": "a.png"}, {"img": "image"}, ["<image>\nWhat is it?", "A seven."]),
    ({"q": "Q", "a": "A", "conversations": [ASK, TELL]}, {"q": "user", "a": "assistant"}, PAIR),
]


@pytest.mark.parametrize(("given", "columns", "texts"), COLUMNS, ids=str)
def test_columns_map_whatever_has_other_names(folder: Path, given: Any, columns: Any, texts: list[str]) -> None:
    (sample,), bad, reader = read(write(folder, given), columns=columns)
    assert (said(sample), bad) == (texts, [])
    assert ", ".join(f"{name}: {to}" for name, to in columns.items()) in reader.counts.taken_for()
    assert not set(reader.counts.ignored()) & set(columns)


def test_columns_map_ids_tasks_and_references(folder: Path) -> None:
    given = {"uid": 12.0, "kind": 3, "q": "Q", "answers": ["a", "b"], "how": "vqa"}
    columns = {"uid": "id", "kind": "task", "q": "user", "answers": "references", "how": "metric"}
    (sample,), (bad,), _ = read(write(folder, given, given | {"uid": 13.0, "tools": "[1]"}), columns=columns, skill="s")
    assert bad.id == "mine/13"
    assert (sample["id"], sample["task"], sample["references"], sample["metric"]) == ("mine/12", "3", ["a", "b"], "vqa")
    assert said(sample) == ["Q", "a"]


def test_unknown_columns_are_named_with_what_is_known(folder: Path) -> None:
    path = write(folder, {"question": "Q", "answer": "A"})
    with pytest.raises(
        ValueError, match=r"samples\.json has columns question, answer, but none of: .*alpaca|instruction, output"
    ):
        read(path)
    with pytest.raises(
        ValueError, match=r"samples\.json has columns question, answer, and no reply, which `columns` names"
    ):
        read(path, columns={"question": "user", "reply": "assistant"})
    with pytest.raises(ValueError, match=r"but none of: conversations or messages or conversation; say which is which"):
        read(write(folder, {"instruction": "Q", "output": "A"}), format="llava")
    with pytest.raises(ConfigError, match=r"columns.q.*Input should be 'id', 'system', 'user'"):
        configure(None, ["stream={kind: files, releases: [{name: a, path: a.json, columns: {q: question}}]}"])


def test_a_format_that_is_said_is_the_only_one_tried(folder: Path) -> None:
    both = {"instruction": "Q", "output": "A", "query": "Q2", "response": "A2"}
    path = write(folder, both)
    assert said(read(path)[0][0]) == said(read(path, format="alpaca")[0][0]) == PAIR
    assert said(read(path, format="query-response")[0][0]) == ["Q2", "A2"]
    with pytest.raises(
        ValueError, match=r"release mine: unknown format 'csv'; known are auto, llava, parquet, .* and module:function"
    ):
        read(path, format="csv")


def numbered(path: Path) -> Iterator[object]:
    """A format of one's own: `question TAB answer` a line; blank lines are broken rows."""
    for line in path.read_text().splitlines():
        question, tab, answer = line.partition("\t")
        yield {"instruction": question, "output": answer} if tab else ValueError(f"no tab: {line!r}")
    yield {1: "no name"}


def failing(path: Path) -> Iterator[object]:
    yield row(1)
    raise KeyError("gone")


HERE = "tests.engine.data.readers.test_shapes"


def test_a_format_of_ones_own_is_a_function_of_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "b.tsv").write_text("Q\tA\n\nQ2\tA2\n")
    point = EntryPoint("tabs", f"{HERE}:numbered", formats.GROUP)
    monkeypatch.setattr(extensions, "entry_points", lambda group: [point] if group == "liit.formats" else [])
    for name in (f"{HERE}:numbered", "tabs"):
        samples, (bad, other), reader = read(folder / "b.tsv", format=name)
        assert [said(sample) for sample in samples] == [["Q", "A"], ["Q2", "A2"]]
        assert (bad.reason, reader.counts.rows) == ("no tab: ''", 4)
        assert other.reason.startswith("wrong type: the columns of a row must have names")
        assert reader.counts.taken_for() == f"1 {name} file, alpaca by instruction, output"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nowhere:rows", "format nowhere:rows: 'nowhere:rows' is not module:function of an importable module"),
        (f"{HERE}:absent", "is not module:function of an importable module"),
        (f"{HERE}:HERE", "is not a function"),
        (f"{HERE}:failing", r"samples\.json: KeyError: 'gone'"),
    ],
)
def test_a_format_of_ones_own_that_fails_is_named(folder: Path, name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        read(write(folder, row(1)), format=name)


def test_what_the_shipped_export_writes_is_read_back(folder: Path) -> None:
    """ShareGPT beside LLaMA-Factory's dataset_info.json, which is about the data."""
    (folder / "dataset_info.json").write_text(json.dumps({"mine": {"file_name": "samples.json"}}))
    write(folder, row(1))
    assert len(read(folder)[0]) == 1
