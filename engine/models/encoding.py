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
from torch.nn import functional as F

from liit.engine.models.processors import (
    SampleError,
    image_id_of,
    instruction,
    puts_images_first,
    tensors,
    tokenizer_of,
)

PLACEHOLDER = "<image>"
Conversation = Sequence[Mapping[str, str]]


class TooLong(SampleError):
    """A sample has more tokens than the context."""


@dataclass(frozen=True)
class Encoded:
    """One sample as the model sees it.

    input_ids: (S,) int64. response: (S,) bool, True on the tokens of assistant turns, end-of-turn token included.
    extras: what the processor adds beside the ids: `*token_type_ids` (S,); of all else (pixel_values, image_grid_thw,
    qformer_input_ids, ...) the first axis counts images, patches or samples, whatever the model wants joined.
    """

    input_ids: torch.Tensor
    response: torch.Tensor
    extras: dict[str, torch.Tensor] = field(default_factory=dict)


def encode(processor: Any, conversation: Conversation, images: Sequence[Image.Image], max_length: int) -> Encoded:
    """Tokens of a whole conversation with its response mask.

    Raises SampleError (TooLong) when the sample is longer than `max_length`, has no response token, or has other images than
    its text and the model allow.
    """
    messages = _messages(processor, conversation)
    text, spans = _render(processor, messages)
    encoded = _tokenize(processor, messages, text, spans, images)
    _check_length(encoded, max_length)
    if not encoded.response.any():
        raise SampleError("no response token: every assistant turn is empty")
    return encoded


def encode_prompt(
    processor: Any, conversation: Conversation, images: Sequence[Image.Image], max_length: int
) -> Encoded:
    """Tokens up to the last assistant turn, which the model is to write. Raises TooLong, and SampleError as `encode`."""
    messages = _messages(processor, conversation[:-1])
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    encoded = _tokenize(processor, messages, text, [], images)
    _check_length(encoded, max_length)
    return encoded


def without_images(conversation: Conversation) -> list[dict[str, str]]:
    """The conversation with its image placeholders taken out: what image grounding compares with (Adapt-∞, eq. 2)."""
    return [
        {"role": turn["role"], "text": turn["text"].replace(PLACEHOLDER + "\n", "").replace(PLACEHOLDER, "")}
        for turn in conversation
    ]


def blank_images(seen: Encoded) -> Encoded:
    """The sample with images of the mean colour in place of its own: zeros once normalised, or as good as that.

    Not quite zeros, because Idefics3 takes such images for padding; the smallest number that is normal in every dtype.
    """
    extras = {name: torch.full_like(x, 2**-14) if x.is_floating_point() else x for name, x in seen.extras.items()}
    return Encoded(seen.input_ids, seen.response, extras)


def collate(encoded: Sequence[Encoded], pad_id: int, side: str = "right", length: int | None = None) -> dict[str, Any]:
    """A padded batch: input_ids (B, S), attention_mask (B, S), response (B, S) bool, and the extras.

    Token types are padded like the tokens, with zeros; the other extras joined along their first axis, where the rest
    differs filled up with zeros, which models mask by what comes along (image_sizes, pixel_attention_mask, ...).
    """
    longest = max(len(one.input_ids) for one in encoded)
    width = longest if length is None else max(length, longest)
    input_ids = torch.full((len(encoded), width), pad_id, dtype=torch.long)
    attention = torch.zeros((len(encoded), width), dtype=torch.long)
    response = torch.zeros((len(encoded), width), dtype=torch.bool)
    parts: dict[str, list[torch.Tensor]] = {}
    types: dict[str, torch.Tensor] = {}
    for row, one in enumerate(encoded):
        n = len(one.input_ids)
        place = slice(0, n) if side == "right" else slice(width - n, width)
        input_ids[row, place] = one.input_ids
        attention[row, place] = 1
        response[row, place] = one.response
        for name, value in one.extras.items():
            if name.endswith("token_type_ids"):
                types.setdefault(name, torch.zeros_like(input_ids))[row, place] = value
            else:
                parts.setdefault(name, []).append(value)
    extras = types | {name: _joined(values) for name, values in parts.items()}
    return {"input_ids": input_ids, "attention_mask": attention, "response": response, **extras}


def pad_id_of(processor: Any) -> int:
    """The id that fills up a batch; masked everywhere, so the end-of-text id serves where there is no pad token."""
    tokenizer = tokenizer_of(processor)
    pad = tokenizer.pad_token_id
    return int(tokenizer.eos_token_id if pad is None else pad)


def _joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """Joined along the first axis; the other axes filled up at their ends with zeros to the widest."""
    if all(part.shape[1:] == parts[0].shape[1:] for part in parts):
        return torch.cat(parts)
    widest = [max(sizes) for sizes in zip(*(part.shape[1:] for part in parts), strict=True)]
    missing = [[want - have for want, have in zip(widest, part.shape[1:], strict=True)] for part in parts]
    ends = [[side for size in reversed(sizes) for side in (0, size)] for sizes in missing]  # F.pad: last axis first
    return torch.cat([F.pad(part, end) for part, end in zip(parts, ends, strict=True)])


def _messages(processor: Any, conversation: Conversation) -> list[dict[str, Any]]:
    if puts_images_first(processor):
        return [{"role": turn["role"], "content": turn["text"]} for turn in without_images(conversation)]
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


def _render(processor: Any, messages: list[dict[str, Any]]) -> tuple[str, list[tuple[int, int]]]:
    """The rendered text and the character spans of its responses.

    A response is what the template adds between the prompt that generation would see and the end of that turn, so
    training and generation meet at the same border.
    """
    text = processor.apply_chat_template(messages, tokenize=False)
    spans = []
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = processor.apply_chat_template(messages[:turn], tokenize=False, add_generation_prompt=True)
        last = turn == len(messages) - 1
        upto = text if last else processor.apply_chat_template(messages[: turn + 1], tokenize=False)
        if not (upto.startswith(prompt) and text.startswith(upto)):
            raise SampleError(f"the chat template rewrites earlier turns, so turn {turn} has no fixed response span")
        spans.append((len(prompt), len(upto.rstrip("\n"))))
    return text, spans


def _tokenize(
    processor: Any,
    messages: list[dict[str, Any]],
    text: str,
    spans: list[tuple[int, int]],
    images: Sequence[Image.Image],
) -> Encoded:
    tokenizer = tokenizer_of(processor)
    bos = getattr(tokenizer, "bos_token", None)
    special = not (bos and text.startswith(bos))  # most templates write the beginning-of-text token themselves
    plain = tokenizer(text, return_offsets_mapping=True, add_special_tokens=special)
    ids, response = plain["input_ids"], _mask(plain["offset_mapping"], spans)
    image_id = image_id_of(processor, ids, len(images))
    if not images:
        return Encoded(torch.tensor(ids), torch.tensor(response, dtype=torch.bool))
    out = dict(processor(text=[text], images=[list(images)], return_tensors="pt", add_special_tokens=special))
    full_ids = out.pop("input_ids")[0]
    del out["attention_mask"]
    if "qformer_input_ids" in out:
        out |= instruction(processor, messages)
    full = _spread(ids, response, full_ids.tolist(), image_id)
    return Encoded(full_ids, torch.tensor(full, dtype=torch.bool), tensors(out))


def _mask(offsets: Sequence[tuple[int, int]], spans: list[tuple[int, int]]) -> list[bool]:
    """Which tokens lie in a response span. The first token of all is never one: nothing predicts it."""
    inside = [any(start < stop and start >= low and stop <= high for low, high in spans) for start, stop in offsets]
    return [False, *inside[1:]]


def _spread(ids: list[int], response: list[bool], full: list[int], image_id: int) -> list[bool]:
    """The response mask carried from the text with placeholders to the ids in which each image is many tokens.

    The text between two placeholders stands in both, in the same order; images lie between and are never response. Only
    the token beside an image may differ: a line break there can melt into one with what stands for the image.
    """
    cuts = [-1, *(at for at, token in enumerate(ids) if token == image_id), len(ids)]
    mask, cursor = [False] * len(full), 0
    for piece, (left, right) in enumerate(pairwise(cuts)):
        first, last = piece == 0, piece == len(cuts) - 2
        low = left + 1 if first else min(left + 2, right)
        high = right if last or (low < right and response[right - 1]) else max(right - 1, low)
        segment = ids[low:high]
        start = len(full) - len(segment) if last else (0 if first else _find(segment, full, cursor + 1))
        if full[start : start + len(segment)] != segment:
            raise SampleError("the processor changes the text around images, so response tokens cannot be located")
        mask[start : start + len(segment)] = response[low:high]
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
        raise TooLong(f"{len(encoded.input_ids)} tokens are more than the context of {max_length} (max_length)")
