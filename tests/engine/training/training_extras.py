"""Penalties and modules that the training tests name and workers import."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer

from liit.engine.models import anatomy

calls = 0


def shrink(model: nn.Module) -> torch.Tensor:
    """Half the squared norm of the LoRA weights."""
    return 0.5 * sum(
        (weight.square().sum() for name, weight in model.named_parameters() if "lora_" in name), torch.zeros(())
    )


def add_bias(model: nn.Module) -> None:
    """A trainable vector, zero at first, added to what the decoder's last norm gives."""
    norm = anatomy.unwrapped(model).get_decoder().norm
    norm.extra = nn.Parameter(torch.zeros_like(norm.weight))
    norm.register_forward_hook(lambda module, _, output: output + module.extra)


def die_in_fifth_step(model: Any) -> torch.Tensor:
    """Kills its worker in the fifth step unless the model's folder holds a file `survive`; adds nothing to the loss.

    A file `once` turns into `survive` with the first death.
    """
    global calls
    calls += 1
    survive = Path(anatomy.unwrapped(model).name_or_path) / "survive"
    if calls == 5 and not survive.exists():
        if (survive.parent / "once").exists():
            survive.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return torch.zeros(())


def die_in_fifth_forward(model: nn.Module) -> None:
    """The same for the fifth micro-batch, by a hook: under ZeRO-3 there are no penalties."""

    def hook(module: nn.Module, _: Any) -> None:
        if torch.is_grad_enabled():  # whether samples may stand side by side is tried without gradients
            die_in_fifth_step(module)

    model.register_forward_pre_hook(hook)


MARK = "#"


def poison_marked(model: Any) -> None:
    """Texts with the byte `#` have no finite hidden states, unless the model's folder holds a file `cured`."""
    base = anatomy.unwrapped(model)
    if (Path(base.name_or_path) / "cured").exists():
        return
    mark = AutoTokenizer.from_pretrained(base.name_or_path).convert_tokens_to_ids(MARK)

    def hook(module: nn.Module, inputs: tuple[torch.Tensor], embedded: torch.Tensor) -> torch.Tensor:
        marked = (inputs[0] == mark).any(dim=1)
        return embedded.masked_fill(marked[:, None, None], torch.nan)

    base.get_input_embeddings().register_forward_hook(hook)


def infinite_at_third(model: nn.Module) -> torch.Tensor:
    """A penalty without a gradient: 0, and at the third step infinite."""
    global calls
    calls += 1
    return torch.tensor(torch.inf if calls == 3 else 0.0)


def steep_from_third(model: nn.Module) -> torch.Tensor:
    """A penalty of 0 whose gradient is infinite from the third step on."""
    global calls
    calls += 1
    weights = [weight for name, weight in model.named_parameters() if "lora_B" in name]
    steep = sum(((weight - weight.detach()).square().sum().sqrt() for weight in weights), torch.zeros(()))
    return steep if calls >= 3 else 0 * steep.detach()
