"""The embedded stream: the same bytes from the same seed, digits that never cross their sets, tasks as documented."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from liit.engine.data.digits.canvas import CELL, SHARES, compose, crops, render, split_crops
from liit.engine.data.digits.evaluation import SETS, SKILLS, TARGETS_PER_SKILL
from liit.engine.data.digits.releases import BAD_SHARE, ECHO_SHARE, RELEASES, REPEAT_SHARE, Kind, plan_stream
from liit.engine.data.digits.samples import SCENE_POOL, released
from liit.engine.data.digits.stream import write_stream
from liit.engine.data.readers import checks, formats
from liit.engine.settings.streams import DigitsStream, FileStream

SETTINGS = DigitsStream(size=600, seed=3, answers_per_skill=9)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digits")


@pytest.fixture(scope="module")
def stream(folder: Path) -> FileStream:
    return write_stream(folder, SETTINGS)


def rows(path: str) -> list[dict[str, Any]]:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def images(row: dict[str, Any]) -> list[str]:
    named = row.get("image", [])
    return [named] if isinstance(named, str) else named


def drawn_crops(path: Path) -> set[int]:
    """Which of the 1,797 handwritten digits an image shows, found by comparing every cell with each of them."""
    known = np.rint(crops() * 16).astype(int)
    # The largest colour value differs by colour (230 to 255), so ink is compared relative to the darkest ink there is.
    canvas = np.asarray(Image.open(path), dtype=float).max(axis=2)
    found = set()
    for top in range(0, canvas.shape[0], CELL):
        for left in range(0, canvas.shape[1], CELL):
            cell = canvas[top : top + CELL, left : left + CELL]
            if cell.any():
                ink = cell / cell.max() * known.max(axis=(1, 2))[:, None, None]
                found.add(int(np.abs(ink - known).sum(axis=(1, 2)).argmin()))
    return found


def test_the_three_sets_of_handwritten_digits_are_disjoint_and_cover_all_of_them() -> None:
    sets = [{int(crop) for digit in split_crops(split) for crop in digit} for split in SHARES]
    assert len(set.union(*sets)) == sum(map(len, sets)) == len(crops())
    assert all(len(digit) > 0 for split in SHARES for digit in split_crops(split))


def test_no_two_handwritten_digits_are_the_same() -> None:
    assert len(np.unique(crops().reshape(len(crops()), -1), axis=0)) == len(crops())


def test_a_cell_shows_the_handwritten_digit_that_it_was_composed_with(tmp_path: Path) -> None:
    scene = compose(np.random.default_rng(0), "training", (3, 8, 0), ("red", "blue", "yellow"))
    Image.fromarray(render(scene)).save(tmp_path / "scene.png")
    assert drawn_crops(tmp_path / "scene.png") == {mark.crop for mark in scene}


@pytest.mark.parametrize(("room", "split"), [("evaluations", "evaluation"), ("targets", "target")])
def test_held_out_images_show_digits_of_their_own_set_only(
    stream: FileStream, folder: Path, room: str, split: Any
) -> None:
    allowed = {int(crop) for digit in split_crops(split) for crop in digit}
    paths = {path for one in getattr(stream, room) for row in rows(one.path) for path in images(row)}
    assert len(paths) > 50
    assert all(drawn_crops(folder / path) <= allowed for path in paths)


def test_released_images_show_training_digits_only(stream: FileStream, folder: Path) -> None:
    allowed = {int(crop) for digit in split_crops("training") for crop in digit}
    paths = [path for release in stream.releases for row in rows(release.path) for path in images(row)]
    plain = [path for path in paths if "again" not in path][::5]
    assert all(drawn_crops(folder / path) <= allowed for path in plain)


def test_the_same_seed_writes_the_same_bytes_and_another_seed_others(
    stream: FileStream, folder: Path, tmp_path: Path
) -> None:
    write_stream(tmp_path / "again", SETTINGS)
    write_stream(tmp_path / "other", SETTINGS.model_copy(update={"seed": 4}))

    def content(root: Path) -> dict[str, bytes]:
        return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}

    assert content(tmp_path / "again") == content(folder)
    assert content(tmp_path / "other") != content(folder)


def test_every_row_is_kept_by_the_reader_of_a_users_files(stream: FileStream) -> None:
    for one in (*stream.releases, *stream.evaluations, *stream.targets):
        reader = formats.read(one)
        found = list(reader)
        assert [item for item in found if isinstance(item, checks.Bad)] == []
        assert len(found) == one.samples
        assert reader.counts.repaired == {}


def test_ids_are_unique_and_placeholders_match_images_that_exist(stream: FileStream, folder: Path) -> None:
    for one in (*stream.releases, *stream.evaluations, *stream.targets):
        found = rows(one.path)
        assert len({row["id"] for row in found}) == len(found)
        for row in found:
            text = "".join(turn["value"] for turn in row["conversations"])
            assert text.count("<image>") == len(images(row))
            assert all((folder / path).is_file() for path in images(row))
            assert all(turn["value"].strip() for turn in row["conversations"])


def test_every_skill_has_its_answers_and_its_targets(stream: FileStream) -> None:
    for found, total in ((stream.evaluations, SETTINGS.answers_per_skill), (stream.targets, TARGETS_PER_SKILL)):
        counts = Counter(dict.fromkeys(SKILLS, 0))
        for one in found:
            counts[one.skill] += len(rows(one.path))
        assert set(counts.values()) == {total}
        assert len(counts) == 7


def test_chinese_references_have_at_least_eight_characters(stream: FileStream) -> None:
    chinese = [one for one in stream.evaluations if one.metric == "bleu-zh"]
    assert len(chinese) == 2
    assert all(len(row["conversations"][-1]["value"]) >= 8 for one in chinese for row in rows(one.path))


def test_releases_hold_their_tasks_and_lack_what_they_must_lack(stream: FileStream) -> None:
    found = {release.name: rows(release.path) for release in stream.releases}
    for release in RELEASES:
        assert {row["task"] for row in found[release.name]} == {task.name for task, _ in release.tasks}
    text = {name: json.dumps(rows_of, ensure_ascii=False) for name, rows_of in found.items()}
    for name in text:
        assert ("Answer with a box" in text[name]) == (name == "llava")
        assert ("数字" in text[name]) == (name == "m3it")
        assert all(images(row) for row in found[name]) == (name != "llava")
    several = {name: sum(len(images(row)) > 1 for row in found[name]) for name in found}
    assert several["mantis"] == len(found["mantis"])
    assert 0 < several["m3it"] < 5


def test_the_default_size_has_the_documented_counts() -> None:
    plans = plan_stream(3000, 0)
    assert [len(plan.task_n) for plan in plans] == [500, 1500, 60, 300, 250, 390]
    kinds = Counter(int(kind) for plan in plans for kind in plan.kind_n)
    assert kinds[Kind.WRONG] + kinds[Kind.CUT] == 90
    assert kinds[Kind.REPEAT] == 150
    assert kinds[Kind.ECHO] == 34


@pytest.mark.parametrize("size", [600, 3000, 40_000])
def test_flawed_and_repeated_samples_have_their_shares(size: int) -> None:
    for position, plan in enumerate(plan_stream(size, 1)):
        total = len(plan.task_n)
        kinds = Counter(Kind(int(kind)) for kind in plan.kind_n)
        assert kinds[Kind.WRONG] + kinds[Kind.CUT] == pytest.approx(BAD_SHARE * total, abs=1.5)
        assert kinds[Kind.REPEAT] == pytest.approx(REPEAT_SHARE * total, abs=1.5)
        assert kinds[Kind.ECHO] <= round(ECHO_SHARE * total)
        assert (kinds[Kind.ECHO] > 0) == (position in (1, 5))


def test_a_near_duplicate_says_what_its_source_says_about_a_dimmed_image() -> None:
    plans = plan_stream(600, 0)
    for release, plan in enumerate(plans):
        for index in np.flatnonzero(plan.kind_n >= Kind.REPEAT):
            at, source = map(int, plan.source_n2[index])
            copy, original = released(plans, release, int(index), 0), released(plans, at, source, 0)
            assert copy.row["conversations"] == original.row["conversations"]
            for mine, theirs in zip(copy.drawings, original.drawings, strict=True):
                assert mine.path != theirs.path
                difference = render(theirs.scene).astype(int) - render(mine.scene, mine.brightness)
                assert 0 < difference.max() < 48


def test_a_wrong_or_cut_answer_differs_from_the_right_one() -> None:
    plans = plan_stream(3000, 0)
    for release, plan in enumerate(plans):
        flawed = np.flatnonzero((plan.kind_n == Kind.WRONG) | (plan.kind_n == Kind.CUT))
        for index in map(int, flawed):
            answer = released(plans, release, index, 0).row["conversations"][-1]["value"]
            plan.kind_n[index] = Kind.PLAIN
            assert answer != released(plans, release, index, 0).row["conversations"][-1]["value"]


def test_samples_far_apart_share_images_so_that_files_stay_few() -> None:
    plans = plan_stream(40_000, 0)
    task_n = plans[1].task_n
    first = next(i for i in range(len(task_n)) if task_n[i] == task_n[i + SCENE_POOL] and plans[1].kind_n[i] == 0)
    near, far = (released(plans, 1, first + shift, 0) for shift in (0, SCENE_POOL))
    assert [drawing.scene for drawing in near.drawings] == [drawing.scene for drawing in far.drawings]


def test_skills_are_the_seven_of_the_documentation() -> None:
    assert SKILLS == ("vqa", "knowledge", "multilingual", "grounding", "reasoning", "language", "multi-image")
    assert all(1 <= sum(one.skill == skill for one in SETS) <= 3 for skill in SKILLS)
