"""The digits tokenizer knows every word of the stream, spells what it does not know, and gives back what it was given."""

from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers import pre_tokenizers

from liit.engine.data.digits.canvas import render
from liit.engine.data.digits.evaluation import SETS
from liit.engine.data.digits.language import PRETRAINING
from liit.engine.data.digits.pretraining import tokens
from liit.engine.data.digits.releases import RELEASES, plan_stream
from liit.engine.data.digits.samples import held_out, released
from liit.engine.data.digits.tokenizer import PIECES, pieces
from liit.engine.models.encoding import encode
from liit.engine.models.loading import load_processor

BYTES = set(pre_tokenizers.ByteLevel.alphabet())


@pytest.fixture(scope="module")
def processor() -> Any:
    return load_processor("digits-base")


def stream_texts() -> set[str]:
    """Texts of fresh samples of all releases, sets and pretraining, spaced as the template does."""
    found: set[str] = set()
    plans = plan_stream(6000, 77)
    samples = [
        released(plans, release, index, 77)
        for release, plan in enumerate(plans)
        for index in range(0, len(plan.task_n), 1 if release > 1 else 3)
    ]
    samples += [held_out(task, one.name, "evaluation", 77, i) for one in SETS for task in one.tasks for i in range(40)]
    for sample in samples:
        for turn in sample.row["conversations"]:
            found.add(turn["value"] if turn["value"].startswith("<image>") else f" {turn['value']}")
    rng = np.random.default_rng(77)
    for task in PRETRAINING:
        found.update(f" {text}" for _ in range(100) for turn in task.ask(rng, ()) for text in turn)
    return found


def test_every_piece_of_the_stream_is_one_token_and_every_text_comes_back_exactly(processor: Any) -> None:
    tokenizer = processor.tokenizer
    texts = stream_texts()
    assert len(texts) > 1000
    for text in sorted(texts):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids) == text
        for part in text.split("<image>"):
            tokens_of_part = tokenizer.tokenize(part)
            assert tokens_of_part == pieces(part)
            assert [piece for piece in tokens_of_part if piece not in tokenizer.get_vocab()] == []


@pytest.mark.parametrize(
    "text",
    ["Zürich 東京 🙂\t\n  tabs", "naïve e\u0301 ﬁ", "x" * 300, "3.14159, -0.5e10", "红色abc七7", " ", "\r\n", "Ġ</"],
)
def test_any_text_comes_back_exactly(processor: Any, text: str) -> None:
    ids = processor.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert processor.tokenizer.decode(ids) == text


def test_unknown_words_are_spelled_in_bytes(processor: Any) -> None:
    spelled = processor.tokenizer.tokenize("zyzzyva")
    assert spelled == list("zyzzyva")
    assert set(spelled) <= BYTES


def test_chinese_is_split_into_single_characters() -> None:
    assert len(pieces("红色的数字是七。")) == 8
    assert r"\p{Han}" in PIECES


def test_the_template_takes_text_and_parts_alike(processor: Any) -> None:
    def render_turns(question: Any) -> str:
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "7"}]
        return processor.apply_chat_template(turns, tokenize=False)

    parts = [{"type": "image"}, {"type": "text", "text": "Which digit is red?"}]
    expected = "USER: <image>\nWhich digit is red? ASSISTANT: 7</s>"
    assert render_turns("<image>\nWhich digit is red?") == render_turns(parts) == expected
    spaced = [{"type": "text", "text": "Image 1: "}, {"type": "image"}, {"type": "text", "text": " What?"}]
    assert render_turns(spaced) == "USER: Image 1: <image> What? ASSISTANT: 7</s>"


@pytest.mark.parametrize("release", range(len(RELEASES)))
def test_pretraining_sees_the_tokens_that_the_engine_makes(processor: Any, release: int) -> None:
    plans = plan_stream(600, 5)
    for index in range(min(20, len(plans[release].task_n))):
        sample = released(plans, release, index, 5)
        turns = sample.row["conversations"]
        roles = {"human": "user", "gpt": "assistant"}
        conversation = [{"role": roles[turn["from"]], "text": turn["value"]} for turn in turns]
        images = [Image.fromarray(render(drawing.scene, drawing.brightness)) for drawing in sample.drawings]
        encoded = encode(processor, conversation, images, 2048)
        pairs = [(turns[i]["value"], turns[i + 1]["value"]) for i in range(0, len(turns), 2)]
        ids, learned = tokens(processor, pairs, len(images))
        assert encoded.input_ids.tolist() == ids
        assert encoded.response.tolist() == learned
