"""One prompt, to see whether a model answers otherwise than its base: what was loaded under a wrong name does not."""

from typing import Any

import numpy as np
import torch
from PIL import Image

from liit.engine.models.encoding import Encoded, collate, encode_prompt, pad_id_of, placed
from liit.engine.models.rendering import PLACEHOLDER

QUESTION = "What is this, and how many?"


def probe(processor: Any) -> Encoded:
    """A short question, about a picture where the model sees: a projector that was trained shows only there."""
    sees = hasattr(processor, "image_processor")
    text = f"{PLACEHOLDER}\n{QUESTION}" if sees else QUESTION
    turns = [{"role": "user", "text": text}, {"role": "assistant", "text": ""}]
    return encode_prompt(processor, turns, [_picture()] if sees else [], max_length=100_000)


@torch.no_grad()
def logits(model: Any, processor: Any, prompt: Encoded) -> torch.Tensor:
    """(V,) float32: the model's scores for the first token of its answer."""
    inputs = collate([prompt], pad_id_of(processor))
    del inputs["response"]
    out: torch.Tensor = model(**placed(inputs, model), use_cache=False).logits
    return out[0, -1].float().cpu()


def same(one: Encoded, other: Encoded) -> bool:
    """Whether two processors made the same of a prompt."""
    return (
        torch.equal(one.input_ids, other.input_ids)
        and one.extras.keys() == other.extras.keys()
        and all(torch.equal(value, other.extras[name]) for name, value in one.extras.items())
    )


def _picture() -> Image.Image:
    """Shades in both directions, so that no normalisation makes a constant of it."""
    rows, columns = np.mgrid[0:64, 0:64] * 4
    return Image.fromarray(np.stack([rows, columns, 255 - rows], axis=-1).astype(np.uint8))
