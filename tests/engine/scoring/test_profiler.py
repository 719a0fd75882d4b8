"""Scores, gradients and embeddings equal a naive one-sample reference: full forward, softmax, autograd of the weights."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from liit.engine.data.readers.images import open_image
from liit.engine.models import adapters, anatomy, loading
from liit.engine.models.anatomy import linears
from liit.engine.models.encoding import collate, encode, pad_id_of, without_images
from liit.engine.scoring import passes
from liit.engine.scoring.gradients import Recorder
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Profiler, Row
from liit.engine.scoring.projections import Factored, Matrix, sides, signs
from liit.engine.settings.specs import SketchSpec

Samples = list[dict[str, Any]]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """Text only, one image, two images, several turns, lengths all different."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = []
    for name in range(3):
        path = folder / f"{name}.png"
        Image.fromarray(rng.integers(0, 255, (16 + 4 * name, 24, 3), dtype=np.uint8)).save(path)
        paths.append({"path": str(path), "bytes": None})

    def sample(name: str, images: Sequence[int], *turns: str) -> dict[str, Any]:
        roles = ["user", "assistant"] * len(turns)
        return {
            "id": name,
            "key": len(name),
            "conversation": [{"role": r, "text": t} for r, t in zip(roles, turns, strict=False)],
            "images": [paths[i] for i in images],
        }

    return [
        sample("text", [], "What is two and two?", "four"),
        sample("one", [0], "<image>\nWhat is this?", "a red box"),
        sample("two", [1, 2], "Compare <image> with <image> now.", "the first is larger"),
        sample("chat", [1], "<image>\nHello", "hi", "Which colour is it, please?", "蓝色"),
        sample("letter", [], "Yes or no?", "y"),
    ]


def profile(model: str, samples: Samples, sketch: dict[str, Any] | None = None, **changes: Any) -> list[Row]:
    """changes: of the specification; sketch: of the main sketch."""
    main = {"sketch": SketchSpec(**{"dimension": 64, **(sketch or {})})}
    spec = ProfilerSpec(model=model, max_length=400, sketches=main | changes.pop("sketches", {}), embedding=64)
    return Profiler(replace(spec, **changes)).profile(samples)


def for_family(family: str, samples: Samples) -> Samples:
    return [one for one in samples if family == "tiny_llava" or not one["images"]]


def naive_scores(model: Any, processor: Any, sample: dict[str, Any], images: bool = True) -> dict[str, Any]:
    """Batch of one, softmax and one-hot written out, parameter gradients by autograd."""
    conversation = sample["conversation"] if images else without_images(sample["conversation"])
    opened = [open_image(image) for image in sample["images"]] if images else []
    one = encode(processor, conversation, opened, 400)
    inputs = collate([one], pad_id_of(processor))
    response = inputs.pop("response")[0]
    layer = anatomy.decoder_layers(model)[1]
    weights: list[Any] = [module.weight for _, module in linears(layer)]
    for weight in weights:
        weight.requires_grad_(True)
    out = model(**inputs, output_hidden_states=True)
    where = response.nonzero()[:, 0]
    p = out.logits[0, where - 1].double().softmax(-1)
    y = torch.nn.functional.one_hot(inputs["input_ids"][0, where], p.shape[-1])
    loss = -(p * y).sum(-1).log().mean()
    gradients = torch.autograd.grad(loss, weights)
    for weight in weights:
        weight.requires_grad_(False)
    return {
        "nll": float(loss.detach()),
        "el2n": float((p - y).norm(dim=-1).mean().detach()),
        "entropy": float(-(p * p.log()).sum(-1).mean().detach()),
        "grad_norm": float(torch.cat([g.flatten() for g in gradients]).norm()),
        "gradients": gradients,
        "hidden": out.hidden_states[2][0, where].mean(0).detach(),
    }


@pytest.mark.parametrize("family", ["tiny_llava", "tiny_llama"])
def test_scores_equal_a_naive_one_sample_reference(
    family: str, samples: Samples, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(family)
    mine = for_family(family, samples)
    processor, model = loading.load_processor(folder), loading.load_model(folder)
    for sample, row in zip(mine, profile(folder, mine), strict=True):
        assert row.scores is not None, row.status
        naive = naive_scores(model, processor, sample)
        for name in ("nll", "el2n", "entropy", "grad_norm"):
            assert row.scores[name] == pytest.approx(naive[name], rel=1e-4), (sample["id"], name)
        blind = naive_scores(model, processor, sample, images=False)["nll"] - naive["nll"]
        assert row.scores["image_grounding"] == pytest.approx(blind if sample["images"] else 0.0, abs=1e-5)


@pytest.mark.parametrize("family", ["tiny_llava", "tiny_llama"])
def test_the_sketch_is_the_projection_of_the_true_gradient(
    family: str, samples: Samples, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(family)
    mine = for_family(family, samples)
    processor, model = loading.load_processor(folder), loading.load_model(folder)
    names = [name for name, _ in linears(anatomy.decoder_layers(model)[1])]
    rows, columns = sides(64)
    for sample, row in zip(mine, profile(folder, mine), strict=True):
        naive = naive_scores(model, processor, sample)
        expected = torch.zeros(rows, columns)
        for name, gradient in zip(names, naive["gradients"], strict=True):
            left = signs(rows, gradient.shape[0], 0, f"layers.1.{name}/left")
            right = signs(columns, gradient.shape[1], 0, f"layers.1.{name}/right")
            expected += left @ gradient @ right.T
        expected = (expected / expected.norm()).flatten()
        assert row.vectors is not None
        np.testing.assert_allclose(row.vectors["sketch"].astype(np.float32), expected.numpy(), atol=1e-3)
        hidden = naive["hidden"] / naive["hidden"].norm()
        np.testing.assert_allclose(row.vectors["embedding"].astype(np.float32), hidden.numpy(), atol=1e-3)


def test_projector_vectors_are_of_its_true_gradient_and_of_what_it_makes_of_the_images(
    tiny_llava: str, samples: Samples
) -> None:
    processor, model = loading.load_processor(tiny_llava), loading.load_model(tiny_llava)
    projector = anatomy.projector(model)
    weights = {f"projector.{name}": projector.get_parameter(f"{name}.weight") for name, _ in linears(projector)}
    assert len(weights) == 2
    for weight in weights.values():
        weight.requires_grad_(True)
    made: list[torch.Tensor] = []
    projector.register_forward_hook(lambda module, inputs, output: made.append(output.detach().flatten(0, -2).mean(0)))
    kinds = {"projected": SketchSpec(parameters="projector", dimension=64), "sketch": SketchSpec(dimension=64)}
    together = profile(tiny_llava, samples, sketches=kinds, vectors=(*kinds, "projector"))
    text = profile(tiny_llava, [samples[0], samples[4]], sketches=kinds, vectors=(*kinds, "projector"))
    for row in [*text, together[0], together[4]]:
        assert not (row.vectors or {})["projected"].any()
        assert not (row.vectors or {})["projector"].any()
    for sample, row in zip(samples[1:4], together[1:4], strict=True):
        images = [open_image(image) for image in sample["images"]]
        inputs = collate([encode(processor, sample["conversation"], images, 400)], pad_id_of(processor))
        labels = inputs["input_ids"].masked_fill(~inputs.pop("response"), -100)
        gradients = torch.autograd.grad(model(**inputs, labels=labels).loss, list(weights.values()))
        projection = Factored(64, 0)
        expected = sum(projection.project(n, Matrix(g[None])) for n, g in zip(weights, gradients, strict=True))
        assert row.vectors is not None
        for name, truth in (("projected", torch.as_tensor(expected)[0]), ("projector", made[-1])):
            np.testing.assert_allclose(row.vectors[name].astype(np.float32), truth / truth.norm(), atol=1e-3)
    plain = profile(tiny_llava, samples, sketch=None)
    for one, other in zip(plain, together, strict=True):  # the other sketch is what it is alone
        np.testing.assert_allclose((one.vectors or {})["sketch"], (other.vectors or {})["sketch"], atol=2e-3)


def test_text_only_samples_have_image_grounding_exactly_zero(tiny_llava: str, samples: Samples) -> None:
    rows = {row.id: row.scores or {} for row in profile(tiny_llava, samples)}
    assert [rows[name]["image_grounding"] for name in ("text", "letter")] == [0.0, 0.0]
    assert all(rows[name]["image_grounding"] != 0.0 for name in ("one", "two", "chat"))


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_size_and_padding_side_change_nothing_beyond_rounding(
    side: str, tiny_llava: str, samples: Samples
) -> None:
    alone = [profile(tiny_llava, [sample])[0] for sample in samples]
    together = profile(tiny_llava, samples, padding_side=side)
    for one, many in zip(alone, together, strict=True):
        assert one.scores is not None
        assert many.scores is not None
        for name, value in one.scores.items():
            assert many.scores[name] == pytest.approx(value, rel=1e-5, abs=2e-6), (one.id, name)


def test_the_same_batch_gives_the_same_bits(tiny_llava: str, samples: Samples) -> None:
    first, second = profile(tiny_llava, samples), profile(tiny_llava, samples)
    for one, other in zip(first, second, strict=True):
        assert one.scores == other.scores
        assert one.vectors is not None
        assert other.vectors is not None
        assert all(np.array_equal(one.vectors[name], other.vectors[name]) for name in one.vectors)


def test_a_bad_sample_gets_its_reason_and_leaves_the_others_alone(
    tiny_llava: str, samples: Samples, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"not an image")
    broken = {**samples[1], "id": "broken", "images": [{"path": str(tmp_path / "broken.png"), "bytes": None}]}
    long = {
        **samples[0],
        "id": "long",
        "conversation": [*samples[0]["conversation"][:1], {"role": "assistant", "text": "x" * 500}],
    }
    rows = profile(tiny_llava, [samples[0], broken, samples[1], long])
    assert [row.status == "ok" for row in rows] == [True, False, True, False]
    assert rows[1].scores is None
    assert "context" in rows[3].status
    expected = profile(tiny_llava, [samples[0], samples[1]])
    assert rows[0].scores == expected[0].scores
    assert rows[2].scores == expected[1].scores


def test_only_what_is_asked_for_is_computed(tiny_llava: str, samples: Samples) -> None:
    row = profile(tiny_llava, samples, scores=("nll",), vectors=())[1]
    assert set(row.scores or {}) == {"nll"}
    assert row.vectors == {}
    with pytest.raises(ValueError, match="cannot profile \\['beauty'\\]"):
        profile(tiny_llava, samples, scores=("beauty",))


def test_lora_gradients_equal_autograd(tiny_llava: str, samples: Samples) -> None:
    lora: dict[str, Any] = {"r": 2, "alpha": 4, "dropout": 0.5, "targets": (), "projector": False, "seed": 3}
    rows = profile(tiny_llava, samples, {"parameters": "lora", "layers": "last"}, lora=lora)
    model = adapters.add_lora(loading.load_model(tiny_llava), **lora).eval()
    processor = loading.load_processor(tiny_llava)
    weights = [p for name, p in model.named_parameters() if "lora_" in name and ".layers.2." in name]
    for sample, row in zip(samples, rows, strict=True):
        images = [open_image(image) for image in sample["images"]]
        inputs = collate([encode(processor, sample["conversation"], images, 400)], pad_id_of(processor))
        labels = inputs["input_ids"].masked_fill(~inputs.pop("response"), -100)
        gradients = torch.autograd.grad(model(**inputs, labels=labels).loss, weights)
        assert row.scores is not None
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        assert row.scores["grad_norm"] == pytest.approx(float(norm), rel=1e-4)


@pytest.mark.parametrize(
    "wanted",
    [
        {"scores": ("nll",), "vectors": ("embedding",)},
        {"scores": ("nll", "image_grounding"), "vectors": ("sketch",), "temperature": 8.0},
        {"scores": ("grad_norm",), "vectors": ("sketch",), "temperature": 8.0},
        {"scores": ("nll",), "vectors": ("sketch",), "gradient": "zero-order", "directions": 3},
        {"scores": ("grad_norm", "learnability"), "vectors": ("sketch",), "model": True},
    ],
)
def test_passes_are_counted_as_they_are_made(
    tiny_llava: str, samples: Samples, wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, made = dict(wanted), {"forwards": 0, "backwards": 0}

    def counted(name: str, call: Any) -> Any:
        def and_count(*arguments: Any, **options: Any) -> Any:
            made[name] += 1
            return call(*arguments, **options)

        return and_count

    monkeypatch.setattr(passes, "response_logits", counted("forwards", passes.response_logits))
    monkeypatch.setattr(Recorder, "backward", counted("backwards", Recorder.backward))
    own = ("temperature", "gradient", "directions", "model")
    sketch: dict[str, Any] = {name: wanted.pop(name) for name in own if name in wanted}
    if "model" in sketch:
        sketch["model"] = tiny_llava
    main = {"sketch": SketchSpec(**{"dimension": 64, **sketch})}
    spec = ProfilerSpec(model=tiny_llava, max_length=400, sketches=main, reference=tiny_llava, **wanted)
    Profiler(spec).profile([samples[1]])
    assert spec.passes() == (made["forwards"], made["backwards"])
