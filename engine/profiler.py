"""The class that a scoring actor holds: samples in, profile columns out, everything from one pass.

A forward and a backward that stops at the sketched layer give the token scores, the gradient and the embedding; image
grounding adds the short forward without image tokens. Needs torch, transformers, peft, numpy only: no Ray, no pydantic.
Legend: B samples of a batch, S positions, M response tokens of the batch, P sketch, D embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from liit.engine import models
from liit.engine.encoding import Encoded, SampleError, collate, encode, pad_id_of, without_images
from liit.engine.readers.images import open_image
from liit.engine.scores import TOKEN_SCORES, sample_means, token_nll, token_scores
from liit.engine.sketch import Recorder, Sketcher, gradient_factors, signs, squared_norm

SCORES = (*TOKEN_SCORES, "image_grounding", "grad_norm")
VECTORS = ("sketch", "embedding")


@dataclass(frozen=True)
class ProfilerSpec:
    """What to compute with which model; plain values, so that it travels to an actor and into a fingerprint."""

    model: str
    adapter: str | None = None
    revision: str | None = None
    dtype: str = "float32"
    attention: str = "sdpa"
    max_length: int = 2048
    scores: tuple[str, ...] = SCORES
    vectors: tuple[str, ...] = VECTORS
    layers: str | tuple[int, ...] = "middle"
    parameters: str = "base"
    dimension: int = 8192
    embedding: int = 512
    embedding_layers: str | tuple[int, ...] = "middle"
    no_image: str = "removed"
    padding_side: str = "right"
    lora: Mapping[str, Any] | None = None
    """For gradients of LoRA parameters before the first training: keyword arguments of `models.add_lora`."""
    seed: int = 0


@dataclass(frozen=True)
class Row:
    """The profile of one sample. `status` is "ok", or the reason why there is nothing else."""

    id: str
    status: str
    n_tokens: int = 0
    n_response_tokens: int = 0
    scores: Mapping[str, float] | None = None
    vectors: Mapping[str, np.ndarray] | None = None


def layer_indices(layers: str | Sequence[int], count: int) -> list[int]:
    """Indices of the named layers: first 0, middle L//2 (0-based: 16 of 32), last, all, or a list of indices."""
    named = {"first": [0], "middle": [count // 2], "last": [count - 1], "all": list(range(count))}
    chosen = named[layers] if isinstance(layers, str) else sorted(set(layers))
    if any(not 0 <= layer < count for layer in chosen):
        raise ValueError(f"layers {list(chosen)}: the model has layers 0 to {count - 1}")
    return chosen


class Profiler:
    """Holds the model of a timestep; `profile` turns a planned batch of samples into rows.

    Scores are means over response tokens (nll in nats; image_grounding is log PPL without / with the image, exactly 0 for
    text; grad_norm the exact norm of the sketched layers' gradient). The gradient sketch is L2-normalised in float32 and
    then cast to float16; the embedding likewise. Always in eval mode: no dropout.
    """

    def __init__(self, spec: ProfilerSpec, device: str | None = None) -> None:
        unknown = sorted(set(spec.scores) - set(SCORES)) + sorted(set(spec.vectors) - set(VECTORS))
        if unknown:
            raise ValueError(f"cannot profile {unknown}; scores are {list(SCORES)}, vectors {list(VECTORS)}")
        self.spec = spec
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.processor = models.load_processor(spec.model, spec.revision)
        model = models.load_model(
            spec.model, revision=spec.revision, dtype=spec.dtype, attention=spec.attention, adapter=spec.adapter
        )
        if spec.parameters == "lora" and spec.adapter is None:
            model = models.add_lora(model, **(spec.lora or {})).requires_grad_(False).eval()
        self.model = model.to(self.device)
        layers = models.decoder_layers(self.model)
        self._gradient_layers = [(f"layers.{i}", layers[i]) for i in layer_indices(spec.layers, len(layers))]
        self._embedding_layers = [layers[i] for i in layer_indices(spec.embedding_layers, len(layers))]
        self._sketcher = Sketcher(spec.dimension, spec.seed)
        self._needs_gradient = "sketch" in spec.vectors or "grad_norm" in spec.scores
        self._embedding_signs: torch.Tensor | None = None

    def profile(self, samples: Sequence[Mapping[str, Any]]) -> list[Row]:
        """One row per sample, in the given order; a sample that cannot be encoded gets its reason as status."""
        encoded: dict[int, Encoded] = {}
        failed: dict[int, str] = {}
        for at, sample in enumerate(samples):
            try:
                images = [open_image(image) for image in sample["images"] or []]
                encoded[at] = encode(self.processor, sample["conversation"], images, self.spec.max_length)
            except (SampleError, ValueError, OSError) as error:
                failed[at] = str(error) or type(error).__name__
        rows = dict(zip(encoded, self._profile(samples, encoded), strict=True)) if encoded else {}
        return [Row(str(sample["id"]), failed[at]) if at in failed else rows[at] for at, sample in enumerate(samples)]

    def _profile(self, samples: Sequence[Mapping[str, Any]], encoded: Mapping[int, Encoded]) -> list[Row]:
        batch = list(encoded.values())
        forward = self._forward(batch)
        scores = {name: values.tolist() for name, values in forward.scores.items()}
        if "image_grounding" in self.spec.scores:
            nll = forward.scores["nll"]
            scores["image_grounding"] = self._image_grounding(samples, encoded, nll)
        vectors = {name: values.cpu().numpy().astype(np.float16) for name, values in forward.vectors.items()}
        return [
            Row(
                id=str(samples[at]["id"]),
                status="ok",
                n_tokens=len(one.input_ids),
                n_response_tokens=int(one.response.sum()),
                scores={name: scores[name][row] for name in self.spec.scores},
                vectors={name: vectors[name][row] for name in self.spec.vectors},
            )
            for row, (at, one) in enumerate(encoded.items())
        ]

    def _forward(self, batch: Sequence[Encoded]) -> "_Pass":
        """The pass with images: token scores, and where asked for the gradient's sketch and norm and the embedding."""
        inputs = self._collate(batch)
        counts = [int(one.response.sum()) for one in batch]
        recorder = Recorder(self._gradient_layers if self._needs_gradient else [])
        with torch.set_grad_enabled(self._needs_gradient), _Hidden(self._embedding_layers) as hidden:
            if self._needs_gradient:
                with recorder:
                    logits, targets = self._response_logits(inputs)
            else:
                logits, targets = self._response_logits(inputs)
        means = sample_means(token_scores(logits, targets), counts)
        out = _Pass(scores=dict(zip(TOKEN_SCORES, means.T, strict=True)), vectors={})
        if "embedding" in self.spec.vectors:
            out.vectors["embedding"] = self._embed(hidden.outputs, inputs["response"])
        if self._needs_gradient:
            losses = sample_means(token_nll(logits, targets), counts)
            out.scores["grad_norm"], out.vectors["sketch"] = self._sketch(losses, recorder, inputs["attention_mask"])
        return out

    def _response_logits(self, inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (M, V) of the positions that predict response tokens, and the tokens (M,). The head sees no other."""
        predicts = torch.zeros_like(inputs["response"])
        predicts[:, :-1] = inputs["response"][:, 1:]
        head = models.unwrapped(self.model).get_output_embeddings()
        gather = head.register_forward_pre_hook(lambda module, args: (args[0][predicts][None],))
        try:
            rest = {name: value for name, value in inputs.items() if name != "response"}
            logits = self.model(**rest, use_cache=False).logits[0]
        finally:
            gather.remove()
        return logits, inputs["input_ids"][inputs["response"]]

    def _sketch(
        self, losses_B: torch.Tensor, recorder: Recorder, attention: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Exact gradient norm (B,) and the unit sketch (B, P); a zero gradient keeps a zero sketch."""
        padding = (attention == 0)[..., None]
        square = torch.zeros(len(losses_B), device=losses_B.device)
        sketch = torch.zeros(len(losses_B), self.spec.dimension, device=losses_B.device)
        for name, g, a in gradient_factors(losses_B, recorder, self.spec.parameters):
            g, a = g.masked_fill(padding, 0), a.masked_fill(padding, 0)
            if "grad_norm" in self.spec.scores:
                square += squared_norm(g, a)
            sketch += self._sketcher.project(name, g, a)
        return square.sqrt(), torch.nn.functional.normalize(sketch, dim=1, eps=1e-30)

    def _embed(self, outputs: Sequence[torch.Tensor], response: torch.Tensor) -> torch.Tensor:
        """Unit mean hidden state of the response tokens (B, D); more than D wide states are projected by random signs."""
        weights = response.float()[..., None]
        means = [(hidden.detach().float() * weights).sum(1) / weights.sum(1) for hidden in outputs]
        joined = torch.cat(means, 1)
        if joined.shape[1] > self.spec.embedding:
            if self._embedding_signs is None:
                self._embedding_signs = signs(self.spec.embedding, joined.shape[1], self.spec.seed, "embedding").to(
                    joined.device
                )
            joined = joined @ self._embedding_signs.T
        return torch.nn.functional.normalize(joined, dim=1)

    @torch.no_grad()
    def _image_grounding(
        self, samples: Sequence[Mapping[str, Any]], encoded: Mapping[int, Encoded], nll_B: torch.Tensor
    ) -> list[float]:
        """log(PPL without image / PPL with image) (Adapt-∞ eq. 2) over the same response tokens; 0 where no image is."""
        rows = [row for row, at in enumerate(encoded) if samples[at]["images"]]
        blind = {row: self._blind(samples[at], one) for row, (at, one) in enumerate(encoded.items()) if row in rows}
        usable = [row for row in rows if blind[row] is not None]
        grounding = [float("nan") if row in rows else 0.0 for row in range(len(encoded))]
        if usable:
            batch = [one for row in usable if (one := blind[row]) is not None]
            logits, targets = self._response_logits(self._collate(batch))
            counts = [int(one.response.sum()) for one in batch]
            without = sample_means(token_nll(logits, targets), counts)
            for row, value in zip(usable, (without - nll_B[usable]).tolist(), strict=True):
                grounding[row] = value
        return grounding

    def _blind(self, sample: Mapping[str, Any], seen: Encoded) -> Encoded | None:
        """The sample without its images; None where the tokenizer then splits the response differently."""
        if self.spec.no_image == "blank":
            blank = {name: torch.zeros_like(x) if x.is_floating_point() else x for name, x in seen.extras.items()}
            return Encoded(seen.input_ids, seen.response, blank)
        blind = encode(self.processor, without_images(sample["conversation"]), [], self.spec.max_length)
        same = torch.equal(blind.input_ids[blind.response], seen.input_ids[seen.response])
        return blind if same else None

    def _collate(self, batch: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        inputs = collate(batch, pad_id_of(self.processor), self.spec.padding_side)
        dtype = next(self.model.parameters()).dtype
        return {
            name: value.to(self.device, dtype if value.is_floating_point() else None) for name, value in inputs.items()
        }


@dataclass(frozen=True)
class _Pass:
    scores: dict[str, torch.Tensor]
    vectors: dict[str, torch.Tensor]


class _Hidden:
    """While entered, keeps the outputs of some decoder layers of one forward."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self.layers = layers
        self.outputs: list[torch.Tensor] = []

    def __enter__(self) -> "_Hidden":
        self._hooks = [layer.register_forward_hook(self._keep) for layer in self.layers]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.outputs.append(output[0] if isinstance(output, tuple) else output)
