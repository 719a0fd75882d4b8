"""What others do to score a sample, at their best, on the same samples: the peers of the throughput benchmark.

`Plain` is Hugging Face in batches: all logits, a backward to the middle layer, a forward without images, and nothing else
computed. `Released` is the way of the code released with Adapt-∞ (arXiv 2410.10636): batch one, a backward through every LoRA
layer, a second full forward with a zero image, and the middle layer's LoRA gradients through the `traker` package's projector.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional as F

from liit.engine.data.readers.images import open_image
from liit.engine.models import anatomy
from liit.engine.models.encoding import Encoded, collate, encode, pad_id_of, without_images

PROJECTED = 8192
PROJECTED_AT_ONCE = 16
Pair = tuple[list[Encoded], ...]


class Peer:
    """A model with its adapter apart, and samples as tensors."""

    def __init__(self, processor: Any, model: Any, device: str = "cpu") -> None:
        self.processor, self.model, self.device = processor, model.to(device), device

    def encoded(self, sample: dict[str, Any], images: bool = True) -> Encoded:
        if not images:
            return encode(self.processor, without_images(sample["conversation"]), [], 4096)
        opened = [open_image(image) for image in sample["images"]]
        return encode(self.processor, sample["conversation"], opened, 4096)

    def inputs(self, encoded: Sequence[Encoded]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        """Model inputs and labels, -100 where there is no response."""
        batch = {name: value.to(self.device) for name, value in collate(encoded, pad_id_of(self.processor)).items()}
        labels = batch["input_ids"].masked_fill(~batch.pop("response"), -100)
        dtype = next(self.model.parameters()).dtype
        return {name: x.to(dtype) if x.is_floating_point() else x for name, x in batch.items()}, labels


class Plain(Peer):
    """Batched Hugging Face with nothing spared and nothing computed."""

    def prepare(self, samples: Sequence[dict[str, Any]]) -> Pair:
        return tuple([self.encoded(sample, images) for sample in samples] for images in (True, False))

    def run(self, prepared: Pair) -> torch.Tensor:
        seen, blind = prepared
        layers = anatomy.decoder_layers(self.model)
        start = layers[len(layers) // 2].register_forward_pre_hook(_leaf, with_kwargs=True)
        inputs, labels = self.inputs(seen)
        loss = _sample_losses(self.model(**inputs, use_cache=False).logits, labels).sum()
        start.remove()
        torch.autograd.grad(loss, [_leaf.made.pop()])
        with torch.no_grad():
            inputs, labels = self.inputs(blind)
            return loss.detach() - _sample_losses(self.model(**inputs, use_cache=False).logits, labels).sum()


class _Leaf:
    """Makes the hidden states that enter a layer the leaf of the graph, and keeps them."""

    def __init__(self) -> None:
        self.made: list[torch.Tensor] = []

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden = (args[0] if args else kwargs["hidden_states"]).detach().requires_grad_(True)
        self.made.append(hidden)
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})


_leaf = _Leaf()


class Released(Peer):
    """The released way: the adapter's parameters are trainable, and all get their gradients."""

    def __init__(self, processor: Any, model: Any, device: str = "cpu") -> None:
        super().__init__(processor, model, device)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_("lora_" in name)
        middle = len(anatomy.decoder_layers(self.model)) // 2
        named = self.model.named_parameters()
        self.weights = [weight for name, weight in named if weight.requires_grad and f".layers.{middle}." in name]
        self.size = sum(weight.numel() for weight in self.weights)
        self.projector: Any = None

    def prepare(self, samples: Sequence[dict[str, Any]]) -> list[Encoded]:
        return [self.encoded(sample) for sample in samples]

    def run(self, prepared: Sequence[Encoded], project: bool) -> torch.Tensor:
        """A row of scores per sample; gradients are projected sixteen at a time, as there."""
        rows, gradients = [], []
        for one in prepared:
            inputs, labels = self.inputs([one])
            self.model.zero_grad()
            output = self.model(**inputs, labels=labels, use_cache=False)
            output.loss.backward()
            gradients.append(torch.cat([weight.grad.flatten() for weight in self.weights if weight.grad is not None]))
            rows.append(self._scores(output.logits.detach(), labels, inputs))
        if project:
            for start in range(0, len(gradients), PROJECTED_AT_ONCE):
                self.project(torch.stack(gradients[start : start + PROJECTED_AT_ONCE]))
        return torch.stack(rows)

    @torch.no_grad()
    def _scores(self, logits: torch.Tensor, labels: torch.Tensor, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        probabilities = logits[0, :-1].float().softmax(-1)
        where = labels[0, 1:] >= 0
        one_hot = F.one_hot(labels[0, 1:][where], logits.shape[-1])
        el2n = (probabilities[where] - one_hot).norm(dim=-1).mean()
        entropy = -(probabilities * probabilities.clamp_min(1e-12).log()).sum(-1).mean()
        blank = inputs | {"pixel_values": torch.zeros_like(inputs["pixel_values"])}
        without = self.model(**blank, labels=labels, use_cache=False).loss
        nll = _sample_losses(logits, labels)[0]
        return torch.stack([nll, without - nll, el2n, entropy])

    def project(self, gradients: torch.Tensor) -> torch.Tensor:
        """(B, 8192) by the `traker` package (the `benchmark` extra)."""
        from trak.projectors import BasicProjector, ProjectionType

        if self.projector is None:
            device = torch.device(self.device)
            self.projector = BasicProjector(
                self.size, PROJECTED, 0, ProjectionType.rademacher, device, block_size=128, dtype=gradients.dtype
            )
        projected: torch.Tensor = self.projector.project(gradients, model_id=0)
        return projected


def _sample_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(B,): mean loss over each sample's response tokens."""
    tokens = F.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100, reduction="none"
    )
    mask = labels[:, 1:] >= 0
    return tokens.view(len(labels), -1).sum(1) / mask.sum(1)
