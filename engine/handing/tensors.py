"""The tensors of an adapter's file: whole, or not handed on; and which modules they are of."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from liit.engine.handing.source import WEIGHTS

PREFIX = "base_model.model."
"""Before the name of a module of the base model, in the files of PEFT."""


def read_whole(folder: Path) -> dict[str, torch.Tensor]:
    """The tensors of an adapter folder.

    Raises ValueError that names those that are empty (as an adapter of ZeRO-3 has them that was not gathered) or not finite,
    and for a folder without any.
    """
    file = folder / WEIGHTS
    if not file.is_file():
        raise ValueError(f"{folder} has no {WEIGHTS}: it is no adapter that was finished here")
    tensors: dict[str, torch.Tensor] = load_file(file)
    if not tensors:
        raise ValueError(f"{file} holds no tensor; train the timestep anew")
    _refuse(file, "empty", [name for name, tensor in tensors.items() if not tensor.numel()])
    _refuse(file, "not finite", [name for name, tensor in tensors.items() if not tensor.isfinite().all()])
    return tensors


def adapted(tensors: Mapping[str, torch.Tensor]) -> set[str]:
    """Names, in the base model, of the modules that have a LoRA."""
    ends = (".lora_A.weight", ".lora_B.weight")
    return {name.removeprefix(PREFIX).removesuffix(end) for name in tensors for end in ends if name.endswith(end)}


def _refuse(file: Path, what: str, names: list[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ValueError(f"{file}: tensors are {what}: {', '.join(names[:3])}{more}; it is not handed on")
