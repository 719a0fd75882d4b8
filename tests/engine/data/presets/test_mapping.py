"""Rows as publishers have them become samples; what is asked is what the field's evaluators ask."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from liit.engine.answers.metrics import check_references, score
from liit.engine.data.presets.mapping import MAPPINGS, mapped
from liit.engine.data.readers.formats import Bad, read
from liit.engine.data.readers.images import open_image
from liit.engine.settings.presets import PRESETS
from liit.engine.settings.streams import EvaluationSet
from tests.engine.answers.field import installed, task
from tests.engine.data.presets.published import HUMANS, ROWS, picture


def preset(name: str, path: Path | str, **more: Any) -> EvaluationSet:
    return EvaluationSet.model_validate({"preset": name, "path": str(path), **more})


def rows_of(
    name: str, rows: Sequence[object], folder: Path | str = ".", left_out: list[str] | None = None
) -> list[Any]:
    return list(mapped(preset(name, "x"), iter(rows), str(folder), [] if left_out is None else left_out))


def test_every_preset_has_a_mapping_and_rows_with_its_columns() -> None:
    assert set(PRESETS) == set(MAPPINGS) == set(ROWS)
    for name, rows in ROWS.items():
        for row in rows:
            needed = {column for column in PRESETS[name].columns if not column.startswith("?")}
            assert needed <= set(row)


@pytest.mark.parametrize("name", PRESETS)
def test_a_published_table_becomes_samples_whose_own_references_are_worth_100(name: str, tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS[name]), tmp_path / "test-00000-of-00001.parquet")
    (tmp_path / "n1.jpg").write_bytes(picture()["bytes"])
    one = preset(name, tmp_path)
    samples: list[Any] = list(read(one))
    assert not [sample for sample in samples if isinstance(sample, Bad)]
    expected = 4 if name == "ocr-vqa" else 3 if name.startswith("refcoco") else 2
    assert len({sample["id"] for sample in samples}) == len(samples) == expected
    pictures = [open_image(image).size for sample in samples for image in sample["images"]]
    assert len(pictures) == sum(turn["text"].count("<image>") for sample in samples for turn in sample["conversation"])
    assert set(pictures) <= {(40, 20)}
    raw = rows_of(name, ROWS[name], tmp_path)
    for sample, row in zip(samples, raw, strict=True):
        question, answer = sample["conversation"][0]["text"], sample["conversation"][-1]["text"]
        metric, references = row.get("metric") or one.metric, sample["references"]
        check_references(metric, references, one.options if metric == one.metric else {}, question)
        if metric not in ("stored", "cider"):
            options = one.options if metric == one.metric else {}
            assert score(metric, [references[0]], [references], options, [question]).value == 100
            assert score(metric, [answer], [references], options, [question]).value == pytest.approx(100, abs=10)


def test_json_lines_are_read_as_parquet_is(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS["gsm8k"]))
    (one, two) = read(preset("gsm8k", tmp_path / "test.jsonl"))
    assert [sample["references"] for sample in (one, two) if isinstance(sample, dict)] == [["4"], ["1,250"]]


QUESTIONS = {
    "gqa": "<image>\nWhich colour is it?\nAnswer the question using a single word or phrase.",
    "vizwiz": "<image>\nWhat is this\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n"
    "Answer the question using a single word or phrase.",
    "textvqa": "<image>\nWhat is written there?\nAnswer the question using a single word or phrase.",
    "scienceqa": "<image>\nContext: Look.\nWhich?\nA. cat\nB. dog\n"
    "Answer with the option's letter from the given choices directly.",
    "aokvqa": "<image>\nWhich?\nA. cat\nB. dog\nC. cow\nD. owl\n"
    "Answer with the option's letter from the given choices directly.",
    "mmmu": "<image> Which is it?\nA. <image>\nB. <image>\nC. x\n\n"
    "Answer with the option's letter from the given choices directly.",
    "flickr30k": "<image>\nProvide a one-sentence caption for the provided image.",
    "coco-cn": "<image>\n用中文描述这张图片。",
    "mmlu": "The following are multiple choice questions (with answers) about abstract algebra.\n\n"
    "What is 2 + 2?\nA. 3\nB. 4\nC. 5\nD. 6\nAnswer:",
    "gsm8k": "Question: Two and two?\nAnswer:",
    "bbh": "Q: not True is\nA:",
    "tydiqa": "Context: Ann was born in 1900.\n\nQuestion: When?\n\nAnswer:",
    "alpaca-eval": "Write.",
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_is_asked_is_the_field_s_prompt_to_the_letter(name: str) -> None:
    row = rows_of(name, ROWS[name])[0]
    assert row["conversations"][0] == {"from": "human", "value": QUESTIONS[name]}


def test_answers_and_references_are_those_of_the_set() -> None:
    vqa = rows_of("okvqa", ROWS["okvqa"])[0]
    assert (vqa["references"], vqa["conversations"][1]["value"]) == (HUMANS, "red")
    one, two, _ = rows_of("refcoco", ROWS["refcoco"])
    assert one["references"] == two["references"] == ["[0.250000, 0.250000, 0.750000, 0.750000]"]
    assert one["conversations"][1]["value"] == "[0.25, 0.25, 0.75, 0.75]"
    assert (one["id"], two["id"]) == ("r1-0", "r1-1")
    assert [row["references"] for row in rows_of("bbh", ROWS["bbh"])] == [["False"], ["(B)"]]
    assert [row.get("metric") for row in rows_of("bbh", ROWS["bbh"])] == [None, "choice"]
    assert [row["metric"] for row in rows_of("mmmu", ROWS["mmmu"])] == ["choice", "mmmu-open"]
    listed = rows_of("mmmu", [ROWS["mmmu"][1] | {"answer": "['8', 'eight']"}])[0]
    assert listed["references"] == ["8", "eight"]
    finnish = rows_of("tydiqa", ROWS["tydiqa"])[1]
    assert finnish["conversations"][0]["value"].endswith("Kysymys: When?\n\nVastaus:")


def test_pictures_of_a_question_stand_where_it_names_them() -> None:
    rows = ROWS["mmmu"][0] | {"question": "Is <image 2> or <image 1> it?", "options": "['a', 'b']"}
    (row,) = rows_of("mmmu", [rows])
    assert row["images"] == [rows["image_2"], rows["image_1"]]
    (bad,) = rows_of("mmmu", [rows | {"image_2": None}])
    assert str(bad) == "missing image: the question names one that the row does not have"


def test_gqa_finds_its_pictures_in_a_table_of_their_own(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["n1"], "image": [picture((7, 5))]}), tmp_path / "testdev-00000-of-00001.parquet")
    rows = rows_of("gqa", ROWS["gqa"], tmp_path)
    assert [open_image(image).size for row in rows for image in [{**row["images"][0], "path": None}]] == [(7, 5)] * 2
    assert rows_of("gqa", ROWS["gqa"], tmp_path / "none")[0]["images"] == ["n1.jpg"]


def test_rows_of_other_splits_are_left_out_and_counted() -> None:
    rows = [row | {"split": split} for row in ROWS["flickr30k"] for split in ("train", "test", "val")]
    left_out: list[str] = []
    assert len(rows_of("flickr30k", rows, left_out=left_out)) == 2
    assert left_out == ["4 rows of other splits than preset flickr30k has"]


def test_files_of_something_else_are_refused_and_a_row_that_is_unlike_the_others_gives_its_reason() -> None:
    with pytest.raises(
        ValueError, match=r"rows have columns question, but no id, .*lmms-lab-encoder/GQA, config testdev"
    ):
        rows_of("gqa", [{"question": "Which?"}])
    gone = {key: value for key, value in ROWS["gsm8k"][0].items() if key != "answer"}
    odd = ROWS["gsm8k"][0] | {"answer": None}
    broken = ValueError("not JSON: line 3")
    unmarked = ROWS["gsm8k"][0] | {"answer": "4"}
    found = rows_of("gsm8k", [ROWS["gsm8k"][0], gone, odd, broken, unmarked, ROWS["gsm8k"][1]])
    assert [type(row) for row in found] == [dict, ValueError, ValueError, ValueError, ValueError, dict]
    assert str(found[1]) == "missing column: no answer in a row of preset gsm8k"
    assert str(found[2]).startswith("unlike its set: a row of preset gsm8k: AttributeError")
    assert found[3] is broken
    assert str(found[4]).startswith("missing answer: no '####'")
    assert "not base64" in str(rows_of("coco-cn", [ROWS["coco-cn"][0] | {"image_base64_str": ["%"]}])[0])
    assert "boxes in pixels need the picture" in str(rows_of("refcoco", [ROWS["refcoco"][0] | {"image": "a.jpg"}])[0])
    assert "not an image" in str(rows_of("refcoco", [ROWS["refcoco"][0] | {"image": {"bytes": b"x"}}])[0])


SUFFIX = {"pre_prompt": "", "post_prompt": "\nAnswer the question using a single word or phrase."}
UNSURE = {
    "pre_prompt": "",
    "post_prompt": "\nWhen the provided information is insufficient, respond with 'Unanswerable'.",
}
UNSURE["post_prompt"] += SUFFIX["post_prompt"]
CAPTION = "Provide a one-sentence caption for the provided image."
LETTER = "Answer with the option's letter from the given choices directly."


@pytest.mark.parametrize(
    ("name", "module", "function", "settings"),
    [
        ("gqa", "gqa.utils", "gqa_doc_to_text", (SUFFIX,)),
        ("vqav2", "vqav2.utils", "vqav2_doc_to_text", (SUFFIX,)),
        ("textvqa", "textvqa.utils", "textvqa_doc_to_text", (SUFFIX,)),
        ("okvqa", "ok_vqa.utils", "ok_vqa_doc_to_text", (UNSURE,)),
        ("vizwiz", "vizwiz_vqa.utils", "vizwiz_vqa_doc_to_text", (UNSURE,)),
        (
            "scienceqa",
            "scienceqa.utils",
            "sqa_doc_to_text",
            ({"format": "default", "pre_prompt": "", "post_prompt": f"\n{LETTER}"},),
        ),
        ("flickr30k", "flickr30k.utils", "flickr_doc_to_text", ()),
        ("textcaps", "textcaps.utils", "textcaps_doc_to_text", ({"prompt": CAPTION},)),
    ],
)
def test_prompts_are_those_of_lmms_eval(name: str, module: str, function: str, settings: tuple[Any, ...]) -> None:
    needs = (
        ("loguru", "datasets", "pycocoevalcap", "pycocotools")
        if name in ("gqa", "flickr30k", "textcaps")
        else ("loguru",)
    )
    asks = getattr(task(f"lmms_eval.tasks.{module}", *needs), function)
    for row, ours in zip(ROWS[name], rows_of(name, ROWS[name]), strict=True):
        assert ours["conversations"][0]["value"].removeprefix("<image>\n") == asks(row, *settings)


@pytest.mark.parametrize(
    ("name", "family"), [("refcoco", "refcoco"), ("refcoco-plus", "refcoco+"), ("refcocog", "refcocog")]
)
def test_prompts_and_boxes_of_referring_are_those_of_lmms_eval(name: str, family: str) -> None:
    """The modules of all three families name their functions after the first."""
    refcoco = task(f"lmms_eval.tasks.{family}.utils_rec", "datasets")
    for row in rows_of(name, ROWS[name]):
        text = row["conversations"][0]["value"].removeprefix("<image>\n")
        assert text == refcoco.refcoco_bbox_rec_doc_to_text({"answer": text.rpartition(": ")[2]})
    x, y, w, h = ROWS[name][1]["bbox"]
    told = {
        "question_id": 1,
        "answer": "cat",
        "bbox": [x / 40, y / 20, (x + w) / 40, (y + h) / 20],
    }  # as its process_docs says
    reference = rows_of(name, ROWS[name])[2]["references"][0]
    judged = refcoco.refcoco_bbox_rec_process_result(told, [reference])
    assert refcoco.refcoco_bbox_rec_iou([judged["refcoco_IoU"]]) == pytest.approx(1, abs=1e-4)


def test_prompts_of_mmmu_are_those_of_lmms_eval() -> None:
    mmmu = task("lmms_eval.tasks.mmmu.utils", "loguru")
    settings = {"prompt_type": "format", "multiple_choice_prompt": LETTER}
    settings["open_ended_prompt"] = "Answer the question using a single word or phrase."
    for row, ours in zip(ROWS["mmmu"], rows_of("mmmu", ROWS["mmmu"]), strict=True):
        assert ours["conversations"][0]["value"] == mmmu.replace_images_tokens(mmmu.mmmu_doc_to_text(row, settings))


@pytest.mark.parametrize(
    ("name", "number", "file"),
    [
        ("mmlu", 0, "mmlu/generative/mmlu_abstract_algebra.yaml"),
        ("mmlu", 1, "mmlu/generative/mmlu_anatomy.yaml"),
        ("gsm8k", 0, "gsm8k/gsm8k.yaml"),
        ("bbh", 0, "bbh/zeroshot/boolean_expressions.yaml"),
        ("tydiqa", 0, "tydiqa/tydiqa_goldp_en.yaml"),
        ("tydiqa", 1, "tydiqa/tydiqa_goldp_fi.yaml"),
        ("humaneval", 0, "humaneval/humaneval_instruct.yaml"),
    ],
)
def test_prompts_are_those_of_the_harness(name: str, number: int, file: str) -> None:
    folder = installed("lm_eval") / "tasks"
    settings = told(folder / file)
    if "include" in settings:
        settings = told((folder / file).parent / settings["include"]) | settings
    asked = jinja2.Template(settings["doc_to_text"], keep_trailing_newline=True).render(ROWS[name][number])
    about = settings.get("description", "") if name == "mmlu" else ""  # which bbh's rows do not have
    assert rows_of(name, ROWS[name])[number]["conversations"][0]["value"] == about + asked


def told(file: Path) -> dict[str, Any]:
    """A task's settings; what they name of its code is left out."""
    text = re.sub(r"!function \S+", "null", file.read_text(encoding="utf-8"))
    return dict(yaml.safe_load(text))
