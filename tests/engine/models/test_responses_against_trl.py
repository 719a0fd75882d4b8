"""Our responses against TRL's: its masks by `{% generation %}` blocks, and its prompt-completion masks.

What may differ is written out here and told, with the reasons, in `docs/reference/chat-templates.md`.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from liit.engine.models.encoding import encode
from liit.engine.models.responses import stop_ids
from tests.engine.models.chat_families import LANGUAGE, VISION, ChatFamily, conversation, vision_processor
from tests.engine.models.test_responses import LENGTH, runs
from tests.engine.models.test_responses_with_images import shown

templates = pytest.importorskip("trl.chat_template_utils", reason="TRL is not installed")
data = pytest.importorskip("trl.data_utils", reason="TRL is not installed")

SEEDS = range(600)
TAGGED = ("qwen2_5", "qwen3", "smollm3", "llama3", "gemma", "gemma3", "phi3", "deepseek_r1_distill")
"""With blocks of their own, or in TRL's version of the template."""
REWRITTEN = {"qwen3"}
"""TRL's version writes another text than the model's own, from the second question on."""
HEADERS = {"deepseek_r1_distill": "<｜Assistant｜>", "smollm3": "<|im_start|>assistant\n", "qwen2_5": "\n"}
"""What the blocks hold of the prompt."""
SWALLOWING = {"phi3": "<|assistant|>"}
"""A token of the prompt that swallows an answer's first white space, and so reaches into the block."""
ENDLESS = {"llava_onevision": "<|im_end|>"}
"""What ends the turn after the block, which the model would never learn."""
BEYOND = {"llava_1_5": ("", "USER:")}
"""What the block's last space reaches: itself, or the next turn's first token. The space before the block, where it is a token
of its own, is not in it, though the prompt does not have it."""


def talks(family: ChatFamily, rounds: int = 3) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]]]]:
    """Random conversations; with a system turn only where the template takes one."""
    takes = family.name not in ("gemma", "mistral", "mistral_v3")
    for seed in SEEDS:
        turns = conversation(random.Random(seed), system=takes, rounds=rounds)
        yield turns, [{"role": turn["role"], "content": turn["text"]} for turn in turns]


def pictured_talks() -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]], list[Any]]]:
    """Random conversations with pictures before, after and amid the words of questions; and these."""
    for seed in SEEDS:
        rng = random.Random(seed)
        turns = conversation(rng, images=True, rounds=3)
        images = shown(rng, turns)
        left = iter(images)
        yield turns, [{"role": turn["role"], "content": _parts(turn["text"], left)} for turn in turns], images


def responses(processor: Any, turns: list[dict[str, Any]], images: Any = ()) -> tuple[list[int], list[list[int]]]:
    one = encode(processor, turns, images, LENGTH)
    ids = one.input_ids.tolist()
    return ids, [ids[slice(*run)] for run in runs(one.response.tolist())]


def until_stop(processor: Any, run: list[int]) -> list[int]:
    """Without the line break or second end that stands after the token that ends the turn: generation has stopped before it."""
    stops = set(stop_ids(processor))
    first = next((at for at, token in enumerate(run) if token in stops), None)
    return run if first is None else run[: first + 1]


def blocks(processor: Any, messages: list[dict[str, Any]], template: str | None) -> tuple[list[int], list[list[int]]]:
    """TRL's ids, and those of each run of its mask."""
    found = data._tokenize(processor, messages, chat_template=template, return_assistant_tokens_mask=True)
    ids = [int(token) for token in found["input_ids"]]
    return ids, [ids[slice(*run)] for run in runs([bool(one) for one in found["assistant_masks"]])]


def assert_same(name: str, processor: Any, ours: list[list[int]], theirs: list[list[int]]) -> None:
    tokenizer = getattr(processor, "tokenizer", processor)
    header = tokenizer(HEADERS.get(name, ""), add_special_tokens=False)["input_ids"]
    swallowing = tokenizer.convert_tokens_to_ids(SWALLOWING.get(name, "none"))
    end = tokenizer(ENDLESS.get(name, ""), add_special_tokens=False)["input_ids"]
    assert len(ours) == len(theirs)
    for mine, run in zip(ours, theirs, strict=True):
        assert run[: len(header)] == header
        kept = until_stop(processor, run[len(header) + (run[0] == swallowing) :]) + end
        if name in BEYOND:
            assert tokenizer.decode(kept[len(mine) :]).strip() in BEYOND[name]
            lead = mine[: mine[0] != kept[0]]
            assert tokenizer.decode(lead).strip() == ""
            kept = (lead + kept)[: len(mine)]
        assert mine == kept


def begins_with_space(turns: list[dict[str, Any]]) -> bool:
    return any(turn["role"] == "assistant" and turn["text"][0].isspace() for turn in turns)


@pytest.mark.parametrize("name", TAGGED)
def test_responses_are_those_of_generation_blocks(name: str) -> None:
    family = LANGUAGE[name]
    tokenizer = family.tokenizer()
    template = None if name == "smollm3" else templates.get_training_chat_template(tokenizer)
    equal = 0
    for turns, messages in talks(family, 1 if name in REWRITTEN else 3):
        (ids, ours), (other, theirs) = responses(tokenizer, turns), blocks(tokenizer, messages, template)
        if ids == other:
            equal += 1
            assert_same(name, tokenizer, ours, theirs)
        else:
            assert begins_with_space(turns), "only an answer's first white space may become one with the prompt's last"
            assert tokenizer.decode(ids) == tokenizer.decode(other)
    assert equal > len(SEEDS) / 3


@pytest.mark.parametrize("name", [name for name in VISION if name != "internvl"])
def test_responses_among_images_are_those_of_generation_blocks(name: str, tmp_path: Path) -> None:
    processor = vision_processor(name, tmp_path)
    own = templates.has_generation_markers(processor.chat_template)
    template = None if own else templates.get_training_chat_template(processor)
    equal = 0
    for turns, messages, images in pictured_talks():
        (ids, ours), (other, theirs) = responses(processor, turns, images), blocks(processor, messages, template)
        if ids == other:
            equal += 1
            assert_same(name, processor, ours, theirs)
        else:
            assert begins_with_space(turns)
            assert processor.tokenizer.decode(ids) == processor.tokenizer.decode(other)
    assert equal > len(SEEDS) / 3


def _parts(text: str, images: Iterator[Any]) -> list[dict[str, Any]]:
    first, *later = text.split("<image>")
    parts = [{"type": "text", "text": first}]
    for piece in later:
        parts += [{"type": "image", "image": next(images)}, {"type": "text", "text": piece}]
    return [part for part in parts if part.get("text") != ""]


def test_the_last_response_among_images_is_that_of_prompt_and_completion(tmp_path: Path) -> None:
    """InternVL's template has no blocks, in TRL neither."""
    processor = vision_processor("internvl", tmp_path)
    equal = 0
    for turns, messages, images in pictured_talks():
        equal += last_is_completion(processor, turns, messages, images)
    assert equal > len(SEEDS) / 3


@pytest.mark.parametrize("name", ["qwen3", "smollm3", "deepseek_r1_distill"])
def test_the_last_response_with_its_thoughts_is_that_of_prompt_and_completion(name: str) -> None:
    family = LANGUAGE[name]
    tokenizer, equal = family.tokenizer(), 0
    for turns, messages in talks(family):
        thought = f"<think>\n{messages[-2]['content'].strip()}\n</think>\n\n{messages[-1]['content'].strip()}"
        turns[-1]["text"] = messages[-1]["content"] = thought
        equal += last_is_completion(tokenizer, turns, messages)
    assert equal > len(SEEDS) / 3


@pytest.mark.parametrize("name", LANGUAGE)
def test_the_last_response_is_that_of_prompt_and_completion(name: str) -> None:
    family = LANGUAGE[name]
    tokenizer = family.tokenizer()
    equal = sum(last_is_completion(tokenizer, turns, messages) for turns, messages in talks(family))
    assert equal > len(SEEDS) / 3


def last_is_completion(
    processor: Any, turns: list[dict[str, Any]], messages: list[dict[str, Any]], images: Any = ()
) -> bool:
    """Whether the whole text is the same; the last response is the same then, and differs at white space alone elsewhere."""
    prompt = data._tokenize(processor, messages[:-1], add_generation_prompt=True)["input_ids"]
    whole = data._tokenize(processor, messages)["input_ids"]
    ids, ours = responses(processor, turns, images)
    if ids == whole:
        assert ours[-1] == until_stop(processor, whole[data.common_prefix_length(prompt, whole) :])
        return True
    tokenizer = getattr(processor, "tokenizer", processor)
    assert begins_with_space(turns)
    assert tokenizer.decode(ids) == tokenizer.decode(whole)
    return False
