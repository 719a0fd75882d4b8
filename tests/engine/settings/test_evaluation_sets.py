"""Evaluation sets by name, what may be changed in them, and what is refused with its cause."""

from pathlib import Path
from typing import Any

import pytest

from liit.engine.data import stream
from liit.engine.settings.config import ConfigError, read
from liit.engine.settings.metric_options import options_of
from liit.engine.settings.presets import PRESETS
from liit.engine.settings.streams import EvaluationSet, FileStream

CONFIGS = Path(__file__).resolve().parents[3] / "jobs" / "configs"


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_needs_a_path_alone_and_comes_back_from_its_own_dump(name: str) -> None:
    one = EvaluationSet.model_validate({"preset": name, "path": "/data/set"})
    known = PRESETS[name]
    assert (one.name, one.skill, one.metric) == (name, known.skill, known.metric)
    assert (one.max_new_tokens, one.samples, one.options) == (known.max_new_tokens, known.samples, dict(known.options))
    assert EvaluationSet.model_validate(one.model_dump()) == one


def test_every_key_of_a_preset_can_be_changed() -> None:
    change = {
        "name": "exam",
        "skill": "seeing",
        "metric": "iou",
        "limit": 9,
        "max_new_tokens": 5,
        "images": "/pictures",
    }
    one = EvaluationSet.model_validate({"preset": "refcoco", "path": "/x", "options": {"answer_scale": 1000}, **change})
    assert {key: getattr(one, key) for key in change} == change
    assert one.options == {"box": "xyxy", "scale": 1, "answer_scale": 1000}
    other = EvaluationSet.model_validate({"preset": "refcoco", "path": "/x", "metric": "exact"})
    assert other.options == {}, "options of a preset are for its metric"
    assert EvaluationSet.model_validate({"preset": "gsm8k", "path": "a/test.jsonl"}).format == "auto"
    assert EvaluationSet.model_validate({"preset": "gsm8k", "path": "a"}).format == "auto"


@pytest.mark.parametrize(
    ("one", "message"),
    [
        ({"preset": "gqq", "path": "x"}, "unknown preset 'gqq'; known are gqa, vqav2"),
        (
            {"preset": "gqa"},
            "preset gqa needs path: files of lmms-lab-encoder/GQA, config testdev_balanced_instructions, split",
        ),
        ({"metric": "rouge"}, "unknown metric 'rouge'; known are exact"),
        (
            {"metric": "iou", "options": {"bax": "xywh"}},
            "options.bax of metric iou: no such option; it takes pattern, box",
        ),
        ({"metric": "iou", "options": {"box": "xyxz"}}, "options.box of metric iou: Input should be 'xyxy' or 'xywh'"),
        (
            {"metric": "stored", "options": {"box": "xywh"}},
            "options.box of metric stored: no such option; it takes none",
        ),
        (
            {"metric": "iou", "options": {"answer_scale": 1}},
            "answer_scale cannot be compared with references in pixels",
        ),
        ({"metric": "judge"}, "options.base_url of metric judge: Field required"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_that_names_the_set(
    one: dict[str, Any], message: str, tmp_path: Path
) -> None:
    given = one if "preset" in one else {"name": "exam", "path": "x", "skill": "s", **one}
    config = f"stream: {{kind: files, releases: [{{name: a, path: x}}], evaluations: [{given}]}}"
    (tmp_path / "run.yaml").write_text(config)
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "run.yaml", [])
    assert message in str(caught.value)
    assert "stream.files.evaluations.0" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_options_have_defaults_and_those_of_one_s_own_metric_stay_as_they_are() -> None:
    assert options_of("number", {"decimal": "comma"}).percent == "unit"
    assert options_of("my_metrics:close", {"tolerance": 2}) == {"tolerance": 2}


def test_a_preset_is_part_of_what_a_set_is_and_no_preset_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "test.jsonl"
    path.write_text("{}")
    plain = EvaluationSet(name="gsm8k", path=str(path), skill="s", format="llava")
    named = EvaluationSet.model_validate({"preset": "gsm8k", "path": str(path), "format": "llava"})
    assert set(stream.reading(plain, tmp_path)) == {"name", "format"}
    assert stream.reading(named, tmp_path) == stream.reading(plain, tmp_path) | {"preset": "gsm8k"}


@pytest.mark.parametrize("name", ["llava-1.5-7b", "llama3-8b", "instructblip-continual-1", "instructblip-continual-2"])
def test_the_shipped_configurations_name_published_sets(name: str) -> None:
    stream = read(CONFIGS / f"{name}.yaml", []).stream
    assert isinstance(stream, FileStream)
    own = {one.name for one in stream.evaluations if one.preset is None}
    assert own <= {"exam-captions", "exam-joint"}, (
        "which are of what the models were taught before, and published as no set"
    )
