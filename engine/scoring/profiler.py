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

from liit.engine.data.readers.images import open_image
from liit.engine.models import adapters, anatomy, loading
from liit.engine.models.adapters import merge, speaking_as, with_adapters
from liit.engine.models.encoding import Encoded, SampleError, blank_images, encode, without_images
from liit.engine.models.fusing import fuse
from liit.engine.scoring import custom
from liit.engine.scoring.passes import Batch, Seen, look
from liit.engine.scoring.profile_spec import MAIN, ProfilerSpec, layer_indices, sketched_layers
from liit.engine.scoring.scores import TOKEN_SCORES, token_scores
from liit.engine.scoring.sketches import Sketcher
from liit.engine.scoring.vectors import makers, unit
from liit.engine.settings.specs import SketchSpec

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


@dataclass(frozen=True)
class Prepared:
    """Samples of a planned batch as tensors, with and without their images, and reasons where that failed."""

    samples: Sequence[Sample]
    encoded: Mapping[int, Encoded]
    blind: Mapping[int, Encoded | None]
    failed: Mapping[int, str]
    beside: Sequence["Prepared"] = ()
    """The same samples for other models, in the order that they are asked."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, some: slice) -> "Prepared":
        rows = range(len(self))[some]

        def of(known: Mapping[int, Any]) -> dict[int, Any]:
            return {at: known[row] for at, row in enumerate(rows) if row in known}

        beside = [other[some] for other in self.beside]
        return Prepared(self.samples[some], of(self.encoded), of(self.blind), of(self.failed), beside)

    @property
    def nbytes(self) -> int:
        """Of its tensors, those for other models too."""
        own = sum(one.nbytes for one in (*self.encoded.values(), *self.blind.values()) if one is not None)
        return own + sum(other.nbytes for other in self.beside)


class Profiler:
    """Holds the model of a timestep; `profile` turns a planned batch of samples into rows.

    Scores are those of `profile_spec.SCORES` and the user's own. Vectors are L2-normalised in float32 and then cast to float16.
    Always in eval mode: no dropout.
    """

    def __init__(
        self, spec: ProfilerSpec, device: str | None = None, loaded: tuple[Any, nn.Module] | None = None
    ) -> None:
        """loaded: processor and model, where they do not lie in the folder that `spec` names."""
        self.spec = spec
        self.processor = loaded[0] if loaded else loading.load_processor(spec.model, spec.revision, spec.template)
        model = _ready(spec, loaded[1] if loaded else None)
        if spec.fuse:
            fuse(model)
        self.model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._makers = makers(spec, self.model)
        self._norm = _norm(spec, self.model) if "grad_norm" in spec.scores else None
        readers = [*self._makers.values(), *([self._norm] if self._norm else [])]
        layers: dict[float, set[int]] = {}
        for maker in readers:
            for heat, mine in maker.gradient_layers.items():
                layers.setdefault(heat, set()).update(mine)
        watched = dict.fromkeys(module for maker in readers for module in maker.watched)
        self._look = partial(look, self.model, gradient_layers=layers, watched=watched)
        self._custom = {name: custom.load(name, place) for name, place in spec.custom.items() if name in spec.scores}
        others = [_reference(spec)] if "learnability" in spec.scores else []
        others += [_proxy(spec, model, names) for model, names in spec.proxies().items()]
        self._others = [Profiler(other, device) for other in others]

    def profile(self, samples: Sequence[Sample]) -> list[Row]:
        """One row per sample, in the given order; a sample that cannot be encoded gets its reason as status.

        Of a sample, `best_nll` may be the lowest negative log-likelihood that was ever recorded of it.
        """
        return self.run(self.prepare(samples))

    def prepare(self, samples: Sequence[Sample]) -> Prepared:
        """The part of `profile` that needs no model: images read, conversations tokenized. Any thread may do it."""
        encoded: dict[int, Encoded] = {}
        blind: dict[int, Encoded | None] = {}
        failed: dict[int, str] = {}
        for at, sample in enumerate(samples):
            try:
                images = [open_image(image) for image in sample["images"] or []]
                encoded[at] = encode(self.processor, sample["conversation"], images, self.spec.max_length)
                if images and "image_grounding" in self.spec.scores:
                    blind[at] = self._blind(sample, encoded[at])
            except (SampleError, ValueError, OSError) as error:
                encoded.pop(at, None)
                failed[at] = str(error) or type(error).__name__
        return Prepared(samples, encoded, blind, failed, [other.prepare(samples) for other in self._others])

    def run(self, prepared: Prepared) -> list[Row]:
        """The rest of `profile`: the passes through the model."""
        rows = {at: Row(str(prepared.samples[at]["id"]), reason) for at, reason in prepared.failed.items()}
        if prepared.encoded:
            rows |= dict(zip(prepared.encoded, self._passes(prepared), strict=True))
        found = [rows[at] for at in range(len(prepared.samples))]
        for other, theirs in zip(self._others, prepared.beside, strict=True):
            found = [_joined(mine, row) for mine, row in zip(found, other.run(theirs), strict=True)]
        return found

    def _passes(self, prepared: Prepared) -> list[Row]:
        """With experts, a batch is of one: the one that its samples' `expert` names."""
        if not self.spec.experts:
            return self._passes_of_one(prepared)
        name = prepared.samples[0]["expert"]
        with speaking_as(self.model, name if name in self.spec.experts else None):
            return self._passes_of_one(prepared)

    def _passes_of_one(self, prepared: Prepared) -> list[Row]:
        encoded = list(prepared.encoded.values())
        batch = self._batch(encoded)
        seen: Seen = self._look(batch)
        raw = {name: maker(batch, seen) for name, maker in self._makers.items()}
        scores = self._scores(prepared, batch, seen, raw)
        bad = self._not_finite(prepared, scores, raw)
        vectors = {name: values.cpu().numpy().astype(np.float16) for name, values in unit(raw).items()}
        kept = (*self.spec.scores, "nll") if "learnability" in self.spec.scores else self.spec.scores
        return [
            Row(str(prepared.samples[at]["id"]), bad[row])
            if row in bad
            else Row(
                id=str(prepared.samples[at]["id"]),
                status="ok",
                n_tokens=len(one.input_ids),
                n_response_tokens=int(one.response.sum()),
                scores={name: scores[name][row] for name in kept if name in scores},
                vectors={name: vectors[name][row] for name in vectors},
            )
            for row, (at, one) in enumerate(prepared.encoded.items())
        ]

    def _not_finite(
        self, prepared: Prepared, scores: Mapping[str, Sequence[float]], raw: Mapping[str, torch.Tensor]
    ) -> dict[int, str]:
        """By place, what is wrong with rows that have a score or vector which is no number. NaN may stand for a score that a
        sample has not: its image grounding where its response is split otherwise without images, or one of the user's own."""
        bad: dict[int, str] = {}
        lengths = {name: values.float().norm(dim=1).tolist() for name, values in raw.items()}
        for row, at in enumerate(prepared.encoded):
            blind = at in prepared.blind and prepared.blind[at] is None
            optional = {*self._custom, *(["image_grounding"] if blind else [])}
            wrong = [
                f"{name} is {values[row]}"
                for name, values in scores.items()
                if not (math.isfinite(values[row]) or (name in optional and math.isnan(values[row])))
            ]
            wrong += [
                f"{name} has length {length[row]}" for name, length in lengths.items() if not math.isfinite(length[row])
            ]
            if wrong:
                bad[row] = f"not finite under this model: {', '.join(wrong)}"
        return bad

    def _scores(
        self, prepared: Prepared, batch: Batch, seen: Seen, raw: Mapping[str, torch.Tensor]
    ) -> dict[str, list[float]]:
        logits, targets = seen.logits_MV, batch.targets_M
        means = batch.means(token_scores(logits, targets))
        scores = dict(zip(TOKEN_SCORES, means.T.tolist(), strict=True))
        if "image_grounding" in self.spec.scores:
            scores["image_grounding"] = self._image_grounding(prepared, means[:, 0])
        if self._norm is not None:
            scores["grad_norm"] = self._norm.norm(seen).tolist()
        if "sketch_norm" in self.spec.scores:
            scores["sketch_norm"] = raw[MAIN].norm(dim=1).tolist()
        if "forgetting" in self.spec.scores:
            best = [prepared.samples[at].get("best_nll") for at in prepared.encoded]
            pairs = zip(scores["nll"], best, strict=True)
            scores["forgetting"] = [0.0 if low is None else nll - low for nll, low in pairs]
        for name, score in self._custom.items():
            scores[name] = custom.evaluate(name, score, logits, targets, batch.counts)
        return scores

    def _image_grounding(self, prepared: Prepared, nll_B: torch.Tensor) -> list[float]:
        """log(PPL without image / PPL with image) (Adapt-∞ eq. 2) over the same response tokens; 0 where no image is."""
        rows = [row for row, at in enumerate(prepared.encoded) if prepared.blind.get(at) is not None]
        blind = [one for one in prepared.blind.values() if one is not None]
        grounding = [math.nan if at in prepared.blind else 0.0 for at in prepared.encoded]
        if rows:
            with torch.no_grad():
                without = look(self.model, self._batch(blind)).losses_B
            for row, value in zip(rows, (without - nll_B[rows]).tolist(), strict=True):
                grounding[row] = value
        return grounding

    def _batch(self, encoded: Sequence[Encoded]) -> Batch:
        return Batch(encoded, self.processor, self.spec.padding_side, self.model)

    def _blind(self, sample: Sample, seen: Encoded) -> Encoded | None:
        """The sample without its images; None where the tokenizer then splits the response differently."""
        if self.spec.no_image == "blank":
            return blank_images(seen)
        blind = encode(self.processor, without_images(sample["conversation"]), [], self.spec.max_length)
        same = torch.equal(blind.input_ids[blind.response], seen.input_ids[seen.response])
        return blind if same else None


def _joined(mine: Row, theirs: Row) -> Row:
    if mine.status != "ok" or theirs.status != "ok":
        return mine if mine.status != "ok" else Row(mine.id, theirs.status)
    scores, vectors = dict(mine.scores or {}), {**(mine.vectors or {}), **(theirs.vectors or {})}
    if theirs.scores:
        scores["learnability"] = scores["nll"] - theirs.scores["nll"]
    return replace(mine, scores=scores, vectors=vectors)


def _reference(spec: ProfilerSpec) -> ProfilerSpec:
    assert spec.reference is not None
    return replace(
        spec, model=spec.reference, adapter=None, revision=None, scores=("nll",), vectors=(), lora=None, experts={}
    )


def _proxy(spec: ProfilerSpec, model: str, names: Sequence[str]) -> ProfilerSpec:
    sketches = {name: replace(spec.sketches[name], model=None) for name in names}
    plain = replace(spec, scores=(), vectors=(), sketches=sketches, adapter=None, revision=None, experts={})
    return replace(plain, model=model, vectors=tuple(names))


def _norm(spec: ProfilerSpec, model: nn.Module) -> Sketcher:
    """The plain gradient of the layers and parameters that the main sketch is of."""
    main = spec.sketches[MAIN]
    plain = SketchSpec(layers=main.layers, parameters=main.parameters)
    return Sketcher(plain, sketched_layers(plain, len(anatomy.decoder_layers(model))), spec.seed, {})


def _ready(spec: ProfilerSpec, model: nn.Module | None) -> nn.Module:
    """The model with its adapter, merged but in the layers whose LoRA gradients are wanted."""
    if model is None:
        adapter = None if spec.experts else spec.adapter
        model = loading.load_model(
            spec.model, revision=spec.revision, dtype=spec.dtype, attention=spec.attention, adapter=adapter
        )
    if spec.experts:
        return with_adapters(model, spec.experts)
    here = [*spec.sketches_here().values(), *([spec.sketches[MAIN]] if "grad_norm" in spec.scores else [])]
    apart = [sketch for sketch in here if sketch.parameters == "lora"]
    if apart and spec.adapter is None:
        model = adapters.add_lora(model, **(spec.lora or {})).requires_grad_(False).eval()
    if spec.merge:
        layers = anatomy.decoder_layers(model)
        merge(model, [layers[i] for sketch in apart for i in layer_indices(sketch.layers, len(layers))])
    return model
