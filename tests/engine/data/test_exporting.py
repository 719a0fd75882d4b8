"""What is exported is what was selected, word for word and pixel for pixel; what a format cannot hold is said."""

import json
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner, Result

from liit.engine.data.readers.checks import Bad
from liit.engine.data.readers.formats import read
from liit.engine.data.writers.formats import FORMATS, parts
from liit.engine.data.writers.limits import HELD_NOT, found
from liit.engine.run.files import write_table
from liit.engine.run.tables import SAMPLE
from liit.engine.settings.streams import Release
from liit.jobs.export import app
from tests.engine.data.exports import CHOSEN, HELD, SUFFIX, as_seen, call, exported, made, sample, wanted


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made(tmp_path)


@pytest.mark.parametrize("copy", [True, False], ids=["copied", "referenced"])
@pytest.mark.parametrize("form", FORMATS)
def test_what_is_exported_is_read_back_as_the_same_samples(form: str, copy: bool, run: Path, tmp_path: Path) -> None:
    path = exported(run, form, tmp_path / "out", *(["--copy-images"] if copy else []))
    again, tasks = {}, {}
    for row in read(Release(name="again", path=str(path), images=None if copy else str(tmp_path))):
        assert not isinstance(row, Bad), row
        name = row["id"].removeprefix("again/")
        again[name], tasks[name] = as_seen({**row}), row["task"]
    assert again == wanted(run, form)
    assert {name: task for name, task in tasks.items() if task} == ({"base/seen": "vqa"} if form != "llava" else {})


@pytest.mark.parametrize("form", FORMATS)
def test_what_a_format_cannot_hold_is_refused_and_nothing_is_written(form: str, run: Path, tmp_path: Path) -> None:
    lost = len(CHOSEN) - len(HELD[form])
    done = call(run, form, tmp_path / "out")
    if not lost:
        assert done.exit_code == 0
        return
    refused(done, f"{form} cannot hold {lost} of {len(CHOSEN)} samples: ")
    assert "pass --leave-out" in done.output
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_or_changed_is_said_by_kind_with_two_ids(run: Path, tmp_path: Path) -> None:
    said = call(run, "llava", tmp_path / "out", "--leave-out").output
    assert "left out, a system turn: 1, such as base/seen" in said
    assert "left out, several images: 2, such as base/two, words/stored" in said
    assert "left out, an answer that is context alone, which its trainer would learn: 1, such as words/told" in said
    assert "4 samples left out, which llava cannot hold" in said
    assert (
        "written as it is, <image> after other text of its turn, which LLaVA's trainer puts first: 1, such as words/hidden"
        in said
    )
    assert "left out" not in call(run, "swift", tmp_path / "out", "--leave-out").output


def test_a_selection_of_which_nothing_can_be_held_is_refused_in_any_case(run: Path, tmp_path: Path) -> None:
    write_table(run / "t01" / "selection.parquet", pa.table({"id": ["words/told"]}))
    refused(call(run, "trl", tmp_path / "out", "--leave-out"), "trl cannot hold 1 of 1 samples")


@pytest.mark.parametrize(
    ("form", "turns", "held"),
    [
        ("llava", [("user", "<image>a"), ("assistant", "b")], True),
        ("llava", [("user", "a"), ("assistant", "b</s>")], False),
        ("llava", [("user", "a"), ("assistant", "ASSISTANT: b")], False),
        ("llava", [("user", "a"), ("assistant", "the ASSISTANT is b")], True),
        ("llava", [("user", "<image>a"), ("assistant", "b"), ("user", "<image>c"), ("assistant", "d")], False),
        ("sharegpt", [("system", ""), ("user", "a"), ("assistant", "b")], False),
        ("sharegpt", [("user", "a"), ("assistant", "write <video>")], False),
        ("swift", [("system", ""), ("user", "a"), ("assistant", "write <video>")], True),
        ("trl", [("system", "s"), ("user", "<image>a<image>"), ("assistant", "b")], True),
    ],
)
def test_limits_are_those_of_the_trainers(form: str, turns: list[tuple[str, str]], held: bool) -> None:
    assert (not found(HELD_NOT[form], sample("a/b", turns, [])["conversation"])) == held


def test_a_second_export_adds_to_the_dataset_info(run: Path, tmp_path: Path) -> None:
    exported(run, "sharegpt", tmp_path / "out")
    (run / "t02").mkdir()
    write_table(run / "t02" / "selection.parquet", pa.table({"id": ["base/seen", "base/left"]}))
    assert call(run, "sharegpt", tmp_path / "out", timestep="2").exit_code == 0
    entries = json.loads((tmp_path / "out" / "dataset_info.json").read_text())
    sizes = {name: len(json.loads((tmp_path / "out" / one["file_name"]).read_text())) for name, one in entries.items()}
    assert sizes == {"run-t01-sharegpt": len(HELD["sharegpt"]), "run-t02-sharegpt": 2}


def test_without_images_trl_gets_plain_texts_and_no_column_of_images(run: Path, tmp_path: Path) -> None:
    write_table(run / "t01" / "selection.parquet", pa.table({"id": ["words/said", "base/left"]}))
    table = pq.read_table(exported(run, "trl", tmp_path / "out"))
    assert table.column_names == ["id", "task", "messages"]
    assert table["messages"][0].as_py() == [
        {"role": "user", "content": "Not"},
        {"role": "assistant", "content": "chosen"},
    ]


@pytest.mark.parametrize("text", ["", "a", "<image>", "<image>\nWhat?", "a <image><image> b\n", "\n<image>"])
def test_parts_joined_are_the_text(text: str) -> None:
    assert "".join(part.get("text", "<image>") for part in parts(text)) == text
    assert parts(text)


@pytest.mark.parametrize("form", ["sharegpt", "swift", "trl"])
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
        ("alpaca", "1", "unknown format 'alpaca'; choose one of: llava, sharegpt, swift, trl"),
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
        write_table(run / folder / "selection.parquet", pa.table({"id": ["words/said", name]}))
    refused(call(run, form, tmp_path / "out", timestep=timestep), says)
    assert not list((tmp_path / "out").glob("run-*"))


def test_a_run_and_one_selection_must_be_named(run: Path, tmp_path: Path) -> None:
    refused(call(tmp_path, "llava", tmp_path / "out"), "is no run folder")
    refused(call(run, "llava", tmp_path / "out", "--selection", "x.parquet"), "give either --timestep or --selection")


def refused(done: Result, says: str) -> None:
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1
    assert says in done.output


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_withdrawn_is_in_no_export(form: str, run: Path, tmp_path: Path) -> None:
    """By its id, or by the picture that two samples show."""
    picture = sha256((tmp_path / "pictures of mine" / "a.png").read_bytes()).hexdigest()
    lines = {1: ["id: base/two # she asked"], 2: [f"image: {picture}"]}
    (run / "config.yaml").write_text(yaml.safe_dump({"pool": {"withdrawals": lines}}))
    gone = {"base/two", "base/seen", "words/hidden"}
    done = call(run, form, tmp_path / "out", "--leave-out")
    assert done.exit_code == 0, done.output
    assert "3 samples of the selection are withdrawn and left out, the first is base/seen" in done.output
    path = tmp_path / "out" / f"run-t01-{form}.{SUFFIX[form]}"
    found = list(read(Release(name="again", path=str(path), images=str(tmp_path))))
    assert not [row for row in found if isinstance(row, Bad)]
    again = {row["id"] for row in found if not isinstance(row, Bad)}
    assert again == {f"again/{name}" for name in HELD[form] - gone}
