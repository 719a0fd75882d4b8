"""What is computed of every sample, in plain values: they travel to an actor and into a fingerprint."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from liit.engine.scoring.scores import TOKEN_SCORES
from liit.engine.settings.specs import SketchSpec, TemplateSpec

SCORES = (*TOKEN_SCORES, "image_grounding", "grad_norm", "sketch_norm", "learnability", "forgetting")
"""nll: mean over response tokens, in nats. el2n, entropy: likewise. image_grounding: log PPL without / with the images (Adapt-∞
eq. 2), exactly 0 for text. grad_norm: exact norm of the gradient in the layers of `sketch`; sketch_norm: its estimate from the
sketch. learnability: nll above a reference model's (RHO-LOSS, Mindermann et al. 2022). forgetting: nll above the lowest ever
recorded of the sample, 0 at the first visit."""
MAIN = "sketch"
"""The sketch that grad_norm and sketch_norm are of."""
FEATURES = (
    "embedding",
    "coincide",
    "image",
    "instruction",
    "instruction-input",
    "prompt-last",
    "position-mean",
    "projector",
)
"""Vectors that are not gradients. embedding: mean hidden state of the response tokens. coincide: what the attention of a few
layers writes, mean over image tokens, then over all others (Lee et al. 2024). image, instruction: mean hidden state of the
image's tokens after the first layer, and in the middle one of what is no image, both before the first response.
instruction-input: mean input embedding of all text that is no response. prompt-last: hidden state of the last token before the
first response, in the middle layer. position-mean: mean last hidden state of all tokens, each
weighted by its position. projector: mean of what the projector makes of the images."""
PROJECTOR = -1
"""In place of a decoder layer's index: the projector, which comes before all of them."""


@dataclass(frozen=True)
class ProfilerSpec:
    """Which scores and vectors of which model. A vector is a feature or one of `sketches`."""

    model: str
    adapter: str | None = None
    revision: str | None = None
    dtype: str = "float32"
    attention: str = "sdpa"
    max_length: int = 2048
    template: TemplateSpec = field(default_factory=TemplateSpec)
    scores: tuple[str, ...] = (*TOKEN_SCORES, "image_grounding", "grad_norm")
    vectors: tuple[str, ...] = (MAIN, "embedding")
    sketches: Mapping[str, SketchSpec] = field(default_factory=lambda: {MAIN: SketchSpec()})
    embedding: int = 512
    embedding_layers: str | tuple[int, ...] = "middle"
    coincide_depths: tuple[float, ...] = (3 / 24, 7 / 24, 11 / 24, 15 / 24, 19 / 24)
    """Layers as shares of their number; the paper's 3, 7, 11, 15, 19 of 24."""
    no_image: str = "removed"
    padding_side: str = "right"
    reference: str | None = None
    """The model that learnability compares with."""
    custom: Mapping[str, str] = field(default_factory=dict)
    """Scores of the user's: name to `module:function` (see `custom.py`)."""
    lora: Mapping[str, Any] | None = None
    """For gradients of LoRA parameters before the first training: keyword arguments of `models.add_lora`."""
    experts: Mapping[str, str] = field(default_factory=dict)
    """In place of one adapter: folders by name. A sample's `expert` names its own; any other name is the model itself."""
    merge: bool = True
    """Adapters are merged into the weights outside of the layers whose LoRA gradients are sketched."""
    fuse: bool = False
    """Norms and rotary embeddings are compiled (see `fusing.py`)."""
    seed: int = 0

    def __post_init__(self) -> None:
        scores, vectors = (*SCORES, *self.custom), (*FEATURES, *self.sketches)
        unknown = sorted(set(self.scores) - set(scores)) + sorted(set(self.vectors) - set(vectors))
        if unknown:
            raise ValueError(f"cannot profile {unknown}; scores are {list(scores)}, vectors {list(vectors)}")
        if "learnability" in self.scores and self.reference is None:
            raise ValueError("learnability compares with a reference model; set scoring.reference to its folder or id")
        if self.experts and any(one.parameters == "lora" for one in self.sketches.values()):
            raise ValueError(
                "experts have LoRA weights of their own, so gradients of them cannot be compared; sketch base ones"
            )
        if "sketch_norm" in self.scores and MAIN not in self.vectors:
            raise ValueError(f"sketch_norm is of the vector {MAIN}, which is not profiled; add it to scoring.vectors")
        if "sketch_norm" in self.scores and self.sketches[MAIN].model is not None:
            raise ValueError("sketch_norm is of the current model; the sketch here is another model's")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "ProfilerSpec":
        """From what `dataclasses.asdict` makes."""
        sketches = {name: SketchSpec(**sketch) for name, sketch in values["sketches"].items()}
        return cls(**{**values, "sketches": sketches, "template": TemplateSpec(**values["template"])})

    def passes(self) -> tuple[int, int]:
        """Forwards and backwards that a sample with images takes; one without has no pass without images either."""
        models = [[*self.sketches_here().values()]]
        models += [[self.sketches[name] for name in names] for names in self.proxies().values()]
        moved = [one for sketches in models for one in sketches if one.gradient == "zero-order"]
        heats = [{one.temperature for one in sketches if one.gradient != "zero-order"} for sketches in models]
        if "grad_norm" in self.scores:
            heats[0].add(1.0)
        forwards = len(models) + ("image_grounding" in self.scores) + ("learnability" in self.scores)
        return forwards + sum(1 + 2 * one.directions for one in moved), sum(map(len, heats))

    def sketches_here(self) -> dict[str, SketchSpec]:
        """Sketches that are asked for, of the current model."""
        return {name: one for name, one in self.sketches.items() if name in self.vectors and one.model is None}

    def proxies(self) -> dict[str, tuple[str, ...]]:
        """Other models that make sketches, each with the names of its sketches."""
        wanted = {name: one.model for name, one in self.sketches.items() if name in self.vectors and one.model}
        return {model: tuple(name for name, of in wanted.items() if of == model) for model in set(wanted.values())}


def sketched_layers(sketch: SketchSpec, count: int) -> list[int]:
    """Indices of what a sketch is of, in a model with so many decoder layers."""
    return [PROJECTOR] if sketch.parameters == "projector" else layer_indices(sketch.layers, count)


def layer_indices(layers: str | Sequence[int], count: int) -> list[int]:
    """Indices of the named layers: first 0, middle L//2 (0-based: 16 of 32), last, all, or a list of indices."""
    named = {"first": [0], "middle": [count // 2], "last": [count - 1], "all": list(range(count))}
    if isinstance(layers, str) and layers not in named:
        raise ValueError(f"layers {layers!r}: choose one of {', '.join(named)}, or give a list of indices")
    chosen = named[layers] if isinstance(layers, str) else sorted(set(layers))
    if any(not 0 <= layer < count for layer in chosen):
        raise ValueError(f"layers {list(chosen)}: the model has layers 0 to {count - 1}")
    return chosen
