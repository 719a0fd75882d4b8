"""Every kind of gradient feature against one written out: LoRA, Adam, sign, zero-order, several at once, a proxy's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file

from liit.engine.models import adapters, anatomy, loading
from liit.engine.models.adapters import load_moments, merge
from liit.engine.models.anatomy import linears
from liit.engine.models.encoding import collate, encode, pad_id_of
from liit.engine.scoring import zero_order
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Profiler
from liit.engine.scoring.projections import Factored, Matrix, gaussian
from liit.engine.settings.sections import Gradient
from liit.engine.settings.specs import SketchSpec

LORA: dict[str, Any] = {"r": 2, "alpha": 4, "dropout": 0.5, "targets": (), "projector": False, "seed": 3}


def samples() -> list[dict[str, Any]]:
    texts = [("Two and two?", "four"), ("Say hello to them all", "hello, all of you"), ("Yes or no?", "y")]
    return [
        {
            "id": str(at),
            "conversation": [{"role": "user", "text": question}, {"role": "assistant", "text": answer}],
            "images": [],
        }
        for at, (question, answer) in enumerate(texts)
    ]


@pytest.fixture
def adapter(tiny_llama: str, tmp_path: Path) -> str:
    """A LoRA that was trained a little: B is not zero, second moments differ from entry to entry."""
    model = adapters.add_lora(loading.load_model(tiny_llama), **LORA)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)
    model.save_pretrained(tmp_path)
    weights = get_peft_model_state_dict(model)
    moments = {name: torch.rand(value.shape, generator=generator) + 0.1 for name, value in weights.items()}
    save_file(moments, tmp_path / "moments.safetensors")
    return str(tmp_path)


def spec(model: str, adapter: str | None = None, **sketches: SketchSpec) -> ProfilerSpec:
    main = {"sketch": SketchSpec(dimension=64)}
    return ProfilerSpec(
        model=model, adapter=adapter, max_length=400, sketches=main | sketches, vectors=tuple(sketches), lora=LORA
    )


def vectors(spec: ProfilerSpec, name: str = "sketch") -> np.ndarray:
    rows = Profiler(spec).profile(samples())
    return np.stack([(row.vectors or {})[name] for row in rows]).astype(np.float32)


def autograd(folder: str, adapter: str, layers: tuple[int, ...]) -> list[dict[str, torch.Tensor]]:
    """One sample at a time: the gradient of every LoRA matrix of the layers, by `layers.i.name.lora_A`."""
    model, processor = loading.load_model(folder, adapter=adapter), loading.load_processor(folder)
    named = {
        f"layers.{index}.{name}.{part}": getattr(module, part)["default"].weight
        for index in layers
        for name, module in linears(anatomy.decoder_layers(model)[index])
        for part in ("lora_A", "lora_B")
    }
    for weight in named.values():
        weight.requires_grad_(True)
    found = []
    for sample in samples():
        inputs = collate([encode(processor, sample["conversation"], [], 400)], pad_id_of(processor))
        labels = inputs["input_ids"].masked_fill(~inputs.pop("response"), -100)
        gradients = torch.autograd.grad(model(**inputs, labels=labels).loss, list(named.values()))
        found.append(dict(zip(named, gradients, strict=True)))
    return found


def sketched(gradients: list[dict[str, torch.Tensor]]) -> np.ndarray:
    projection = Factored(64, 0)
    rows = [
        torch.stack([projection.project(name, Matrix(g[None])) for name, g in one.items()]).sum(0) for one in gradients
    ]
    return torch.nn.functional.normalize(torch.cat(rows), dim=1).numpy()


@pytest.mark.parametrize("layers", [(1,), (0, 2)])
def test_lora_adam_and_sign_features_are_projections_of_what_autograd_gives(
    layers: tuple[int, ...], tiny_llama: str, adapter: str
) -> None:
    kinds = {name: SketchSpec(layers, "lora", name, dimension=64) for name in ("sgd", "adam", "sign")}
    rows = Profiler(spec(tiny_llama, adapter, **kinds)).profile(samples())
    gradients = autograd(tiny_llama, adapter, layers)
    moments = load_moments(adapter, loading.load_model(tiny_llama, adapter=adapter))
    expected = {
        "sgd": gradients,
        "adam": [{name: g / (moments[name].sqrt() + 1e-8) for name, g in one.items()} for one in gradients],
        "sign": [{name: g.sign() for name, g in one.items()} for one in gradients],
    }
    for name, truth in expected.items():
        found = np.stack([(row.vectors or {})[name] for row in rows]).astype(np.float32)
        np.testing.assert_allclose(found, sketched(truth), atol=2e-3, err_msg=name)


def test_adam_with_constant_moments_is_the_plain_gradient(tiny_llama: str, adapter: str) -> None:
    file = Path(adapter) / "moments.safetensors"
    weights = get_peft_model_state_dict(loading.load_model(tiny_llama, adapter=adapter))
    save_file({name: torch.full_like(value, 0.5) for name, value in weights.items()}, file)
    kinds = {name: SketchSpec("last", "lora", name, dimension=64) for name in ("sgd", "adam")}
    rows = Profiler(spec(tiny_llama, adapter, **kinds)).profile(samples())
    for row in rows:
        assert row.vectors is not None
        np.testing.assert_allclose(row.vectors["sgd"], row.vectors["adam"], atol=1e-3)


def test_adam_without_moments_says_what_is_missing(tiny_llama: str, adapter: str) -> None:
    (Path(adapter) / "moments.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no moments\.safetensors"):
        Profiler(spec(tiny_llama, adapter, adam=SketchSpec("last", "lora", "adam", dimension=64)))


def test_zero_order_in_half_precision_is_that_of_float32(tiny_llama: str) -> None:
    """With the distance that the dtype has by default; at 1e-3 the difference of two losses is mostly rounding."""

    def features(dtype: str, epsilon: float | None) -> np.ndarray:
        sketch = Gradient(layer="middle", gradient="zero-order", directions=16, epsilon=epsilon).spec(dtype)
        return vectors(replace(spec(tiny_llama, sketch=sketch), dtype=dtype)).astype(np.float32)

    whole, half, close = features("float32", None), features("bfloat16", None), features("bfloat16", 1e-3)
    assert ((whole * half).sum(1) > 0.98).all()
    assert (whole * half).sum(1).mean() > (whole * close).sum(1).mean() + 0.02


@pytest.mark.parametrize("times", [1, 2], ids=["kept", "where no memory holds them"])
def test_zero_order_directions_are_made_once_where_memory_holds_them(
    times: int, tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    monkeypatch.setattr(zero_order, "_free_memory", lambda device: 1 << 40 if times == 1 else 0)

    def counted(shape: torch.Size, seed: int, name: str) -> torch.Tensor:
        made.append(name)
        return gaussian(shape, seed, name)

    monkeypatch.setattr(zero_order, "gaussian", counted)
    profiler = Profiler(spec(tiny_llama, sketch=SketchSpec("last", gradient="zero-order", directions=3)))
    first = profiler.profile(samples())
    count = len(made)
    assert count == len(set(made)) > 0
    again = profiler.profile(samples())
    assert len(made) == times * count
    for mine, other in zip(first, again, strict=True):
        np.testing.assert_array_equal((mine.vectors or {})["sketch"], (other.vectors or {})["sketch"])


@pytest.mark.parametrize("parameters", ["base", "lora"])
def test_zero_order_is_the_gradient_along_shared_directions_and_leaves_the_weights_alone(
    parameters: str, tiny_llama: str, adapter: str
) -> None:
    sketch = SketchSpec("last", parameters, "zero-order", directions=16, epsilon=1e-2)
    profiler = Profiler(spec(tiny_llama, adapter, zo=sketch))
    before = {name: value.clone() for name, value in profiler.model.state_dict().items()}
    rows = profiler.profile(samples())
    for name, value in profiler.model.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} has moved"
    if parameters == "lora":
        gradients = autograd(tiny_llama, adapter, (2,))
    else:
        gradients = base_gradients(profiler)
    for row, one in zip(rows, gradients, strict=True):
        along = [
            sum(float((gaussian(g.shape, 0, f"{name}/direction {k}") * g).sum()) for name, g in one.items())
            for k in range(16)
        ]
        assert row.vectors is not None
        np.testing.assert_allclose(row.vectors["zo"], np.array(along) / np.linalg.norm(along), atol=2e-2)


def base_gradients(profiler: Profiler, temperature: float = 1.0) -> list[dict[str, torch.Tensor]]:
    named: dict[str, Any] = {
        f"layers.2.{name}": module.weight for name, module in linears(anatomy.decoder_layers(profiler.model)[2])
    }
    found = []
    for weight in named.values():
        weight.requires_grad_(True)
    for sample in samples():
        inputs = collate([encode(profiler.processor, sample["conversation"], [], 400)], pad_id_of(profiler.processor))
        response = inputs.pop("response")[0, 1:]
        logits = profiler.model(**inputs).logits[0, :-1][response] / temperature
        loss = torch.nn.functional.cross_entropy(logits, inputs["input_ids"][0, 1:][response])
        gradients = torch.autograd.grad(loss, list(named.values()))
        found.append(dict(zip(named, gradients, strict=True)))
    return found


def test_several_features_in_one_pass_equal_each_alone(tiny_llama: str, adapter: str) -> None:
    kinds = {
        "sketch": SketchSpec("middle", dimension=64),
        "all": SketchSpec("all", dimension=64),
        "sparse": SketchSpec("first", projection="sparse", dimension=64),
        "dense": SketchSpec("last", "lora", projection="dense", dimension=64),
        "zo": SketchSpec("last", gradient="zero-order", directions=4),
    }
    together = Profiler(spec(tiny_llama, adapter, **kinds)).profile(samples())
    for name, kind in kinds.items():
        alone = vectors(spec(tiny_llama, adapter, **{name: kind}), name)
        both = np.stack([(row.vectors or {})[name] for row in together]).astype(np.float32)
        np.testing.assert_allclose(both, alone, atol=2e-3, err_msg=name)


def test_a_temperature_is_the_gradient_of_the_softened_loss(tiny_llama: str) -> None:
    kinds = {"sketch": SketchSpec("last", dimension=64), "soft": SketchSpec("last", temperature=4.0, dimension=64)}
    profiler = Profiler(replace(spec(tiny_llama, None, **kinds), scores=("nll", "grad_norm")))
    rows = profiler.profile(samples())
    plain = Profiler(replace(spec(tiny_llama, None, **kinds), scores=("nll", "grad_norm"), vectors=("sketch",)))
    for row, other, one in zip(rows, plain.profile(samples()), base_gradients(profiler, temperature=4.0), strict=True):
        assert row.vectors is not None
        expected = torch.stack([Factored(64, 0).project(name, Matrix(g[None])) for name, g in one.items()]).sum(0)[0]
        np.testing.assert_allclose(row.vectors["soft"], expected / expected.norm(), atol=2e-3)
        assert row.scores == other.scores, "scores are of the model as it is"
        np.testing.assert_array_equal(row.vectors["sketch"], (other.vectors or {})["sketch"])


def test_a_proxy_gives_its_own_gradients_and_nothing_else(tiny_llama: str, tiny_llava: str) -> None:
    proxied = spec(tiny_llava, sketch=SketchSpec(dimension=64, model=tiny_llama))
    rows = Profiler(proxied).profile(samples())
    own = Profiler(spec(tiny_llava, sketch=SketchSpec(dimension=64))).profile(samples())
    np.testing.assert_array_equal(
        np.stack([(row.vectors or {})["sketch"] for row in rows]),
        vectors(spec(tiny_llama, sketch=SketchSpec(dimension=64))).astype(np.float16),
    )
    assert [row.scores for row in rows] == [row.scores for row in own]


def test_merged_adapters_compute_the_same(tiny_llama: str, adapter: str) -> None:
    kinds = {"sketch": SketchSpec("middle", dimension=64), "lora": SketchSpec("last", "lora", dimension=64)}
    merged = spec(tiny_llama, adapter, **kinds)
    for one, other in zip(
        Profiler(merged).profile(samples()), Profiler(replace(merged, merge=False)).profile(samples()), strict=True
    ):
        for name, value in (one.scores or {}).items():
            assert value == pytest.approx((other.scores or {})[name], rel=1e-4, abs=1e-6), name
        for name, vector in (one.vectors or {}).items():
            np.testing.assert_allclose(vector, (other.vectors or {})[name], atol=2e-3)


def test_merging_keeps_the_layers_it_is_told_to(tiny_llama: str, adapter: str) -> None:
    model = loading.load_model(tiny_llama, adapter=adapter)
    layers = anatomy.decoder_layers(model)
    merge(model, [layers[1]])
    assert ["lora_A" in str(layer) for layer in layers] == [False, True, False]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gradient": "adam"}, "parameters: lora"),
        ({"gradient": "newton"}, "choose one of: sgd, adam, sign, zero-order"),
        ({"projection": "gaussian"}, "choose one of: factored, dense, sparse"),
        ({"projection": "sparse", "dimension": 63}, "multiple"),
        ({"parameters": "head"}, "base, lora or projector"),
    ],
)
def test_what_does_not_exist_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SketchSpec(**values)
