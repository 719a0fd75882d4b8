"""Where the parts of a model are, whatever its family: decoder layers, projector, their linears, the image token."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import nn


class ModelError(ValueError):
    """The model folder cannot be used; the message names it and says what is missing."""


def unwrapped(model: nn.Module) -> Any:
    """The Hugging Face model inside a PEFT wrapper."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


@contextmanager
def head_at(model: nn.Module, rows_BS: torch.Tensor) -> Iterator[None]:
    """While entered, the output head is given the positions of a mask (B, S) alone: logits are (1, M, V)."""
    gather = unwrapped(model).get_output_embeddings().register_forward_pre_hook(_gathering(rows_BS))
    try:
        yield
    finally:
        gather.remove()


@contextmanager
def mlp_at(layer: nn.Module, rows_BS: torch.Tensor) -> Iterator[None]:
    """While entered, the MLP of a decoder layer is given the positions of a mask (B, S) alone, and adds nothing to the others.

    Exact for these positions, since an MLP sees one at a time. A layer without an `mlp`, or one that is computed once more in the
    backward, runs as it is.
    """
    mlp = getattr(layer, "mlp", None)
    if not isinstance(mlp, nn.Module) or getattr(layer, "gradient_checkpointing", False):
        yield
        return

    def scatter(_: nn.Module, inputs: Any, output: Any) -> Any:
        rows = output[0] if isinstance(output, tuple) else output  # a mixture of experts returns its routing too
        whole = rows.new_zeros(*rows_BS.shape, rows.shape[-1])
        whole[rows_BS] = rows.reshape(-1, rows.shape[-1])
        return (whole, *output[1:]) if isinstance(output, tuple) else whole

    hooks = mlp.register_forward_pre_hook(_gathering(rows_BS)), mlp.register_forward_hook(scatter)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _gathering(rows_BS: torch.Tensor) -> Callable[..., tuple[Any, ...]]:
    """A hook that leaves the positions of a mask of a module's inputs (B, S, ...), as (1, M, ...); some take a residual."""

    def gather(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        whole = [isinstance(one, torch.Tensor) and one.shape[:2] == rows_BS.shape for one in inputs]
        return tuple(one[rows_BS][None] if mine else one for one, mine in zip(inputs, whole, strict=True))

    return gather


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """While entered, nothing is left to chance; then the model is in training, or not, as it was. Linears stay in training: those
    of bitsandbytes, once out of it, repack their weights on a CPU for good."""
    before = model.training
    for module in model.eval().modules():
        module.training = isinstance(module, nn.Linear)
    try:
        yield
    finally:
        model.train(before)


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The transformer blocks of the language model, in order. Raises ModelError where there are none made of linears."""
    base = unwrapped(model)
    count = base.config.get_text_config().num_hidden_layers
    for module in base.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == count and _has_linears(module):
            return module
    raise ModelError(
        f"{type(base).__name__}: no list of {count} decoder layers made of nn.Linear is in its language model"
    )


def decoder_name(model: nn.Module) -> str:
    """Dotted name of the language model's decoder inside the Hugging Face model."""
    base = unwrapped(model)
    decoder = base.get_decoder()
    return next(name for name, module in base.named_modules() if module is decoder)


def linears(layer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The linears of a decoder layer, a LoRA-wrapped one once, by names that do not depend on the wrapping."""
    for name, module in layer.named_modules():
        plain = isinstance(module, nn.Linear) and ".base_layer" not in name and "lora_" not in name
        if plain or isinstance(module, LoraLayer):
            yield name, module


def projector(model: nn.Module) -> nn.Module:
    """The module between the vision tower and the language model, whose rows become image tokens in their order.

    Raises ValueError where there is none, and for models that cut and reorder its rows (LLaVA-NeXT, LLaVA-OneVision).
    """
    name, base = projector_name(model), unwrapped(model)
    if any(of.endswith("image_newline") for of, _ in base.named_parameters()):
        raise ValueError(
            f"{type(base).__name__} cuts and reorders what its projector makes; take vectors of the decoder"
        )
    return next(module for full, module in unwrapped(model).named_modules() if full.rpartition(".")[2] == name)


def image_token(model: nn.Module) -> int:
    """The id that stands for image features in the text; -1, which no token has, in a language model."""
    config = unwrapped(model).config
    return int(getattr(config, "image_token_id", getattr(config, "image_token_index", -1)))


def projector_name(model: nn.Module) -> str:
    """Name of the module between the vision tower and the language model. Raises ValueError where there is none."""
    for name, _ in unwrapped(model).named_modules():
        if name.rpartition(".")[2] in ("multi_modal_projector", "connector", "merger", "language_projection"):
            return name.rpartition(".")[2]
    raise ValueError(f"{type(unwrapped(model)).__name__} has no multimodal projector")


def projector_linears(model: nn.Module) -> list[str]:
    """Full names of the linears at or below the projector, which experts adapt and sketches are of.

    Raises ValueError where there are none.
    """
    name = projector_name(model)
    named = unwrapped(model).named_modules()
    found = [full for full, module in named if isinstance(module, nn.Linear) and name in full.split(".")]
    if not found:
        raise ValueError(f"the projector {name} of {type(unwrapped(model)).__name__} has no linears")
    return found


def _has_linears(module: nn.Module) -> bool:
    return any(isinstance(part, nn.Linear) for part in module.modules())
