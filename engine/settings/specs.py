"""What a gradient sketch is, and what a chat template is told beside a conversation, in plain values: shared by the
configuration, the profiler and the fingerprints."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DATE = "2026-01-01"
GRADIENTS = ("sgd", "adam", "sign", "zero-order")
PROJECTIONS = ("factored", "dense", "sparse")
BLOCKS = 4
"""Of a sparse projection: how often every entry of the gradient is added, once to each block of the sketch."""


@dataclass(frozen=True)
class SketchSpec:
    """One gradient feature; plain values, so that it travels to an actor and into a fingerprint.

    Raises ValueError for a combination that does not exist.
    """

    layers: str | tuple[int, ...] = "middle"
    parameters: str = "base"
    gradient: str = "sgd"
    projection: str = "factored"
    dimension: int = 8192
    directions: int = 32
    """Of a zero-order feature: its K shared directions, which are its size."""
    epsilon: float = 1e-3
    """Of a zero-order feature: how far the weights are moved along a direction."""
    temperature: float = 1.0
    """Logits are divided by it before the loss whose gradient this is. Above 1, samples that the model is sure of have a
    gradient that says what they are about, not the last rounding of a probability near one."""
    model: str | None = None
    """A smaller model whose gradient stands in for the current model's. None: the current model."""

    def __post_init__(self) -> None:
        if self.parameters not in ("base", "lora", "projector"):
            raise ValueError(f"gradients are of base, lora or projector parameters, not {self.parameters!r}")
        if self.gradient not in GRADIENTS:
            raise ValueError(f"gradient is {self.gradient!r}; choose one of: {', '.join(GRADIENTS)}")
        if self.projection not in PROJECTIONS:
            raise ValueError(f"projection is {self.projection!r}; choose one of: {', '.join(PROJECTIONS)}")
        if self.gradient in ("adam", "sign") and self.parameters != "lora":
            raise ValueError(
                f"{self.gradient} gradients are formed whole, which only parameters: lora is small enough for"
            )
        if self.gradient == "zero-order" and self.parameters == "projector":
            raise ValueError("zero-order gradients are of decoder layers; take gradient: sgd for the projector")
        if not self.temperature > 0:
            raise ValueError(f"temperature is {self.temperature}; it must be above 0")
        if self.projection == "sparse" and self.dimension % BLOCKS:
            raise ValueError(
                f"a sparse projection has {BLOCKS} blocks; dimension {self.dimension} must be a multiple of it"
            )

    @property
    def size(self) -> int:
        return self.directions if self.gradient == "zero-order" else self.dimension


@dataclass(frozen=True)
class TemplateSpec:
    """Plain values, so that they travel to an actor and into a fingerprint."""

    date: str = DATE
    """ISO. What a template that writes today's date takes for today, so that tokens are the same tomorrow."""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the template by name, e.g. {enable_thinking: false}."""
