"""Greedy answers do not depend on their batch; values are means over data sets; unparsable answers are counted."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from liit.engine.evaluation.answering import Answerer
from liit.engine.evaluation.evaluation import keep_first_of_each, summarise
from liit.engine.evaluation.recalling import Recaller, reference_losses, references_of
from liit.engine.fleet.running import TaskError
from liit.engine.models import loading
from liit.engine.models.encoding import encode, encode_prompt
from liit.engine.run.files import write_json
from liit.engine.run.reading import skill_values as values
from liit.engine.settings.streams import EvaluationSet


def sample(
    dataset: str, number: int, question: str, answer: str, references: list[str] | None = None
) -> dict[str, Any]:
    turns = [{"role": "user", "text": question}, {"role": "assistant", "text": answer}]
    return {
        "id": f"{dataset}/{number}",
        "key": number,
        "dataset": dataset,
        "conversation": turns,
        "images": [],
        "references": references,
    }


def test_answers_are_those_of_a_batch_of_one_cut_at_their_own_limit(tiny_llama: str) -> None:
    model = {"path": tiny_llama, "revision": None, "dtype": "float32", "attention": "sdpa"}
    answerer = Answerer(model, None, 300, {"short": 3, "long": 12})
    mine = [
        sample("long", 0, "Hi", "x"),
        sample("short", 1, "A much longer question than that", "x"),
        sample("long", 2, "Why so?", "x"),
    ]
    together = answerer.answer(mine)
    assert together == [answerer.answer([one])[0] for one in mine]
    longer = Answerer(model, None, 300, {"short": 12, "long": 12}).answer(mine)
    assert longer[1] != together[1]
    assert [longer[0], longer[2]] == [together[0], together[2]]
    assert len(together[1]) <= 3, "a token is a byte, and no character has less"
    assert answerer.processor.eos_token not in "".join(together)


def test_a_reference_s_loss_is_the_model_s_own_over_the_last_turn_alone(tiny_llava: str, tmp_path: Path) -> None:
    model, processor = loading.load_model(tiny_llava), loading.load_processor(tiny_llava)
    picture = Image.new("RGB", (20, 16), "red")
    picture.save(tmp_path / "red.png")
    asked = [sample("a", 0, "Hi", "x"), sample("a", 1, "Which colour is it, and why?", "red 一")]
    asked[1]["conversation"] += [{"role": "user", "text": "<image>\nAnd now?"}, {"role": "assistant", "text": "blue"}]
    asked[1]["images"] = [{"path": str(tmp_path / "red.png"), "bytes": None}]
    naive = []
    for one in asked:
        images = [picture] if one["images"] else []
        whole = encode(processor, one["conversation"], images, 300)
        written = len(encode_prompt(processor, one["conversation"], images, 300).input_ids)
        labels = torch.where(whole.response, whole.input_ids, -100)
        labels[:written] = -100
        inputs = {"input_ids": whole.input_ids[None], **whole.extras, "labels": labels[None]}
        naive.append(model(**inputs).loss.item())
    assert reference_losses(model, processor, references_of(processor, asked, 300)) == pytest.approx(naive, rel=1e-5)


def put_on_a_small_device(model: torch.nn.Module, most: int, tokens: int = 1000) -> None:
    """One that has memory for so many samples of less than so many tokens."""

    def check(module: torch.nn.Module, args: Any, inputs: dict[str, Any]) -> None:
        count, length = inputs["input_ids"].shape
        if count > most or length >= tokens:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    model.register_forward_pre_hook(check, with_kwargs=True)


def test_answers_and_losses_of_halved_batches_are_those_of_whole_ones(
    tiny_llama: str, caplog: pytest.LogCaptureFixture
) -> None:
    model = {"path": tiny_llama, "revision": None, "dtype": "float32", "attention": "sdpa"}
    mine = [sample("long", at, "Why " * at, "x") for at in range(1, 6)]
    recaller = Recaller(model, None, 300, {"long": 8})
    prompts = recaller.prepare(mine)
    assert prompts.nbytes > sum(8 * len(one.input_ids) for one in prompts.encoded)
    whole = recaller(prompts).to_pylist()
    put_on_a_small_device(recaller.model, most=2)
    halved = recaller(prompts).to_pylist()
    assert [one["answer"]["answer"] for one in halved] == [one["answer"]["answer"] for one in whole]
    losses = [[one["answer"]["loss"] for one in rows] for rows in (halved, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert "a batch of 5 samples does not fit" in caplog.records[0].getMessage()
    put_on_a_small_device(recaller.model, most=2, tokens=len(prompts.encoded[-1].input_ids))
    with pytest.raises(TaskError, match=r"long/5: its \d+ tokens and the answer do not fit .* lower max_new_tokens"):
        recaller(prompts)


def test_a_skill_is_the_mean_of_its_sets_and_parse_failures_are_wrong_and_counted() -> None:
    sets = [
        EvaluationSet(name="boxes", path="x", skill="grounding", metric="iou"),
        EvaluationSet(name="words", path="x", skill="grounding", metric="exact"),
    ]
    samples = [
        sample("boxes", 0, "where", "[0.0, 0.0, 0.5, 0.5]"),
        sample("boxes", 1, "where", "[0.0, 0.0, 0.5, 0.5]"),
        sample("words", 0, "what", "one", ["two", "three"]),
    ]
    answers = {"boxes/0": "[0.0, 0.0, 0.5, 0.25]", "boxes/1": "somewhere", "words/0": "Three."}
    summary, rows = summarise(samples, answers, sets)
    boxes = summary["grounding"]["datasets"]["boxes"]
    assert (boxes["value"], boxes["n"], boxes["parse_failures"]) == (25.0, 2, 1)
    assert summary["grounding"]["value"] == pytest.approx((25.0 + 100.0) / 2)
    assert [row["value"] for row in rows] == [50.0, 0.0, 100.0]
    assert "loss" not in summary["grounding"]
    assert rows[0]["loss"] is None
    losses = {"boxes/0": 1.0, "boxes/1": 3.0, "words/0": 0.5}
    summary, rows = summarise(samples, answers, sets, losses)
    assert summary["grounding"]["loss"] == pytest.approx((2.0 + 0.5) / 2)
    assert [row["loss"] for row in rows] == list(losses.values())
    with pytest.raises(ValueError, match="evaluation set none has no usable sample"):
        summarise(samples, answers, [EvaluationSet(name="none", path="x", skill="s")])


def test_a_row_s_own_metric_counts_by_its_rows_and_the_set_s_options_are_for_the_set_s_metric() -> None:
    one = EvaluationSet(name="m", path="x", skill="s", metric="number", options={"percent": "hundredth"})
    samples = [
        sample("m", 0, "Which?\nA. cat\nB. dog", "A", ["A"]) | {"metric": "choice"},
        sample("m", 1, "How much?", "0.5"),
        sample("m", 2, "How much?", "0.25") | {"metric": None},
        sample("m", 3, "Why?", "x") | {"metric": "stored"},
    ]
    answers = {"m/0": "a cat", "m/1": "50 %", "m/2": "much", "m/3": "because"}
    summary, rows = summarise(samples, answers, [one])
    found = summary["s"]["datasets"]["m"]
    assert (found["metric"], found["n"], found["parse_failures"]) == ("number", 4, 1)
    assert found["value"] == summary["s"]["value"] == pytest.approx(200 / 3)
    assert [row["value"] for row in rows] == [100, 100, 0, None]
    assert [row["answer"] for row in rows] == list(answers.values())
    assert {name: (part["n"], part["value"]) for name, part in found["metrics"].items()} == {
        "choice": (1, 100),
        "number": (2, 50),
        "stored": (1, None),
    }


def test_stored_answers_have_no_value_and_leave_the_skill_s_to_others(tmp_path: Path) -> None:
    stored = EvaluationSet(name="code", path="x", skill="code", metric="stored")
    words = EvaluationSet(name="words", path="x", skill="words")
    also = EvaluationSet(name="talk", path="x", skill="words", metric="stored")
    samples = [sample("code", 0, "Write it", "x"), sample("words", 0, "Which?", "x"), sample("talk", 0, "Talk", "x")]
    summary, rows = summarise(samples, {"code/0": "def f", "words/0": "x", "talk/0": "hm"}, [stored, words, also])
    assert (summary["code"]["value"], summary["words"]["value"]) == (None, 100)
    assert {row["dataset"]: row["value"] for row in rows} == {"code": None, "words": 100, "talk": None}
    write_json(tmp_path / "evaluation.json", summary)
    assert values(tmp_path / "evaluation.json") == {"words": 100}


def test_figures_of_a_metric_stand_beside_the_set_s_value() -> None:
    sets = [EvaluationSet(name="c", path="x", skill="s", metric="bleu")]
    samples = [sample("c", number, "Describe it", "two dogs") for number in range(3)]
    summary, _ = summarise(samples, {f"c/{number}": "two dogs" for number in range(3)}, sets)
    found = summary["s"]["datasets"]["c"]
    assert (found["value"], found["corpus_bleu"], found["mean_sentence_bleu"]) == (100, 0, 100)


def test_limits_take_the_first_of_each_set_by_key(tmp_path: Path) -> None:
    table = pa.table({"key": pa.array([5, 1, 3, 2], pa.uint64()), "dataset": ["a", "a", "b", "a"]}).sort_by("key")
    pq.write_table(table, tmp_path / "exam.parquet", row_group_size=2)
    keep_first_of_each(tmp_path / "exam.parquet", {"a": 2, "b": None})
    assert pq.read_table(tmp_path / "exam.parquet")["key"].to_pylist() == [1, 2, 3]
