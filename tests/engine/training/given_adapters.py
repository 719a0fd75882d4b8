"""Adapters that a team may have: plain PEFT folders, made without LiIT's own training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from liit.engine.data.readers.images import open_image
from liit.engine.models import adapters, loading
from liit.engine.models.encoding import encode
from liit.engine.scoring.passes import Batch, response_logits


def save_adapter(model: str, folder: Path, **changes: Any) -> Path:
    """An adapter of rank 4 on every linear of the language model, or with what is changed of it, with weights at random."""
    asked: dict[str, Any] = {"r": 4, "alpha": 8, "dropout": 0.1, "targets": (), "projector": False, "seed": 0} | changes
    return _saved(adapters.add_lora(loading.load_model(model), **asked), folder)


def save_other(model: str, folder: Path, **config: Any) -> Path:
    """An adapter of a configuration of PEFT's own."""
    return _saved(
        get_peft_model(loading.load_model(model), LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, **config)), folder
    )


def save_taught(model: str, folder: Path, samples: Sequence[dict[str, Any]], steps: int) -> Path:
    """An adapter that has learned these samples by heart: all of them in every step, by torch alone."""
    torch.manual_seed(0)
    taught = adapters.add_lora(
        loading.load_model(model), r=4, alpha=8, dropout=0.1, targets=(), projector=False, seed=0
    )
    processor = loading.load_processor(model)
    encoded = [
        encode(processor, one["conversation"], [open_image(image) for image in one["images"] or []], 512)
        for one in samples
    ]
    batch = Batch(encoded, processor, "right", taught)
    weights = [weight for weight in taught.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(response_logits(taught, batch), batch.targets_M).backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    taught.save_pretrained(folder)
    return folder


def _saved(model: Any, folder: Path) -> Path:
    torch.manual_seed(0)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    model.save_pretrained(folder)
    return folder
