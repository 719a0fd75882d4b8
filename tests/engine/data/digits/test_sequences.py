"""The sequences beside the lifelong stream: tasks in turn, and text alone; what is trained on is not what is asked."""

import json
from collections import Counter
from pathlib import Path

import pytest

from liit.engine.data.digits import tabular
from liit.engine.data.digits.stream import write_stream
from liit.engine.settings.streams import DigitsStream, FileStream


def written(folder: Path, sequence: str, joint: bool = True) -> FileStream:
    settings = {"size": 600, "sequence": sequence, "joint": joint, "answers_per_skill": 20}
    return write_stream(folder, DigitsStream.model_validate(settings))


def rows(path: str) -> list[dict[str, object]]:
    return json.loads(Path(path).read_text())


@pytest.mark.parametrize("joint", [True, False])
def test_every_release_after_the_first_is_one_task_and_has_its_own_skill(joint: bool, tmp_path: Path) -> None:
    stream = written(tmp_path, "tasks", joint)
    tasks = [Counter(row["task"] for row in rows(release.path)) for release in stream.releases]
    assert [len(found) for found in tasks] == [7 if joint else 1, 1, 1, 1, 1, 1]
    assert len({name for found in tasks[1:] for name in found}) == 5
    skills = [one.skill for one in stream.evaluations]
    assert skills[-5:] == ["classification", "knowledge", "chinese", "multi-image", "position"]
    assert skills[:-5] == (["vqa", "grounding", "language"] if joint else ["caption"])


def test_text_has_no_image_and_no_row_that_is_examined(tmp_path: Path) -> None:
    stream = written(tmp_path, "text")
    assert [release.name for release in stream.releases] == tabular.names()
    for one in (*stream.releases, *stream.evaluations):
        assert not any("image" in row for row in rows(one.path))
    questions = [
        {str(row["conversations"]) for one in sets[1:] for row in rows(one.path)}  # not the base's facts, a closed set
        for sets in (stream.evaluations, stream.targets)
    ]
    assert not questions[0] & questions[1]
    for table in tabular._tables():
        parts = [
            set(tabular._rows(len(table.class_N), split).tolist()) for split in ("training", "target", "evaluation")
        ]
        assert sum(map(len, parts)) == len(set().union(*parts)) == len(table.class_N)


def test_the_same_settings_give_the_same_files(tmp_path: Path) -> None:
    for sequence in ("tasks", "text"):
        for name in ("one", "two"):
            written(tmp_path / sequence / name, sequence)
        one, two = (tmp_path / sequence / name for name in ("one", "two"))
        files = sorted(path.relative_to(one) for path in one.rglob("*.json"))
        assert files
        assert all((one / file).read_bytes() == (two / file).read_bytes() for file in files)
