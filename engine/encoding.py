"""Conversation to tokens: the chat template rendered once, response tokens marked, images expanded, batches padded.

Training, scoring, ingest and evaluation all come through here, so a sample is the same tokens everywhere. Needs torch
and transformers only. Legend: B samples, S positions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from PIL import Image

PLACEHOLDER = "<image>"
Conversation = Sequence[Mapping[str, str]]


class SampleError(ValueError):
    """One sample cannot be used; the message is the reason that its quarantine row gets."""


@dataclass(frozen=True)
class Encoded:
    """One sample as the model sees it.

    input_ids: (S,) int64. response: (S,) bool, True on the tokens of assistant turns, end-of-turn token included.
    extras: what the processor adds beside the ids (pixel_values, ...), the first axis counting images.
    """

    input_ids: torch.Tensor
    response: torch.Tensor
    extras: dict[str, torch.Tensor] = field(default_factory=dict)


def encode(processor: Any, conversation: Conversation, images: Sequence[Image.Image], max_length: int) -> Encoded:
    """Tokens of a whole conversation with its response mask.

    Raises SampleError when the sample is longer than `max_length` or has no response token.
    """
    text, spans = _render(processor, conversation)
    encoded = _tokenize(processor, text, spans, images)
    _check_length(encoded, max_length)
    if not encoded.response.any():
        raise SampleError("no response token: every assistant turn is empty")
    return encoded


def encode_prompt(
    processor: Any, conversation: Conversation, images: Sequence[Image.Image], max_length: int
) -> Encoded:
    """Tokens up to the last assistant turn, which the model is to write. Raises SampleError when too long."""
    messages = _messages(processor, conversation[:-1])
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    encoded = _tokenize(processor, text, [], images)
    _check_length(encoded, max_length)
    return encoded


def without_images(conversation: Conversation) -> list[dict[str, str]]:
    """The conversation with its image placeholders taken out: what image grounding compares with (Adapt-∞, eq. 2)."""
    return [
        {"role": turn["role"], "text": turn["text"].replace(PLACEHOLDER + "\n", "").replace(PLACEHOLDER, "")}
        for turn in conversation
    ]


def collate(encoded: Sequence[Encoded], pad_id: int, side: str = "right", length: int | None = None) -> dict[str, Any]:
    """A padded batch: input_ids (B, S), attention_mask (B, S), response (B, S) bool, the extras joined over images."""
    longest = max(len(one.input_ids) for one in encoded)
    width = longest if length is None else max(length, longest)
    input_ids = torch.full((len(encoded), width), pad_id, dtype=torch.long)
    attention = torch.zeros((len(encoded), width), dtype=torch.long)
    response = torch.zeros((len(encoded), width), dtype=torch.bool)
    for row, one in enumerate(encoded):
        n = len(one.input_ids)
        place = slice(0, n) if side == "right" else slice(width - n, width)
        input_ids[row, place] = one.input_ids
        attention[row, place] = 1
        response[row, place] = one.response
    names = dict.fromkeys(name for one in encoded for name in one.extras)
    extras = {name: torch.cat([one.extras[name] for one in encoded if name in one.extras]) for name in names}
    return {"input_ids": input_ids, "attention_mask": attention, "response": response, **extras}


def tokenizer_of(processor: Any) -> Any:
    """The tokenizer inside a processor, or the tokenizer itself for a language model."""
    return getattr(processor, "tokenizer", processor)


def pad_id_of(processor: Any) -> int:
    """The id that fills up a batch; masked everywhere, so the end-of-text id serves where there is no pad token."""
    tokenizer = tokenizer_of(processor)
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)


def _messages(processor: Any, conversation: Conversation) -> list[dict[str, Any]]:
    if not hasattr(processor, "image_processor"):
        return [{"role": turn["role"], "content": turn["text"]} for turn in conversation]
    return [{"role": turn["role"], "content": _content(turn["text"])} for turn in conversation]


def _content(text: str) -> list[dict[str, str]]:
    """`a <image> b` as the list of parts that templates of vision-language models take."""
    parts: list[dict[str, str]] = []
    for position, piece in enumerate(text.split(PLACEHOLDER)):
        if position:
            parts.append({"type": "image"})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts


def _render(processor: Any, conversation: Conversation) -> tuple[str, list[tuple[int, int]]]:
    """The rendered text and the character spans of its responses.

    A response is what the template adds between the prompt that generation would see and the end of that turn, so
    training and generation meet at the same border.
    """
    messages = _messages(processor, conversation)
    text = processor.apply_chat_template(messages, tokenize=False)
    spans = []
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = processor.apply_chat_template(messages[:turn], tokenize=False, add_generation_prompt=True)
        upto = processor.apply_chat_template(messages[: turn + 1], tokenize=False)
        if not (upto.startswith(prompt) and text.startswith(upto)):
            raise SampleError(f"the chat template rewrites earlier turns, so turn {turn} has no fixed response span")
        spans.append((len(prompt), len(upto.rstrip("\n"))))
    return text, spans


def _tokenize(processor: Any, text: str, spans: list[tuple[int, int]], images: Sequence[Image.Image]) -> Encoded:
    tokenizer = tokenizer_of(processor)
    bos = getattr(tokenizer, "bos_token", None)
    special = not (bos and text.startswith(bos))  # most templates write the beginning-of-text token themselves
    plain = tokenizer(text, return_offsets_mapping=True, add_special_tokens=special)
    ids, response = plain["input_ids"], _mask(plain["offset_mapping"], spans)
    if not images:
        return Encoded(torch.tensor(ids), torch.tensor(response, dtype=torch.bool))
    out = dict(processor(text=[text], images=list(images), return_tensors="pt", add_special_tokens=special))
    full_ids = out.pop("input_ids")[0]
    out.pop("attention_mask", None)
    out.pop("mm_token_type_ids", None)
    full = _spread(ids, response, full_ids.tolist(), tokenizer.convert_tokens_to_ids(_image_token(processor)))
    return Encoded(full_ids, torch.tensor(full, dtype=torch.bool), out)


def _image_token(processor: Any) -> str:
    return str(getattr(processor, "image_token", PLACEHOLDER))


def _mask(offsets: Sequence[tuple[int, int]], spans: list[tuple[int, int]]) -> list[bool]:
    """Which tokens lie in a response span. The first token of all is never one: nothing predicts it."""
    inside = [any(start < stop and start >= low and stop <= high for low, high in spans) for start, stop in offsets]
    return [False, *inside[1:]]


def _spread(ids: list[int], response: list[bool], full: list[int], image_id: int) -> list[bool]:
    """The response mask carried from the text with placeholders to the ids in which each image is many tokens.

    The text between two placeholders stands in both, in the same order; images lie between and are never response.
    """
    cuts = [-1, *(at for at, token in enumerate(ids) if token == image_id), len(ids)]
    mask, cursor = [False] * len(full), 0
    for piece, (left, right) in enumerate(pairwise(cuts)):
        segment = ids[left + 1 : right]
        last = piece == len(cuts) - 2
        start = len(full) - len(segment) if last else (0 if piece == 0 else _find(segment, full, cursor + 1))
        if full[start : start + len(segment)] != segment:
            raise SampleError("the processor changes the text around images, so response tokens cannot be located")
        mask[start : start + len(segment)] = response[left + 1 : right]
        cursor = start + len(segment)
    return mask


def _find(segment: list[int], full: list[int], start: int) -> int:
    while full[start : start + len(segment)] != segment:
        start += 1
        if start > len(full):
            raise SampleError("the processor changes the text between two images")
    return start


def _check_length(encoded: Encoded, max_length: int) -> None:
    if len(encoded.input_ids) > max_length:
        raise SampleError(f"{len(encoded.input_ids)} tokens are more than the context of {max_length} (max_length)")
