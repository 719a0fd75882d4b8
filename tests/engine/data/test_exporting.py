"""What is exported is what was selected, word for word and pixel for pixel, as each trainer's own reader sees it."""

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from liit.engine.data.exporting import parts
from liit.engine.data.readers.checks import Bad
from liit.engine.data.readers.formats import read
from liit.engine.run.files import write_table
from liit.engine.run.tables import SAMPLE, SELECTION, key_of
from liit.engine.settings.streams import Release
from liit.jobs.export import app

Row = dict[str, Any]
CHOSEN = ("base/seen", "base/two", "words/said", "words/stored", "words/same", "words/hidden")


def picture(seed: int, form: str) -> bytes:
    stream = BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, form, **({"lossless": True} if form == "WEBP" else {}))
    return stream.getvalue()


def sample(name: str, turns: list[tuple[str, str]], images: list[Row], task: str | None = None) -> Row:
    conversation = [{"role": role, "text": text} for role, text in turns]
    dataset = name.split("/")[0]
    row = {"id": name, "key": key_of(name), "dataset": dataset, "arrival": 0, "task": task}
    return row | {"conversation": conversation, "images": images}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder with two releases: images as files, one of them under the wrong suffix, and as bytes; none; two."""
    folder = tmp_path / "pictures of mine"
    folder.mkdir()
    for number, (name, form) in enumerate((("a.png", "PNG"), ("b.png", "JPEG"), ("c d.jpg", "JPEG"))):
        (folder / name).write_bytes(picture(number, form))
    files = [{"path": str(folder / name), "bytes": None} for name in ("a.png", "b.png", "c d.jpg")]
    stored = [{"path": None, "bytes": picture(9, form)} for form in ("WEBP", "PNG")]
    base = [
        sample(
            "base/seen", [("system", "Be brief."), ("user", "<image>\nWhat?"), ("assistant", "a → ü")], files[:1], "vqa"
        ),
        sample("base/left", [("user", "Not"), ("assistant", "chosen")], []),
        sample(
            "base/two",
            [("user", "This <image>"), ("assistant", "yes"), ("user", "<image> or"), ("assistant", "no")],
            files[1:],
        ),
    ]
    words = [
        sample("words/said", [("user", 'A "quoted"\n\nline'), ("assistant", "  kept ")], []),
        sample("words/stored", [("user", "<image><image>"), ("assistant", "both")], stored),
        sample("words/same", [("user", "<image>again"), ("assistant", "the same")], stored[:1]),
        sample("words/hidden", [("user", "<image>"), ("assistant", "../../x")], files[:1]),
    ]
    for number, rows in enumerate((base, words)):
        path = tmp_path / "run" / "releases" / f"{number:02d}-{rows[0]['dataset']}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_table(path, pa.Table.from_pylist(rows, schema=SAMPLE))
    (tmp_path / "run" / "t01").mkdir()
    chosen = [{"id": name, "key": key_of(name)} for name in reversed(CHOSEN)]
    write_table(tmp_path / "run" / "t01" / "selection.parquet", pa.Table.from_pylist(chosen, schema=SELECTION))
    return tmp_path / "run"


def call(run: Path, form: str, output: Path, *more: str, timestep: str = "1") -> Result:
    given = ["--run", str(run), "--format", form, "--output", str(output), "--timestep", timestep, *more]
    return CliRunner().invoke(app, given)


def exported(run: Path, form: str, output: Path, *more: str) -> Path:
    done = call(run, form, output, *more)
    assert done.exit_code == 0, done.output
    return output / f"run-t01-{form}.{'parquet' if form == 'trl' else 'json'}"


def wanted(run: Path) -> dict[str, tuple[list[tuple[str, str]], list[bytes]]]:
    """The chosen samples as they stand in the releases: conversation and the pixels of each image."""
    rows = [row for file in sorted((run / "releases").iterdir()) for row in pq.read_table(file).to_pylist()]
    return {
        row["id"]: (told(row["conversation"]), [seen(image) for image in row["images"]])
        for row in rows
        if row["id"] in CHOSEN
    }


def told(turns: list[Row], role: str = "role", text: str = "text") -> list[tuple[str, str]]:
    return [(turn[role], turn[text]) for turn in turns]


def seen(image: Row | str) -> bytes:
    if isinstance(image, str):
        return Image.open(image).convert("RGB").tobytes()
    return Image.open(BytesIO(image["bytes"]) if image["bytes"] else image["path"]).convert("RGB").tobytes()


def test_llava_is_read_back_by_our_own_reader(run: Path, tmp_path: Path) -> None:
    path = exported(run, "llava", tmp_path / "out", "--copy-images")
    found = {}
    for row in read(Release(name="again", path=str(path))):
        assert not isinstance(row, Bad), row
        images = [seen({**image}) for image in row["images"]]
        found[row["id"].removeprefix("again/")] = (told([{**turn} for turn in row["conversation"]]), images)
    assert found == wanted(run)
    rows = {row["id"]: row for row in json.loads(path.read_text(encoding="utf-8"))}
    assert isinstance(rows["base/seen"]["image"], str)
    assert isinstance(rows["base/two"]["image"], list)
    assert "image" not in rows["words/said"]
    assert rows["base/seen"]["task"] == "vqa"


@pytest.mark.parametrize("copy", [True, False], ids=["copied", "referenced"])
def test_sharegpt_is_read_back_through_its_dataset_info(copy: bool, run: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    exported(run, "sharegpt", output, *(["--copy-images"] if copy else []))
    entry = json.loads((output / "dataset_info.json").read_text())["run-t01-sharegpt"]
    assert entry["formatting"] == "sharegpt"
    tags, columns, found = entry["tags"], entry["columns"], {}
    roles = {tags[f"{role}_tag"]: role for role in ("user", "assistant", "system")}
    for row in json.loads((output / entry["file_name"]).read_text(encoding="utf-8")):
        turns = [(roles[turn[tags["role_tag"]]], turn[tags["content_tag"]]) for turn in row[columns["messages"]]]
        images = row[columns["images"]]
        assert sum(text.count("<image>") for _, text in turns) == len(images)
        assert all(Path(image).is_absolute() != copy for image in images)
        found[row["id"]] = turns, [seen(str(output / image)) for image in images]
    assert found == wanted(run)


def test_a_second_export_adds_to_the_dataset_info(run: Path, tmp_path: Path) -> None:
    exported(run, "sharegpt", tmp_path / "out")
    (run / "t02").mkdir()
    chosen = pq.read_table(run / "t01" / "selection.parquet").slice(0, 2)
    write_table(run / "t02" / "selection.parquet", chosen)
    assert call(run, "sharegpt", tmp_path / "out", timestep="2").exit_code == 0
    entries = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    sizes = {name: len(json.loads((tmp_path / "out" / one["file_name"]).read_text())) for name, one in entries.items()}
    assert sizes == {"run-t01-sharegpt": len(CHOSEN), "run-t02-sharegpt": 2}


@pytest.mark.parametrize("copy", [True, False], ids=["copied", "referenced"])
def test_trl_messages_are_parts_with_an_image_for_each_image(copy: bool, run: Path, tmp_path: Path) -> None:
    table = pq.read_table(exported(run, "trl", tmp_path / "out", *(["--copy-images"] if copy else [])))
    found = {}
    for row in table.to_pylist():
        turns = []
        for message in row["messages"]:
            assert all((part["type"] == "text") == (part["text"] is not None) for part in message["content"])
            turns.append((message["role"], "".join(part["text"] or "<image>" for part in message["content"])))
        assert all(Path(image["path"]).is_absolute() and image["bytes"] is None for image in row["images"])
        found[row["id"]] = turns, [seen(image) for image in row["images"]]
    assert found == wanted(run)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert set(features) == set(table.column_names)
    assert features["images"] == [{"_type": "Image"}]


@pytest.mark.parametrize("text", ["", "a", "<image>", "<image>\nWhat?", "a <image><image> b\n", "\n<image>"])
def test_parts_joined_are_the_text(text: str) -> None:
    assert "".join(part.get("text", "<image>") for part in parts(text)) == text
    assert parts(text)


@pytest.mark.parametrize("form", ["llava", "sharegpt", "trl"])
def test_images_become_files_once_each_with_the_suffix_of_what_they_are(form: str, run: Path, tmp_path: Path) -> None:
    for copy, count in ((["--copy-images"], 5), ([], 2)):
        folder = tmp_path / f"out-{count}"
        exported(run, form, folder, *copy)
        files = sorted((folder / "images").iterdir())
        assert len(files) == count, "one file for each content; only bytes where images are not copied"
        for file in files:
            with Image.open(file) as image:
                assert image.format == {".png": "PNG", ".jpg": "JPEG", ".webp": "WEBP"}[file.suffix]


def test_a_file_of_ids_is_exported_instead_of_a_timestep(run: Path, tmp_path: Path) -> None:
    write_table(tmp_path / "mine.parquet", pa.table({"id": ["words/said", "base/left"]}))
    given = ["--run", str(run), "--format", "llava", "--output", str(tmp_path / "out"), "--selection"]
    assert CliRunner().invoke(app, [*given, str(tmp_path / "mine.parquet")]).exit_code == 0
    rows = json.loads((tmp_path / "out" / "mine-llava.json").read_text())
    assert [row["id"] for row in rows] == ["base/left", "words/said"], "in the order of arrival"
    write_table(tmp_path / "mine.parquet", pa.table({"id": pa.array([], pa.string())}))
    assert CliRunner().invoke(app, [*given, str(tmp_path / "mine.parquet")]).exit_code == 0
    assert json.loads((tmp_path / "out" / "mine-llava.json").read_text()) == []


@pytest.mark.parametrize(
    ("form", "timestep", "says"),
    [
        ("alpaca", "1", "unknown format 'alpaca'; choose one of: llava, sharegpt, trl"),
        ("llava", "4", "t04/selection.parquet does not exist"),
        ("llava", "2", "1 selected samples are in no release of the run, the first is base/nobody"),
        ("llava", "3", "sample words/gone: its image /nowhere/a.png is not there any more"),
        ("trl", "5", "sample words/torn: an image of it is none of JPEG, PNG"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    form: str, timestep: str, says: str, run: Path, tmp_path: Path
) -> None:
    broken = [
        sample("words/gone", [("user", "<image>"), ("assistant", "a")], [{"path": "/nowhere/a.png", "bytes": None}]),
        sample("words/torn", [("user", "<image>"), ("assistant", "a")], [{"path": None, "bytes": b"not an image"}]),
    ]
    write_table(run / "releases" / "02-broken.parquet", pa.Table.from_pylist(broken, schema=SAMPLE))
    for folder, name in (("t02", "base/nobody"), ("t03", "words/gone"), ("t05", "words/torn")):
        (run / folder).mkdir()
        write_table(run / folder / "selection.parquet", pa.table({"id": ["base/seen", name]}))
    refused(call(run, form, tmp_path / "out", timestep=timestep), says)
    assert not list((tmp_path / "out").glob("run-*"))


def test_an_answer_that_is_context_stays_so_or_is_refused(run: Path, tmp_path: Path) -> None:
    told = sample("words/told", [("user", "A?"), ("assistant", "a"), ("user", "B?"), ("assistant", "b")], [])
    told["conversation"][1]["context"] = True
    write_table(run / "releases" / "02-told.parquet", pa.Table.from_pylist([told], schema=SAMPLE))
    write_table(tmp_path / "mine.parquet", pa.table({"id": ["words/told"]}))
    given = [
        "--run",
        str(run),
        "--output",
        str(tmp_path / "out"),
        "--selection",
        str(tmp_path / "mine.parquet"),
        "--format",
    ]
    assert CliRunner().invoke(app, [*given, "llava"]).exit_code == 0
    (again,) = read(Release(name="again", path=str(tmp_path / "out" / "mine-llava.json")))
    assert not isinstance(again, Bad)
    assert [turn.get("context", False) for turn in again["conversation"]] == [False, True, False, False]
    for form in ("sharegpt", "trl"):
        refused(CliRunner().invoke(app, [*given, form]), "sample words/told: an answer of it is context")


def test_a_run_and_one_selection_must_be_named(run: Path, tmp_path: Path) -> None:
    refused(call(tmp_path, "llava", tmp_path / "out"), "is no run folder")
    refused(call(run, "llava", tmp_path / "out", "--selection", "x.parquet"), "give either --timestep or --selection")


def refused(done: Result, says: str) -> None:
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1
    assert says in done.output
