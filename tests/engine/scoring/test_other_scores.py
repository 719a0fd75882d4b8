"""Learnability, forgetting, the user's own scores, and the vectors that are not gradients."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from liit.engine.data.readers.images import open_image
from liit.engine.models import anatomy, loading
from liit.engine.models.encoding import collate, encode, pad_id_of
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Profiler, Row
from liit.engine.scoring.projections import signs

SCORE = """
def surprise(logits, targets):
    return (-logits.log_softmax(-1)).gather(1, targets[:, None]).max()

def length(logits, targets):
    return len(targets)

def nothing(logits, targets):
    return "high"
"""


@pytest.fixture
def samples(tmp_path: Path) -> list[dict[str, Any]]:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(tmp_path / "a.png")

    def sample(name: str, images: int, question: str, answer: str) -> dict[str, Any]:
        turns = [{"role": "user", "text": "<image>" * images + question}, {"role": "assistant", "text": answer}]
        image = {"path": str(tmp_path / "a.png"), "bytes": None}
        return {"id": name, "conversation": turns, "images": [image] * images}

    return [sample("text", 0, "Yes or no?", "no"), sample("one", 1, "What?", "a box"), sample("two", 2, "Both?", "yes")]


def profile(model: str, samples: list[dict[str, Any]], **changes: Any) -> list[Row]:
    spec = ProfilerSpec(model=model, max_length=400, scores=("nll",), vectors=())
    return Profiler(replace(spec, **changes)).profile(samples)


def values(rows: list[Row], name: str) -> list[float]:
    return [(row.scores or {})[name] for row in rows]


def test_learnability_is_the_loss_above_the_reference_model(
    tiny_llava: str, tiny_llama: str, samples: list[dict[str, Any]]
) -> None:
    text = samples[:1]
    mine, reference = values(profile(tiny_llava, text), "nll"), values(profile(tiny_llama, text), "nll")
    found = profile(tiny_llava, text, scores=("nll", "learnability"), reference=tiny_llama)
    assert values(found, "learnability") == pytest.approx([mine[0] - reference[0]])
    alone = profile(tiny_llava, text, scores=("learnability",), reference=tiny_llama)
    assert values(alone, "learnability") == values(found, "learnability")
    itself = profile(tiny_llava, samples, scores=("nll", "learnability"), reference=tiny_llava)
    assert values(itself, "learnability") == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match=r"scoring\.reference"):
        profile(tiny_llava, samples, scores=("learnability",))


def test_a_sample_the_reference_cannot_read_gets_its_reason(
    tiny_llava: str, tiny_llama: str, samples: list[dict[str, Any]]
) -> None:
    rows = profile(tiny_llava, samples, scores=("nll", "learnability"), reference=tiny_llama)
    assert [row.status == "ok" for row in rows] == [True, False, False]
    assert "image" in rows[1].status


def test_forgetting_is_the_loss_above_the_lowest_on_record(tiny_llava: str, samples: list[dict[str, Any]]) -> None:
    nll = values(profile(tiny_llava, samples), "nll")
    seen = [samples[0], samples[1] | {"best_nll": nll[1] - 0.5}, samples[2] | {"best_nll": nll[2] + 0.5}]
    rows = profile(tiny_llava, seen, scores=("nll", "forgetting"))
    assert values(rows, "forgetting") == pytest.approx([0.0, 0.5, -0.5])


def test_scores_of_the_users_own(
    tiny_llava: str, samples: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_scores.py").write_text(SCORE)
    monkeypatch.syspath_prepend(tmp_path)
    own = {"surprise": "my_scores:surprise", "length": "my_scores:length", "nothing": "my_scores:nothing"}
    rows = profile(tiny_llava, samples, scores=("nll", "surprise", "length"), custom=own)
    assert values(rows, "length") == [row.n_response_tokens for row in rows]
    assert all(high >= mean for high, mean in zip(values(rows, "surprise"), values(rows, "nll"), strict=True))
    with pytest.raises(ValueError, match="score nothing returned str"):
        profile(tiny_llava, samples, scores=("nothing",), custom=own)
    with pytest.raises(ValueError, match="'my_scores:absent' is not module:function"):
        profile(tiny_llava, samples, scores=("absent",), custom={"absent": "my_scores:absent"})


def naive_hidden(model: Any, processor: Any, sample: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """(layers, S, H) outputs of the layers and of their attention, and the inputs, for one sample."""
    images = [open_image(image) for image in sample["images"]]
    inputs = collate([encode(processor, sample["conversation"], images, 400)], pad_id_of(processor))
    response = inputs.pop("response")[0]
    attention: list[torch.Tensor] = []
    outputs: list[torch.Tensor] = []
    layers: Any = anatomy.decoder_layers(model)
    hooks = [
        module.register_forward_hook(lambda module, given, out, kept=kept: kept.append(out))
        for kept, modules in ((attention, [layer.self_attn.o_proj for layer in layers]), (outputs, layers))
        for module in modules
    ]
    with torch.no_grad():
        model(**inputs)
    for hook in hooks:
        hook.remove()
    return torch.cat(outputs), torch.cat(attention), (inputs["input_ids"][0], response)


def test_embeddings_of_one_layer_and_of_all(tiny_llava: str, samples: list[dict[str, Any]]) -> None:
    model, processor = loading.load_model(tiny_llava), loading.load_processor(tiny_llava)
    last = profile(tiny_llava, samples, vectors=("embedding",), embedding_layers="last")
    every = profile(tiny_llava, samples, vectors=("embedding",), embedding_layers="all", embedding=24)
    for sample, one, many in zip(samples, last, every, strict=True):
        hidden, _, (_, response) = naive_hidden(model, processor, sample)
        means = hidden[:, response].mean(1)
        close((one.vectors or {})["embedding"], means[-1])
        close((many.vectors or {})["embedding"], signs(24, 96, 0, "embedding") @ means.flatten())


def test_coincide_features_are_visual_and_textual_halves(tiny_llava: str, samples: list[dict[str, Any]]) -> None:
    model, processor = loading.load_model(tiny_llava), loading.load_processor(tiny_llava)
    rows = profile(tiny_llava, samples, vectors=("coincide",), coincide_depths=(0.0, 0.7))
    for sample, row in zip(samples, rows, strict=True):
        _, written, (ids, _) = naive_hidden(model, processor, sample)
        parts = []
        for mask in (ids == 4, ids != 4):
            for layer in (0, 2):
                mean = written[layer][mask].mean(0) if mask.any() else torch.zeros(32)
                parts.append(torch.nn.functional.normalize(mean.tanh(), dim=0))
        close((row.vectors or {})["coincide"], torch.cat(parts))
        assert ((row.vectors or {})["coincide"][:64] == 0).all() == (not sample["images"])


def close(found: np.ndarray, truth: torch.Tensor) -> None:
    np.testing.assert_allclose(found.astype(np.float32), (truth / truth.norm()).numpy(), atol=1e-3)


def test_a_zero_gradient_is_a_zero_sketch_and_not_nan(tiny_llama: str, samples: list[dict[str, Any]]) -> None:
    spec = ProfilerSpec(model=tiny_llama, max_length=400, scores=("grad_norm", "sketch_norm"), vectors=("sketch",))
    profiler = Profiler(spec)
    with torch.no_grad():
        anatomy.unwrapped(profiler.model).get_output_embeddings().weight.zero_()
    row = profiler.profile(samples[:1])[0]
    assert row.scores == {"grad_norm": 0.0, "sketch_norm": 0.0}
    assert row.vectors is not None
    assert not row.vectors["sketch"].any()
    assert not any(math.isnan(value) for value in (row.scores or {}).values())


def test_the_sketch_norm_estimates_the_gradient_norm(tiny_llava: str, samples: list[dict[str, Any]]) -> None:
    rows = profile(tiny_llava, samples, scores=("grad_norm", "sketch_norm"), vectors=("sketch",))
    for exact, estimate in zip(values(rows, "grad_norm"), values(rows, "sketch_norm"), strict=True):
        assert estimate == pytest.approx(exact, rel=0.1)


@pytest.mark.parametrize("side", ["left", "right"])
def test_by_position_every_token_counts_by_how_many_are_before_it(
    tiny_llava: str, samples: list[dict[str, Any]], side: str
) -> None:
    """Of the last layer, whose MLP must then be given all positions; and scores are what they are without."""
    rows = profile(tiny_llava, samples, scores=("nll",), vectors=("position-mean",), padding_side=side)
    alone = profile(tiny_llava, samples, scores=("nll",), vectors=("embedding",), padding_side=side)
    np.testing.assert_allclose(values(rows, "nll"), values(alone, "nll"), rtol=1e-5)
    model, processor = loading.load_model(tiny_llava), loading.load_processor(tiny_llava)
    for sample, row in zip(samples, rows, strict=True):
        images = [open_image(image) for image in sample["images"]]
        inputs = collate(
            [encode(processor, sample["conversation"], images, max_length=400)], pad_id_of(processor), "right"
        )
        inputs.pop("response")
        with torch.no_grad():
            states = model(**inputs, output_hidden_states=True).hidden_states[-1][0]
        expected = (torch.arange(1.0, len(states) + 1)[:, None] * states).sum(0)
        assert row.vectors is not None
        np.testing.assert_allclose(
            row.vectors["position-mean"].astype(np.float32), (expected / expected.norm()).numpy(), atol=2e-3
        )


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_is_asked_is_the_mean_input_embedding_of_its_text_and_the_last_state_before_the_answer(
    tiny_llava: str, samples: list[dict[str, Any]], side: str
) -> None:
    rows = profile(tiny_llava, samples, vectors=("instruction-input", "prompt-last"), padding_side=side)
    model, processor = loading.load_model(tiny_llava), loading.load_processor(tiny_llava)
    for sample, row in zip(samples, rows, strict=True):
        images = [open_image(image) for image in sample["images"]]
        one = encode(processor, sample["conversation"], images, max_length=400)
        inputs = collate([one], pad_id_of(processor), "right")
        response = inputs.pop("response")[0]
        ids = inputs["input_ids"][0]
        said = ~response & (ids != anatomy.image_token(model))
        with torch.no_grad():
            mean = anatomy.unwrapped(model).get_input_embeddings()(ids[said]).mean(0)
            states = model(**inputs, output_hidden_states=True).hidden_states
        first = int(response.int().argmax())
        last = states[len(anatomy.decoder_layers(model)) // 2 + 1][0, first - 1]
        assert row.vectors is not None
        for name, expected in (("instruction-input", mean), ("prompt-last", last)):
            unit = (expected / expected.norm()).numpy()
            np.testing.assert_allclose(row.vectors[name].astype(np.float32), unit, atol=2e-3)
