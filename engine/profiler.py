"""The class that a scoring actor holds: samples in, profile columns out, everything from one pass.

A forward and a backward that stops at the first sketched layer give the token scores, every gradient sketch and every
embedding; image grounding adds the short forward without image tokens. Needs torch, transformers, peft, numpy only: no
Ray, no pydantic. Legend: B samples of a batch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from liit.engine import custom, models
from liit.engine.adapter import merge
from liit.engine.encoding import Encoded, SampleError, encode, without_images
from liit.engine.passes import Batch, Seen, look
from liit.engine.profile_spec import MAIN, ProfilerSpec, layer_indices
from liit.engine.readers.images import open_image
from liit.engine.scores import TOKEN_SCORES, token_scores
from liit.engine.sketch import Sketcher
from liit.engine.sketch_spec import SketchSpec
from liit.engine.vectors import makers, unit

Sample = Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """The profile of one sample. `status` is "ok", or the reason why there is nothing else."""

    id: str
    status: str
    n_tokens: int = 0
    n_response_tokens: int = 0
    scores: Mapping[str, float] | None = None
    vectors: Mapping[str, np.ndarray] | None = None


class Profiler:
    """Holds the model of a timestep; `profile` turns a planned batch of samples into rows.

    Scores are those of `profile_spec.SCORES` and the user's own. Vectors are L2-normalised in float32 and then cast to float16.
    Always in eval mode: no dropout.
    """

    def __init__(self, spec: ProfilerSpec, device: str | None = None) -> None:
        self.spec = spec
        self.processor = models.load_processor(spec.model, spec.revision)
        self.model = _load(spec).to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._makers = makers(spec, self.model)
        self._norm = _norm(spec, self.model) if "grad_norm" in spec.scores else None
        readers = [*self._makers.values(), *([self._norm] if self._norm else [])]
        layers = {layer for maker in readers for layer in maker.gradient_layers}
        watched = dict.fromkeys(module for maker in readers for module in maker.watched)
        self._look = partial(look, self.model, gradient_layers=layers, watched=watched)
        self._custom = {name: custom.load(name, place) for name, place in spec.custom.items() if name in spec.scores}
        self._reference = Profiler(_reference(spec), device) if "learnability" in spec.scores else None
        self._proxies = [Profiler(_proxy(spec, model, names), device) for model, names in spec.proxies().items()]

    def profile(self, samples: Sequence[Sample]) -> list[Row]:
        """One row per sample, in the given order; a sample that cannot be encoded gets its reason as status.

        Of a sample, `best_nll` may be the lowest negative log-likelihood that was ever recorded of it.
        """
        encoded: dict[int, Encoded] = {}
        failed: dict[int, str] = {}
        for at, sample in enumerate(samples):
            try:
                images = [open_image(image) for image in sample["images"] or []]
                encoded[at] = encode(self.processor, sample["conversation"], images, self.spec.max_length)
            except (SampleError, ValueError, OSError) as error:
                failed[at] = str(error) or type(error).__name__
        usable = [samples[at] for at in encoded]
        rows = dict(zip(encoded, self._profile(usable, list(encoded.values())), strict=True)) if encoded else {}
        return [Row(str(sample["id"]), failed[at]) if at in failed else rows[at] for at, sample in enumerate(samples)]

    def _profile(self, samples: Sequence[Sample], encoded: Sequence[Encoded]) -> list[Row]:
        batch = Batch(encoded, self.processor, self.spec.padding_side, self.model)
        seen: Seen = self._look(batch)
        raw = {name: maker(batch, seen) for name, maker in self._makers.items()}
        scores = self._scores(samples, encoded, batch, seen, raw)
        vectors = {name: values.cpu().numpy().astype(np.float16) for name, values in unit(raw).items()}
        rows = [
            Row(
                id=str(samples[at]["id"]),
                status="ok",
                n_tokens=len(one.input_ids),
                n_response_tokens=int(one.response.sum()),
                scores={name: scores[name][at] for name in self.spec.scores if name in scores},
                vectors={name: vectors[name][at] for name in vectors},
            )
            for at, one in enumerate(encoded)
        ]
        return self._beside(samples, rows)

    def _scores(
        self,
        samples: Sequence[Sample],
        encoded: Sequence[Encoded],
        batch: Batch,
        seen: Seen,
        raw: Mapping[str, torch.Tensor],
    ) -> dict[str, list[float]]:
        logits, targets = seen.logits_MV, batch.targets_M
        means = batch.means(token_scores(logits, targets))
        scores = dict(zip(TOKEN_SCORES, means.T.tolist(), strict=True))
        if "image_grounding" in self.spec.scores:
            scores["image_grounding"] = self._image_grounding(samples, encoded, means[:, 0])
        if self._norm is not None:
            scores["grad_norm"] = self._norm.norm(seen).tolist()
        if "sketch_norm" in self.spec.scores:
            scores["sketch_norm"] = raw[MAIN].norm(dim=1).tolist()
        if "forgetting" in self.spec.scores:
            best = [sample.get("best_nll") for sample in samples]
            scores["forgetting"] = [
                0.0 if low is None else nll - low for nll, low in zip(scores["nll"], best, strict=True)
            ]
        for name, score in self._custom.items():
            scores[name] = custom.evaluate(name, score, logits, targets, batch.counts)
        return scores

    def _image_grounding(
        self, samples: Sequence[Sample], encoded: Sequence[Encoded], nll_B: torch.Tensor
    ) -> list[float]:
        """log(PPL without image / PPL with image) (Adapt-∞ eq. 2) over the same response tokens; 0 where no image is."""
        with_image = [bool(sample["images"]) for sample in samples]
        blind = {at: self._blind(samples[at], encoded[at]) for at, has in enumerate(with_image) if has}
        pairs = [(at, one) for at, one in blind.items() if one is not None]
        grounding = [math.nan if has else 0.0 for has in with_image]
        if pairs:
            batch = Batch([one for _, one in pairs], self.processor, self.spec.padding_side, self.model)
            with torch.no_grad():
                without = look(self.model, batch).losses_B
            for (at, _), value in zip(pairs, (without - nll_B[[at for at, _ in pairs]]).tolist(), strict=True):
                grounding[at] = value
        return grounding

    def _blind(self, sample: Sample, seen: Encoded) -> Encoded | None:
        """The sample without its images; None where the tokenizer then splits the response differently."""
        if self.spec.no_image == "blank":
            blank = {name: torch.zeros_like(x) if x.is_floating_point() else x for name, x in seen.extras.items()}
            return Encoded(seen.input_ids, seen.response, blank)
        blind = encode(self.processor, without_images(sample["conversation"]), [], self.spec.max_length)
        same = torch.equal(blind.input_ids[blind.response], seen.input_ids[seen.response])
        return blind if same else None

    def _beside(self, samples: Sequence[Sample], rows: list[Row]) -> list[Row]:
        """What other models say of the same samples: the reference's nll, the proxies' sketches."""
        for other in [*([self._reference] if self._reference else []), *self._proxies]:
            rows = [_joined(mine, theirs) for mine, theirs in zip(rows, other.profile(samples), strict=True)]
        return rows


def _joined(mine: Row, theirs: Row) -> Row:
    if mine.status != "ok" or theirs.status != "ok":
        return mine if mine.status != "ok" else Row(mine.id, theirs.status)
    scores, vectors = dict(mine.scores or {}), {**(mine.vectors or {}), **(theirs.vectors or {})}
    if theirs.scores:
        scores["learnability"] = scores["nll"] - theirs.scores["nll"]
    return replace(mine, scores=scores, vectors=vectors)


def _reference(spec: ProfilerSpec) -> ProfilerSpec:
    assert spec.reference is not None
    return replace(spec, model=spec.reference, adapter=None, revision=None, scores=("nll",), vectors=(), lora=None)


def _proxy(spec: ProfilerSpec, model: str, names: Sequence[str]) -> ProfilerSpec:
    sketches = {name: replace(spec.sketches[name], model=None) for name in names}
    plain = replace(spec, scores=(), vectors=(), sketches=sketches, adapter=None, revision=None)
    return replace(plain, model=model, vectors=tuple(names))


def _norm(spec: ProfilerSpec, model: nn.Module) -> Sketcher:
    """The plain gradient of the layers and parameters that the main sketch is of."""
    main = spec.sketches[MAIN]
    plain = SketchSpec(layers=main.layers, parameters=main.parameters)
    return Sketcher(plain, layer_indices(plain.layers, len(models.decoder_layers(model))), spec.seed, {})


def _load(spec: ProfilerSpec) -> nn.Module:
    """The model with its adapter, merged but in the layers whose LoRA gradients are wanted."""
    model = models.load_model(
        spec.model, revision=spec.revision, dtype=spec.dtype, attention=spec.attention, adapter=spec.adapter
    )
    here = [*spec.sketches_here().values(), *([spec.sketches[MAIN]] if "grad_norm" in spec.scores else [])]
    apart = [sketch for sketch in here if sketch.parameters == "lora"]
    if apart and spec.adapter is None:
        model = models.add_lora(model, **(spec.lora or {})).requires_grad_(False).eval()
    if spec.merge:
        layers = models.decoder_layers(model)
        merge(model, [layers[i] for sketch in apart for i in layer_indices(sketch.layers, len(layers))])
    return model
