"""What is a response token, and that images, padding and templates do not move it."""

import pytest
from PIL import Image

from liit.engine.models import loading
from liit.engine.models.encoding import SampleError, collate, encode, encode_prompt, tokenizer_of, without_images

CONVERSATION = [
    {"role": "user", "text": "<image>\nA <image> b"},
    {"role": "assistant", "text": "first 一"},
    {"role": "user", "text": "and?"},
    {"role": "assistant", "text": "second"},
]
IMAGES = [Image.new("RGB", (20, 16), "red"), Image.new("RGB", (16, 30), "blue")]


def test_response_tokens_are_the_assistant_turns_with_their_ends(tiny_llava: str) -> None:
    processor = loading.load_processor(tiny_llava)
    one = encode(processor, CONVERSATION, IMAGES, 400)
    assert processor.tokenizer.decode(one.input_ids[one.response]) == "first 一</s>second</s>"
    assert int((one.input_ids == 4).sum()) == 8  # two images of four patches
    assert one.extras["pixel_values"].shape[0] == 2


def test_without_images_the_response_tokens_stay(tiny_llava: str) -> None:
    processor = loading.load_processor(tiny_llava)
    seen = encode(processor, CONVERSATION, IMAGES, 400)
    blind = encode(processor, without_images(CONVERSATION), [], 400)
    assert blind.input_ids[blind.response].tolist() == seen.input_ids[seen.response].tolist()
    assert int((blind.input_ids == 4).sum()) == 0
    assert len(blind.input_ids) == len(seen.input_ids) - 8 - 1  # the line break after the first image goes with it


def test_the_prompt_is_the_beginning_of_the_whole(tiny_llama: str) -> None:
    tokenizer = loading.load_processor(tiny_llama)
    text = [{**turn, "text": turn["text"].replace("<image>", "it")} for turn in CONVERSATION]
    whole, prompt = encode(tokenizer, text, [], 400), encode_prompt(tokenizer, text, [], 400)
    n = len(prompt.input_ids)
    assert whole.input_ids[:n].tolist() == prompt.input_ids.tolist()
    assert whole.response[n:].all(), "the response must begin where generation begins"


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_masked_and_loses_nothing(side: str, tiny_llava: str) -> None:
    processor = loading.load_processor(tiny_llava)
    two = [encode(processor, CONVERSATION, IMAGES, 400), encode(processor, without_images(CONVERSATION[:2]), [], 400)]
    batch = collate(two, 0, side)
    for row, one in enumerate(two):
        real = batch["attention_mask"][row].bool()
        assert batch["input_ids"][row][real].tolist() == one.input_ids.tolist()
        assert batch["response"][row][real].tolist() == one.response.tolist()
        assert not batch["response"][row][~real].any()


def test_what_cannot_be_encoded_says_why(tiny_llama: str) -> None:
    tokenizer = loading.load_processor(tiny_llama)
    with pytest.raises(SampleError, match="more than the context of 10"):
        encode(tokenizer, [{"role": "user", "text": "long question"}, {"role": "assistant", "text": "a"}], [], 10)
    assert tokenizer_of(tokenizer) is tokenizer


def test_a_model_folder_that_cannot_be_used_is_refused_by_name(tmp_path: object) -> None:
    with pytest.raises(loading.ModelError, match=f"model {tmp_path}: no config.json"):
        loading.load_processor(str(tmp_path))
