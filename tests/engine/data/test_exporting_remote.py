"""An export to S3 is the export to a folder, and is read back from there."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from liit.engine.data.exporting import export
from liit.engine.data.readers.checks import Bad
from liit.engine.data.readers.formats import read
from liit.engine.data.readers.images import open_image
from liit.engine.data.writers.formats import FORMATS
from liit.engine.run.files import write_table
from liit.engine.run.tables import SAMPLE
from liit.engine.settings.streams import Release
from liit.jobs.export import app
from tests.engine.data.exports import SUFFIX, Row, made, wanted
from tests.engine.data.object_storage import s3, s3_server  # noqa: F401

OUT = "s3://bucket/out"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return made(tmp_path)


def exported(run: Path, form: str, *more: str) -> str:
    given = ["--run", str(run), "--format", form, "--output", OUT, "--timestep", "1", "--leave-out", *more]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    return f"{OUT}/run-t01-{form}.{SUFFIX[form]}"


def read_back(url: str, images: str | None = None) -> dict[str, Any]:
    found = {}
    for row in read(Release(name="again", path=url, images=images)):
        assert not isinstance(row, Bad), row
        turns = [(turn["role"], turn["text"], bool(turn.get("context"))) for turn in row["conversation"]]
        found[row["id"].removeprefix("again/")] = turns, [open_image(image).tobytes() for image in row["images"]]
    return found


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_exported_to_s3_is_read_back_as_the_same_samples(form: str, run: Path, s3: Any) -> None:  # noqa: F811
    assert read_back(exported(run, form, "--copy-images")) == wanted(run, form)
    pictures = s3.find("bucket/out/images")
    assert len(pictures) == len(set(pictures)) > 0


def test_images_that_lie_on_s3_are_referenced_there_or_copied(run: Path, tmp_path: Path, s3: Any) -> None:  # noqa: F811
    """As of a run whose releases were there."""
    before = wanted(run, "swift")
    for file in (run / "releases").iterdir():
        rows: list[Row] = pq.read_table(file).to_pylist()
        for image in (image for row in rows for image in row["images"] if image["path"] is not None):
            name = Path(image["path"]).name
            s3.put_file(image["path"], f"bucket/out/pictures/{name}")
            image["path"] = f"{OUT}/pictures/{name}"
        write_table(file, pq.read_table(file).from_pylist(rows, schema=SAMPLE))
    url = exported(run, "swift")
    assert read_back(url) == before
    exported(run, "llava", "--copy-images")
    selection = run / "t01" / "selection.parquet"
    here = export(run, selection, "swift", "here", tmp_path / "here", copy_images=True)
    assert read_back(str(here.path)) == before
    s3.rm("bucket/out/pictures", recursive=True)
    with pytest.raises(ValueError, match=r"its image s3://bucket/out/pictures/[^\n]* is not there any more"):
        export(run, selection, "swift", "again", OUT)


def test_entries_of_other_exports_stay(run: Path, s3: Any) -> None:  # noqa: F811
    s3.pipe_file("bucket/out/dataset_info.json", b'{"other": {"file_name": "other.json"}}')
    exported(run, "sharegpt")
    told = s3.cat_file("bucket/out/dataset_info.json").decode()
    assert '"other"' in told
    assert '"run-t01-sharegpt"' in told


def test_a_bucket_that_is_not_there_and_a_password_are_refused_in_one_line(run: Path, s3: Any) -> None:  # noqa: F811
    given = ["--run", str(run), "--format", "swift", "--timestep", "1", "--output"]
    done = CliRunner().invoke(app, [*given, "s3://no-bucket/out"])
    assert (done.exit_code, "Traceback" in done.output) == (2, False)
    assert "s3://no-bucket/out/" in done.output
    done = CliRunner().invoke(app, [*given, "s3://me:very-secret@bucket/out"])
    assert done.exit_code == 2
    assert "very-secret" not in done.output
