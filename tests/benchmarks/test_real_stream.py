"""The stream of released text, from hand-written pieces in the form of the packages': sides never meet, and a seed says all."""

import hashlib
import json
import random
import tarfile
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from real import fetching, known
from real.fetching import Package, packages, unpacked
from real.items import Item, chosen, listed
from real.names import TONGUES, facts, things
from real.reading import choices, published
from real.stream import Stream, compose, mixture

from liit.engine.settings.config import read

ROOT = Path(__file__).resolve().parents[2]
MIXTURE: dict[str, Any] = {
    "copies": 0.1,
    "wrong": 0.1,
    "releases": {"first": {"a": 30, "b": 30}, "second": {"a": 40, "b": 20, "c": 40}, "third": {"b": 30, "c": 30}},
    "skills": {
        "one": {"held_out": {"a": 20, "b": 10}},
        "two": {"held_out": {"c": 25}},
    },
    "targets": 3,
    "metrics": {"b": "exact"},
}


def items() -> list[Item]:
    """Three tasks of a few items each about a hundred things, some of which they share."""
    return [
        Item(task, f"thing {thing}", f"{task} of {thing}, {turn}?", f"{task} {thing}", others=others)
        for task, things_of, others in (
            ("a", range(100), ()),
            ("b", range(50, 150), ()),
            ("c", range(90, 190), ("no", "never")),
        )
        for thing in things_of
        for turn in range(2)
    ]


def everything(_: Item) -> bool:
    return True


@pytest.fixture(scope="module")
def stream() -> Stream:
    return compose(items(), MIXTURE, 0, everything)


def questions(rows: list[dict[str, Any]]) -> list[str]:
    return [row["conversations"][0]["value"] for row in rows]


def test_what_is_taught_asked_and_looked_at_has_no_source_in_common(stream: Stream) -> None:
    source = {item.question: item.source for item in items()}
    sides = [
        {source[text] for rows in side.values() for text in questions(rows)}
        for side in (stream.releases, stream.held_out, stream.targets)
    ]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]


def test_every_task_has_what_the_mixture_says_and_a_held_out_source_once(stream: Stream) -> None:
    copies = set(stream.made["copies"])
    for name, counts in MIXTURE["releases"].items():
        assert Counter(row["task"] for row in stream.releases[name] if row["id"] not in copies) == counts
    source = {item.question: item.source for item in items()}
    for skill, how in MIXTURE["skills"].items():
        assert Counter(row["task"] for row in stream.held_out[skill]) == how["held_out"]
        for task in how["held_out"]:
            about = [source[text] for text in questions([row for row in stream.held_out[skill] if row["task"] == task])]
            assert len(about) == len(set(about))


def test_copies_are_exact_and_of_what_came_before_or_with_them(stream: Stream) -> None:
    seen: dict[str, dict[str, Any]] = {}
    for position, rows in enumerate(stream.releases.values()):
        copies = [row for row in rows if row["id"] in stream.made["copies"]]
        originals = [row for row in rows if row not in copies]
        seen |= {row["id"]: row for row in originals}
        assert len(copies) == (round(0.1 * len(originals)) if position else 0)
        for copy in copies:
            assert {**copy, "id": copy["id"].removesuffix("-again")} == seen[copy["id"].removesuffix("-again")]
    ids = [row["id"] for rows in stream.releases.values() for row in rows]
    assert len(ids) == len(set(ids))


def test_so_many_answers_as_are_said_are_wrong_and_no_others(stream: Stream) -> None:
    right = {item.question: item for item in items()}
    wrong = []
    for position, rows in enumerate(stream.releases.values()):
        taught = [row for row in rows if row["id"] not in stream.made["copies"]]
        said = [
            row for row in taught if row["conversations"][1]["value"] != right[row["conversations"][0]["value"]].answer
        ]
        assert len(said) == (round(0.1 * len(taught)) if position else 0)
        wrong += said
    assert sorted(row["id"] for row in wrong) == sorted(stream.made["wrong"])
    for row in wrong:
        item = right[row["conversations"][0]["value"]]
        assert row["conversations"][1]["value"] in (
            item.others or {each.answer for each in items() if each.task == item.task}
        )
    assert all(
        row["references"] == [right[row["conversations"][0]["value"]].answer]
        for rows in stream.held_out.values()
        for row in rows
    )


def test_a_seed_says_all_and_the_order_of_items_says_nothing(stream: Stream) -> None:
    mixed = items()
    random.Random(5).shuffle(mixed)
    assert compose(mixed, MIXTURE, 0, everything) == stream
    assert compose(items(), MIXTURE, 1, everything) != stream


def test_what_is_too_long_is_nowhere_and_what_is_too_few_is_said(stream: Stream) -> None:
    long = set(questions(stream.releases["first"])[:5])
    short = compose(items(), MIXTURE, 0, lambda item: item.question not in long)
    kinds = (short.releases, short.held_out, short.targets)
    assert not long & {text for kind in kinds for rows in kind.values() for text in questions(rows)}
    with pytest.raises(ValueError, match=r"c has \d+ items left for a release that asks for 40"):
        compose([item for item in items() if item.task != "c" or item.source < "thing 13"], MIXTURE, 0, everything)
    with pytest.raises(ValueError, match="a has 0 sources to keep apart, 20 are asked for"):
        compose([item for item in items() if item.task != "a"], MIXTURE, 0, everything)


def test_options_keep_their_letters_and_what_is_no_list_of_them_is_left_out(tmp_path: Path) -> None:
    assert listed("\nA. bank\nB. new york ") == ["bank", "new york"]
    assert listed("A. bank\nC. mall") == []
    assert chosen(["bank", "mall"], "mall", whole=False) == ("A. bank\nB. mall", "B", ("A",))
    assert chosen(["bank", "mall"], "mall", whole=True)[1:] == ("B. mall", ("A. bank",))
    good = {"question": "Where?", "options": "A. here\nB. there", "answer": "B. there"}
    same = {"question": "Which?", "options": "A. it\nB. it", "answer": "B. it"}
    torn = {"question": "Who?", "options": "A. you\n", "answer": "B. I"}
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (good, same, torn)))
    assert [item.answer for item in choices(tmp_path / "set.jsonl", "where", "Choose.", whole=True)] == ["B. there"]


def test_published_sets_become_items_with_their_sources(tmp_path: Path) -> None:
    option = {"question": "Q", "options": "A. x\nB. y", "answer": "A. x"}
    short, long = "Tea -- It is a drink.", "Tea -- " + "very " * 70 + "long."
    sets: dict[str, list[dict[str, Any]]] = {
        "BoolQ/combined": [
            {"question": "is tea a drink", "passage": short, "label": True},
            {"question": "is tea a stone", "passage": short, "label": False},
            {"question": "is it long", "passage": long, "label": True},
            {"question": "unanswered", "passage": short},
        ],
        "CommonsenseQA/validation": [option],
        "OpenBookQA/test": [option],
        "PIQA/validation": [option],
        "SIQA/test": [option | {"passage": "Ann left."}],
        "NQ-open/combined": [{"question": "who", "answer": ["Ann", "Ann ", "Bo"]}],
        "ASDiv/test": [
            {"passage": "Two and two.", "question": "Sum?", "answer": "4 things"},
            {"passage": "A clock.", "question": "Time?", "answer": "4:30"},
        ],
        "MedMCQA/MedMCQA-Validation/Anatomy": [option],
        "MMLU/clinical": [option],
    }
    for name, rows in sets.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = published(tmp_path)
    by_task = {task: [item for item in found if item.task == task] for task in {item.task for item in found}}
    assert [(item.answer, item.source) for item in by_task["boolq"]] == [
        ("Yes", f"passage {short}"),
        ("No", f"passage {short}"),
    ]
    assert {(item.answer, item.source) for item in by_task["title"]} == {("Tea", f"passage {short}")}
    assert by_task["nq"][0].references == ("Ann", "Bo")
    assert [(item.answer, item.references) for item in by_task["asdiv"]] == [("4 things", ("4",))]
    assert by_task["siqa"][0].question.startswith("Ann left. Q\nA. x")
    assert {task: by_task[task][0].answer for task in ("csqa", "clinical", "medmcqa")} == {
        "csqa": "A",
        "clinical": "A",
        "medmcqa": "A. x",
    }


def country(code: str, name: str, capital: str) -> dict[str, Any]:
    return {
        "cca3": code,
        "unMember": True,
        "name": {"common": name},
        "capital": [capital],
        "region": "Europe",
        "subregion": "Western Europe",
        "languages": {"x": "Speech"},
        "translations": {three: {"common": f"{name} {three}"} for _, three in TONGUES.values()},
    }


@pytest.fixture
def tables(tmp_path: Path) -> tuple[Path, Path]:
    """Annotations of three emoji and a table of four countries, one of them no member."""
    for tongue in ("en", *(two for two, _ in TONGUES.values())):
        names = {"🍎": f"apple{'' if tongue == 'en' else tongue}", "🦒": "giraffe", "➡": "arrow"}
        (tmp_path / tongue).mkdir()
        entries = {symbol: {"tts": [name]} for symbol, name in names.items()}
        (tmp_path / tongue / "annotations.json").write_text(json.dumps({"annotations": {"annotations": entries}}))
    rows = [country("BBB", "Beland", "Becity"), country("AAA", "Aland", "Acity"), country("CCC", "Celand", "Cecity")]
    (tmp_path / "countries.json").write_text(
        json.dumps([*rows, country("DDD", "Deland", "Decity") | {"unMember": False}])
    )
    return tmp_path, tmp_path / "countries.json"


def test_names_and_facts_say_what_the_tables_say(tables: tuple[Path, Path]) -> None:
    annotations, table = tables
    named, spoken = list(things(annotations)), {code: tongue for tongue, (code, _) in TONGUES.items()}
    assert {item.source for item in named} == {"emoji 🍎", "emoji 🦒"}, "an arrow is no thing"
    for item in named:
        if item.task == "language":
            assert item.answer == spoken[item.question.partition("“apple")[2][:2]]
            assert item.answer not in item.others
        if item.task == "translation":
            code = item.answer.removeprefix("apple")
            assert item.question == f"What is “apple” in {spoken[code]}?"
    told = list(facts(table))
    assert {item.source for item in told} == {"country AAA", "country BBB", "country CCC"}
    assert {item.answer for item in told if item.task == "capital"} == {
        "Acity",
        "Aland",
        "Becity",
        "Beland",
        "Cecity",
        "Celand",
    }


def test_of_its_own_answers_those_are_kept_that_end_and_are_true(tables: tuple[Path, Path]) -> None:
    asked = known.prompts(*tables)
    facts_asked = [item for item in asked if item.task == "own-facts"]
    assert {item.answer for item in facts_asked} == {"Europe", "Becity", "Cecity"}
    told = next(item for item in asked if item.task == "own-explain")
    answers = ["It is Becity.", "It is Rome.", None, " An apple is a fruit. "]
    becity, cecity = (next(item for item in facts_asked if item.answer == name) for name in ("Becity", "Cecity"))
    kept = known.kept([becity, cecity, told, told], answers)
    assert [(item.question, item.answer) for item in kept] == [
        (becity.question, "It is Becity."),
        (told.question, "An apple is a fruit."),
    ]


def packed(folder: Path, name: str) -> Package:
    """An archive that was fetched already."""
    archive = folder / "packages" / name
    archive.parent.mkdir(parents=True, exist_ok=True)
    (folder / "inside.txt").write_text("content")
    if name.endswith(".whl"):
        with zipfile.ZipFile(archive, "w") as wheel:
            wheel.write(folder / "inside.txt", "package/inside.txt")
    else:
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(folder / "inside.txt", "package/inside.txt")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    return Package("thing", "pip", "1.0", name, digest, "MIT", "a text")


@pytest.mark.parametrize("name", ["thing.whl", "thing.tgz"])
def test_an_archive_is_unpacked_when_it_is_what_was_pinned_and_once(name: str, tmp_path: Path) -> None:
    package = packed(tmp_path, name)
    with pytest.raises(ValueError, match=r"thing\.\w+ has sha256 .*, the list has 00"):
        unpacked(replace(package, sha256="00"), tmp_path)
    assert not (tmp_path / "unpacked").exists()
    folder = unpacked(package, tmp_path)
    assert (folder / "package" / "inside.txt").read_text() == "content"
    (tmp_path / "packages" / name).unlink()
    assert unpacked(package, tmp_path) == folder, "what is unpacked is fetched no more"


def test_what_did_not_come_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching.subprocess, "run", lambda *_, **__: None)
    with pytest.raises(ValueError, match=r"thing\.whl did not come"):
        unpacked(Package("thing", "npm", "1.0", "thing.whl", "00", "MIT", "a text"), tmp_path)
    with pytest.raises(ValueError, match="client is 'gem'; choose pip or npm"):
        Package("thing", "gem", "1.0", "thing.gem", "00", "MIT", "a text").command(tmp_path)


def test_every_package_is_pinned_and_in_the_documentation() -> None:
    page = (ROOT / "docs" / "how-to" / "real-weights.md").read_text(encoding="utf-8")
    for package in packages().values():
        assert len(bytes.fromhex(package.sha256)) == 32
        line = next(line for line in page.splitlines() if line.startswith(f"| `{package.name}` |"))
        assert {package.version, package.sha256, package.licence} <= {cell.strip(" `") for cell in line.split("|")}


def test_the_configuration_is_of_what_the_mixture_writes() -> None:
    told, config = mixture(), read(ROOT / "jobs" / "configs" / "real-text.yaml", [])
    stream = yaml.safe_load((ROOT / "jobs" / "configs" / "real-text.yaml").read_text())["stream"]
    assert config.model.max_length >= told["tokens"] + max(how["max_new_tokens"] for how in told["skills"].values())
    for position, ((name, counts), release) in enumerate(
        zip(told["releases"].items(), stream["releases"], strict=True)
    ):
        size = sum(counts.values())
        assert release["path"] == f"build/real/stream/{position}-{name}.json"
        assert release["samples"] == size + (round(told["copies"] * size) if position else 0)
    for (skill, how), one in zip(told["skills"].items(), stream["evaluations"], strict=True):
        assert sum(how["held_out"].values()) >= 60
        assert (one["skill"], one["metric"], one["max_new_tokens"]) == (skill, how["metric"], how["max_new_tokens"])
        assert one["path"] == f"build/real/stream/held-out/{skill}.json"
