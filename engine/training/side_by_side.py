"""Samples of a micro-batch one behind the other in one row, without padding: all parts of a model but attention see one position
at a time, and in attention every sample is by itself.

Whether a model can be trained so is found out once, by trying: its logits must be those of the padded batch. Legend: B samples, S
positions of the longest, T positions of all of them, H heads, D numbers of a head.
"""

from collections.abc import Callable
from itertools import groupby
from typing import Any

import torch
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from liit.engine.models.anatomy import unwrapped, without_dropout
from liit.engine.models.encoding import placed
from liit.engine.training.samples import LENGTHS, Batch, TrainingSamples
from liit.engine.training.step import response_logits

ATTENTION = "liit_side_by_side"
CLOSE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 3e-2}
"""How far the logits of both ways may be apart, over their norm: what rounding does, where another sample's words do far more."""


def side_by_side(padded: Batch) -> Batch:
    """The batch as one row: input_ids, response, position_ids, token types (1, T), and the lengths (B,) of its samples."""
    mask_BS = padded["attention_mask"].bool()
    lengths = mask_BS.sum(1).tolist()
    rows = {name: value[mask_BS][None] for name, value in padded.items() if _is_of_tokens(name)}
    others = {name: value for name, value in padded.items() if not _is_of_tokens(name) and name != "attention_mask"}
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    return others | rows | {"position_ids": positions, LENGTHS: tuple(lengths)}


def attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    sliding_window: int | None = None,
    **told: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of every sample over itself; query, key, value: (1, H, T, D). Returns (1, T, H, D).

    Neighbours of the same length are done together. Raises ValueError where there is a mask, or the lengths did not come here.
    """
    if attention_mask is not None or LENGTHS not in told:
        raise ValueError(f"{type(module).__name__} does not attend to samples side by side")
    made, start = [], 0
    for length, same in groupby(told.pop(LENGTHS)):
        stop = start + length * len(list(same))
        mine = (part[0, :, start:stop].unflatten(1, (-1, length)).transpose(0, 1) for part in (query, key, value))
        near = _near(length, sliding_window, query.device)
        rows, _ = sdpa_attention_forward(module, *mine, near, **told)
        made.append(rows.flatten(0, 1)[None])
        start = stop
    return torch.cat(made, 1), None


AttentionInterface.register(ATTENTION, attention)


def layout(model: nn.Module, samples: TrainingSamples) -> Callable[[Batch], Batch]:
    """How batches of these samples are laid out for this model, which then attends to them so: side by side, or padded."""
    example = samples.examples()
    return side_by_side if example and attend_side_by_side(model, example) else _as_it_is


def attend_side_by_side(model: nn.Module, example: Batch) -> bool:
    """Let the model attend to samples side by side from now on, where the logits of `example`, a padded batch of samples of every
    kind, are the same either way; otherwise it stays as it is."""
    config = unwrapped(model).get_decoder().config
    before = config._attn_implementation
    with torch.no_grad(), without_dropout(model):
        expected_MV = response_logits(model, model, placed(example, model)).float()
        config._attn_implementation = before if before.startswith("flash") else ATTENTION
        try:
            found_MV = response_logits(model, model, placed(side_by_side(example), model)).float()
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
            found_MV = expected_MV * torch.inf  # it takes other inputs, or looks at them in a way of its own
    apart = torch.linalg.vector_norm(found_MV - expected_MV) / torch.linalg.vector_norm(expected_MV)
    if apart <= CLOSE[next(model.parameters()).dtype]:
        return True
    config._attn_implementation = before
    return False


def _near(length: int, window: int | None, device: torch.device) -> torch.Tensor | None:
    """(S, S) which tokens each attends to, where a window ends before the sample begins; None where causality says it all."""
    if window is None or window >= length:
        return None
    back_SS = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return (back_SS >= 0) & (back_SS < window)


def _as_it_is(padded: Batch) -> Batch:
    return padded


def _is_of_tokens(name: str) -> bool:
    return name in ("input_ids", "response") or name.endswith("token_type_ids")
