"""Every vector of a profile, each made from what a pass saw. All are L2-normalised later, in one place.

Legend: B samples, S positions, H hidden, D features.
"""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.functional import normalize

from liit.engine.models import anatomy
from liit.engine.models.adapters import load_moments
from liit.engine.scoring.gradients import at_image_tokens
from liit.engine.scoring.passes import Batch, Seen
from liit.engine.scoring.profile_spec import ProfilerSpec, layer_indices, sketched_layers
from liit.engine.scoring.projections import signs
from liit.engine.scoring.sketches import Sketcher
from liit.engine.scoring.zero_order import ZeroOrder


class Maker(Protocol):
    """Makes one vector per sample."""

    @property
    def gradient_layers(self) -> Mapping[float, Collection[int]]:
        """Layers whose gradients the pass must keep, by the temperature of the loss."""
        ...

    @property
    def watched(self) -> Sequence[nn.Module]:
        """Modules whose outputs the pass must keep."""
        ...

    def __call__(self, batch: Batch, seen: Seen) -> torch.Tensor:
        """(B, D) float32, of any length."""
        ...


def makers(spec: ProfilerSpec, model: nn.Module) -> dict[str, Maker]:
    """One per vector that is asked of this model."""
    count = len(anatomy.decoder_layers(model))
    found: dict[str, Maker] = {}
    if "embedding" in spec.vectors:
        found["embedding"] = Embedding(model, layer_indices(spec.embedding_layers, count), spec.embedding, spec.seed)
    found |= {kind: Tokens(model, kind) for kind in ("image", "instruction") if kind in spec.vectors}
    if "instruction-input" in spec.vectors:
        found["instruction-input"] = Wording(model)
    if "prompt-last" in spec.vectors:
        found["prompt-last"] = Last(model)
    if "position-mean" in spec.vectors:
        found["position-mean"] = ByPosition(model)
    if "projector" in spec.vectors:
        found["projector"] = Projected(model)
    if "coincide" in spec.vectors:
        found["coincide"] = Coincide(model, sorted({int(depth * count) for depth in spec.coincide_depths}))
    wants_moments = any(sketch.gradient == "adam" for sketch in spec.sketches_here().values())
    moments = load_moments(spec.adapter, model) if spec.adapter and wants_moments else {}
    for name, sketch in spec.sketches_here().items():
        if sketch.parameters == "projector":
            anatomy.projector_linears(model)  # or say that there are none
        if sketch.gradient == "zero-order":
            found[name] = ZeroOrder(sketch, model, layer_indices(sketch.layers, count), spec.seed)
        else:
            found[name] = Sketcher(sketch, sketched_layers(sketch, count), spec.seed, moments)
    return found


class Embedding:
    """Mean hidden state of the response tokens over some layers; wider than D it is projected by random signs."""

    gradient_layers: Mapping[float, Collection[int]] = MappingProxyType({})

    def __init__(self, model: nn.Module, layers: Sequence[int], dimension: int, seed: int) -> None:
        self.watched = [anatomy.decoder_layers(model)[index] for index in layers]
        self.dimension, self.seed = dimension, seed
        self._signs: torch.Tensor | None = None

    def __call__(self, batch: Batch, seen: Seen) -> torch.Tensor:
        joined = torch.cat([mean_state(seen.outputs[layer], batch.response_BS) for layer in self.watched], 1)
        if joined.shape[1] > self.dimension:
            if self._signs is None:
                self._signs = signs(self.dimension, joined.shape[1], self.seed, "embedding").to(joined.device)
            joined = joined @ self._signs.T
        return joined


class Tokens:
    """Mean hidden state of the image's tokens after the first layer, or of the instruction's in the middle one.

    Both of what stands before the first response: that much is known before anything is answered.
    """

    gradient_layers: Mapping[float, Collection[int]] = MappingProxyType({})

    def __init__(self, model: nn.Module, kind: str) -> None:
        layers = anatomy.decoder_layers(model)
        self.kind, self.watched = kind, [layers[0 if kind == "image" else len(layers) // 2]]

    def __call__(self, batch: Batch, seen: Seen) -> torch.Tensor:
        asked_BS = batch.attention_BS.bool() & (batch.response_BS.cumsum(1) == 0)
        image_BS = asked_BS & batch.image_BS
        wanted_BS = image_BS if self.kind == "image" else asked_BS & ~image_BS
        return mean_state(seen.outputs[self.watched[0]], wanted_BS)


class Wording:
    """Mean input embedding of all text that is no response: user turns, with the template's own words around them.

    It needs no layer of the model, and no training of adapters changes it.
    """

    gradient_layers: Mapping[float, Collection[int]] = MappingProxyType({})
    watched: Sequence[nn.Module] = ()

    def __init__(self, model: nn.Module) -> None:
        self.embeddings = anatomy.unwrapped(model).get_input_embeddings()

    def __call__(self, batch: Batch, seen: Seen) -> torch.Tensor:
        said_BS = batch.attention_BS.bool() & ~batch.response_BS & ~batch.image_BS
        ids_BS = torch.where(said_BS, batch.inputs["input_ids"], 0)  # an image's id may have no embedding
        with torch.no_grad():
            return mean_state(self.embeddings(ids_BS), said_BS)


class Last:
    """Hidden state of the last token before the first response, in the middle layer: what the answer begins from."""

    gradient_layers: Mapping[float, Collection[int]] = MappingProxyType({})

    def __init__(self, model: nn.Module) -> None:
        layers = anatomy.decoder_layers(model)
        self.watched = [layers[len(layers) // 2]]

    def __call__(self, batch: Batch, seen: Seen) -> torch.Tensor:
        asked_BS = batch.attention_BS.bool() & (batch.response_BS.cumsum(1) == 0)
        places_BS = torch.arange(asked_BS.shape[1], device=asked_BS.device) * asked_BS
        last_BS = torch.zeros_like(asked_BS).scatter_(1, places_BS.argmax(1, keepdim=True), True)
        return mean_state(seen.outputs[self.watched[0]], last_BS & asked_BS)


class ByPosition:
    """Mean last hidden state of all tokens, images' too, each weighted by its position: a token knows of all before it.

    What SGPT (Muennighoff, arXiv 2202.08904) and RDS+ compare texts by.
    """

    gradient_layers: Mapping[float, Collection[int]] = MappingProxyType({})

    def __init__(self, model: nn.Module) -> None:
        self.watched = [anatomy.unwrapped(model).get_output_embeddings()]

    def __call__(self, batch: Batch, seen: Seen) -> torch.Tensor:
        attended_BS = batch.attention_BS.bool()
        return mean_state(seen.outputs[self.watched[0]], attended_BS.cumsum(1) * attended_BS)


class Projected:
    """Mean of what the projector makes of a sample's images; zero where there are none."""

    gradient_layers: Mapping[float, Collection[int]] = MappingProxyType({})

    def __init__(self, model: nn.Module) -> None:
        self.watched = [anatomy.projector(model)]
        self.width = int(anatomy.unwrapped(model).get_input_embeddings().weight.shape[1])

    def __call__(self, batch: Batch, seen: Seen) -> torch.Tensor:
        rows = seen.outputs.get(self.watched[0])
        if rows is None:  # no sample of the batch has an image
            return torch.zeros(len(batch.counts), self.width, device=batch.image_BS.device)
        return mean_state(at_image_tokens(rows, batch.image_BS), batch.image_BS)


class Coincide:
    """COINCIDE's features (Lee et al. 2024): what attention writes in a few layers, first of the image tokens in every
    layer, then of the text tokens; each mean is squashed by tanh and of unit length. D is twice the layers times H.

    A sample without images has a zero first half.
    """

    gradient_layers: Mapping[float, Collection[int]] = MappingProxyType({})

    def __init__(self, model: nn.Module, layers: Sequence[int]) -> None:
        self.watched = [_attention_output(anatomy.decoder_layers(model)[index]) for index in layers]

    def __call__(self, batch: Batch, seen: Seen) -> torch.Tensor:
        image_BS = batch.image_BS
        text_BS = batch.attention_BS.bool() & ~image_BS
        written = [seen.outputs[module] for module in self.watched]
        halves = [[mean_state(states, mask) for states in written] for mask in (image_BS, text_BS)]
        return torch.cat([normalize(torch.tanh(part), dim=1) for half in halves for part in half], 1)


def _attention_output(layer: nn.Module) -> nn.Module:
    attention: Any = getattr(layer, "self_attn", layer)
    for name in ("o_proj", "out_proj", "dense"):
        if isinstance(getattr(attention, name, None), nn.Module):
            found: nn.Module = getattr(attention, name)
            return found
    raise ValueError(
        f"{type(layer).__name__} has no output projection of its attention, which coincide's features are of"
    )


def mean_state(states: torch.Tensor, mask_BS: torch.Tensor) -> torch.Tensor:
    """(B, H) float32: mean of the positions of a mask, or by their weights; zero where it has none."""
    weights = mask_BS.float()[..., None]
    return (states.float() * weights).sum(1) / weights.sum(1).clamp_min(1)


def unit(vectors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """L2-normalised in float32; a zero vector stays zero, never NaN."""
    return {name: normalize(values.float(), dim=1, eps=1e-30) for name, values in vectors.items()}
