"""Scores of the user's own: a function of a response's logits, by `module:function` or as an installed entry point.

    def surprise(logits, targets):          # logits (n, V) float32, targets (n,): the n response tokens of one sample
        return (-logits.log_softmax(-1)).gather(1, targets[:, None]).max()

A configuration names it (`scoring: {custom: {surprise: my_scores:surprise}}`), or an installed package does, in the entry point
group `liit.scores`. It returns a number, or a tensor of one element; NaN marks a sample that has no such score.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

from liit.engine.settings.extensions import function_at, installed

GROUP = "liit.scores"
Score = Callable[[torch.Tensor, torch.Tensor], Any]


def known(configured: Mapping[str, str]) -> dict[str, str]:
    """Name to `module:function` of every score: installed ones, and over them those of the configuration."""
    return installed(GROUP) | dict(configured)


def load(name: str, place: str) -> Score:
    """The function. Raises ValueError, one line, where there is none."""
    return function_at(place, f"score {name}: {place!r}")


def evaluate(name: str, score: Score, logits: torch.Tensor, targets: torch.Tensor, counts: list[int]) -> list[float]:
    """One value per sample. Raises ValueError where the function returns something else than a number."""
    values = []
    for mine, tokens in zip(logits.detach().split(counts), targets.split(counts), strict=True):
        value = score(mine.float(), tokens)
        try:
            values.append(float(value))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"score {name} returned {type(value).__name__}; it must return one number") from error
    return [value if math.isfinite(value) else math.nan for value in values]
