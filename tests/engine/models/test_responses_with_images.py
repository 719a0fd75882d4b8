"""The same laws where images are many tokens in the midst of the text, for published vision-language families."""

import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from liit.engine.models.encoding import SampleError, encode, encode_prompt
from liit.engine.models.processors import image_token
from tests.engine.models.chat_families import VISION, conversation, vision_processor
from tests.engine.models.test_responses import LENGTH, runs, written

SEEDS = range(60)


@pytest.fixture(scope="module", params=VISION)
def named(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    return request.param, vision_processor(request.param, tmp_path_factory.mktemp("vision"))


def shown(rng: random.Random, turns: list[dict[str, Any]]) -> list[Image.Image]:
    """An image of its own size for every placeholder."""
    count = sum(turn["text"].count("<image>") for turn in turns)
    return [
        Image.new("RGB", (rng.randint(8, 40), rng.randint(8, 40)), (rng.randint(0, 255), 0, 9)) for _ in range(count)
    ]


def test_responses_and_prompts_keep_their_borders_among_images(named: tuple[str, Any]) -> None:
    name, processor = named
    family, seen = VISION[name][0], 0
    for seed in SEEDS:
        rng = random.Random(seed)
        turns = conversation(rng, system=True, images=True)
        images = shown(rng, turns)
        one, prompt = encode(processor, turns, images, LENGTH), encode_prompt(processor, turns, images, LENGTH)
        answers = [turn["text"] for turn in turns if turn["role"] == "assistant"]
        expected = [family.answer(text, text is answers[-1]) + family.end for text in answers]
        assert written(processor.tokenizer, one) == expected, seed
        start = runs(one.response.tolist())[-1][0]
        assert prompt.input_ids.tolist() == one.input_ids[:start].tolist(), seed
        for extra, value in one.extras.items():
            same = value[:start] if extra.endswith("token_type_ids") else value
            assert same.tolist() == prompt.extras[extra].tolist(), (seed, extra)
            assert not extra.endswith("token_type_ids") or len(value) == len(one.input_ids)
        seen += len(images)
    assert seen > len(SEEDS)


STRINGS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{{ PRINTED }}{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@pytest.mark.parametrize("printed", ["m.content", "'' + m.content", "m.content | trim"])
def test_a_template_that_takes_strings_only_is_given_strings_with_the_processors_image_token(
    printed: str, tmp_path: Path
) -> None:
    """It would print the list of parts, or raise, or trim its print."""
    processor = vision_processor("internvl", tmp_path)
    processor.chat_template = STRINGS.replace("PRINTED", printed)
    turns = [{"role": "user", "text": "<image>\nand <image>?"}, {"role": "assistant", "text": "two cups"}]
    one = encode(processor, turns, [Image.new("RGB", (16, 16))] * 2, LENGTH)
    text = processor.tokenizer.decode(one.input_ids).replace(image_token(processor) * 4, "[image]")
    assert text == "<|im_start|>user\n[image]\nand [image]?<|im_end|>\n<|im_start|>assistant\ntwo cups<|im_end|>\n"
    assert written(processor.tokenizer, one) == ["two cups<|im_end|>"]


def test_a_template_that_would_print_a_list_or_lose_the_image_is_refused(tmp_path: Path) -> None:
    processor = vision_processor("internvl", tmp_path)
    turns = [{"role": "user", "text": "<image>why?"}, {"role": "assistant", "text": "so"}]
    processor.chat_template = STRINGS.replace("PRINTED", "m.content | replace('<IMG_CONTEXT>', '')")
    with pytest.raises(SampleError, match="writes 0 image tokens for one image"):
        encode(processor, turns, [Image.new("RGB", (16, 16))], LENGTH)
    only_first = "m.content if loop.last else m.content | map(attribute='text') | join"
    processor.chat_template = STRINGS.replace("PRINTED", only_first)
    with pytest.raises(SampleError, match="cannot write a question and its answer"):
        encode(processor, turns, [Image.new("RGB", (16, 16))], LENGTH)
