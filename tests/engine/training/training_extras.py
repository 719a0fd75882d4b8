"""Penalties and modules that the training tests name and workers import."""

import os
import signal
from pathlib import Path
from typing import Any

import torch
from torch import nn

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
        die_in_fifth_step(module)

    model.register_forward_pre_hook(hook)
