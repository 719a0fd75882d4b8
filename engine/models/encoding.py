"""Conversation to tokens: response tokens marked, images expanded, batches padded.

Training, scoring, ingest and evaluation all come through here, so a sample is the same tokens everywhere. What a chat template
writes is in `rendering.py`, where responses are in it in `responses.py`, which tokens that are in `tokenizing.py`. Needs torch
and transformers only. Legend: B samples, S positions.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from PIL import Image
from torch.nn import functional as F

from liit.engine.models.layout import layout_of
from liit.engine.models.processors import SampleError, image_id_of, instruction, tensors, tokenizer_of
from liit.engine.models.rendering import PLACEHOLDER as PLACEHOLDER
from liit.engine.models.rendering import Conversation
from liit.engine.models.rendering import without_images as without_images
from liit.engine.models.responses import Response, Written, write
from liit.engine.models.tokenizing import Token, adds_special, located, split, tokenize


class TooLong(SampleError):
    """A sample has more tokens than the context."""


@dataclass(frozen=True)
class Encoded:
    """One sample as the model sees it.

    input_ids: (S,) int64. response: (S,) bool, True on the tokens of assistant turns, end-of-turn token included.
    extras: what the processor adds beside the ids: `*token_type_ids` (S,); of all else (pixel_values, image_grid_thw,
    qformer_input_ids, ...) the first axis counts images, patches or samples, whatever the model wants joined. notes: what the
    chat template did to the sample, in words that are alike for all samples that it was done to.
    """

    input_ids: torch.Tensor
    response: torch.Tensor
    extras: dict[str, torch.Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        return sum(one.nbytes for one in (self.input_ids, self.response, *self.extras.values()))


def encode(processor: Any, conversation: Conversation, images: Sequence[Image.Image], max_length: int) -> Encoded:
    """Tokens of a whole conversation with its response mask.

    Raises SampleError (TooLong) when the sample is longer than `max_length`, has no response token, has other images than
    its text and the model allow, or is refused by the chat template.
    """
    encoded, _ = _tokenize(processor, write(processor, conversation), images)
    _check_length(encoded, max_length)
    if not encoded.response.any():
        raise SampleError("no response token: every assistant turn is empty, context, or left out by the chat template")
    return encoded


def encode_prompt(
    processor: Any, conversation: Conversation, images: Sequence[Image.Image], max_length: int
) -> Encoded:
    """Tokens up to the last assistant turn, which the model is to write: the same as in training, where that turn is known.

    What that turn says has no part in it: another answer stands in its place, and is cut off. Raises TooLong, and SampleError
    as `encode`.
    """
    answer = {"role": "assistant", "text": layout_of(processor).word}
    written = write(processor, [*conversation[:-1], answer])
    encoded, tokens = _tokenize(processor, written, images)
    length = next(at for at, token in enumerate(tokens) if token.start >= written.found[-1].start)
    extras = {name: value[:length] if _is_of_tokens(name) else value for name, value in encoded.extras.items()}
    prompt = Encoded(encoded.input_ids[:length], torch.zeros(length, dtype=torch.bool), extras, encoded.notes)
    _check_length(prompt, max_length)
    return prompt


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
            if _is_of_tokens(name):
                types.setdefault(name, torch.zeros_like(input_ids))[row, place] = value
            else:
                parts.setdefault(name, []).append(value)
    extras = types | {name: _joined(values) for name, values in parts.items()}
    return {"input_ids": input_ids, "attention_mask": attention, "response": response, **extras}


def placed(batch: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """A batch on the model's device, its numbers in the model's dtype; what is no tensor stays."""
    first = next(model.parameters())
    return {
        name: value.to(first.device, first.dtype if value.is_floating_point() else None, non_blocking=True)
        if isinstance(value, torch.Tensor)
        else value
        for name, value in batch.items()
    }


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


def _tokenize(processor: Any, written: Written, images: Sequence[Image.Image]) -> tuple[Encoded, list[Token]]:
    text, found = written.text, written.found
    tokens = tokenize(processor, text)
    image_id = image_id_of(processor, [token.id for token in tokens], len(images))
    extras: dict[str, torch.Tensor] = {}
    if images:
        special = adds_special(processor, text)
        out = dict(processor(text=[text], images=[list(images)], return_tensors="pt", add_special_tokens=special))
        full = out.pop("input_ids")[0].tolist()
        del out["attention_mask"]
        if "qformer_input_ids" in out:
            out |= instruction(processor, text[: found[0].start] if found else text)
        tokens = located(tokens, full, image_id, _mask(tokens, found))
        extras = tensors(out)
    tokens = split(processor, text, tokens, [one.start for one in found], layout_of(processor).whole)
    places = torch.tensor([token.place for token in tokens])
    extras = {name: value[places] if _is_of_tokens(name) else value for name, value in extras.items()}
    ids = torch.tensor([token.id for token in tokens])
    return Encoded(ids, torch.tensor(_mask(tokens, found), dtype=torch.bool), extras, written.notes), tokens


def _mask(tokens: Sequence[Token], responses: Sequence[Response]) -> list[bool]:
    """Which tokens hold a part of a response that counts. The first token of all is never one: nothing predicts it."""
    pieces = [(one.start, low, high) for one in responses for low, high in one.pieces]
    highs = [high for _, _, high in pieces]
    mask = [False] * len(tokens)
    for at, token in enumerate(tokens[1:], 1):
        piece = bisect_right(highs, token.start)
        if token.start >= 0 and piece < len(pieces):
            start, low, _ = pieces[piece]
            mask[at] = token.start >= start and token.stop > low
    return mask


def _is_of_tokens(name: str) -> bool:
    return name.endswith("token_type_ids")


def _check_length(encoded: Encoded, max_length: int) -> None:
    if len(encoded.input_ids) > max_length:
        raise TooLong(f"{len(encoded.input_ids)} tokens are more than the context of {max_length} (max_length)")
