"""Gradient sketches: which gradient of which layers, projected how; any number of them from one backward.

Legend: B samples, P sketch.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch

from liit.engine.scoring.gradients import adam_gradients, base_gradients, lora_gradients, sign_gradients
from liit.engine.scoring.passes import Batch, Seen
from liit.engine.scoring.projections import PROJECTIONS, Gradient, Projection, stacked
from liit.engine.settings.specs import SketchSpec


class Sketcher:
    """Makes one sketch: holds its projection, and Adam's second moments where it wants them."""

    watched: Sequence[torch.nn.Module] = ()

    def __init__(self, spec: SketchSpec, layers: Sequence[int], seed: int, moments: Mapping[str, torch.Tensor]) -> None:
        self.spec, self.gradient_layers = spec, {spec.temperature: frozenset(layers)}
        self._moments = moments
        self._projection: Projection = PROJECTIONS[spec.projection](spec.dimension, seed)

    def __call__(self, batch: Batch, seen: Seen) -> torch.Tensor:
        """(B, P) float32, not normalised."""
        parts = [self._projection.project(name, gradient) for name, gradient in self._gradients(seen)]
        if not parts and self.spec.parameters == "projector":  # no sample of the batch has an image
            return torch.zeros(len(batch.counts), self.spec.dimension, device=batch.image_BS.device)
        if not parts:
            raise ValueError("no adapter in the sketched layers; give training.lora.targets that are in them")
        return torch.stack(parts).sum(0)

    def norm(self, seen: Seen) -> torch.Tensor:
        """(B,): the exact norm of the gradient that is sketched."""
        gradients = stacked(gradient for _, gradient in self._gradients(seen))
        squares = [gradient.squared_norm() for gradient in gradients]
        return torch.stack(squares).sum(0).sqrt() if squares else torch.zeros_like(seen.losses_B)

    def _gradients(self, seen: Seen) -> Iterator[tuple[str, Gradient]]:
        layers = self.gradient_layers[self.spec.temperature]
        mine = [linear for linear in seen.linears[self.spec.temperature] if linear.layer in layers]
        plain = lora_gradients(mine) if self.spec.parameters == "lora" else base_gradients(mine)
        if self.spec.gradient == "adam":
            return adam_gradients(plain, self._moments)
        return sign_gradients(plain) if self.spec.gradient == "sign" else plain
