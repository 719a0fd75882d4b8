"""Importance of weights: per-sample gradients against a loop over samples, and how old tasks' importances are put together."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file
from torch import nn
from transformers import FalconConfig, FalconForCausalLM

from liit.engine.holding.anchoring import adapter_weights, combined
from liit.engine.holding.importance import ImportanceWorker, importance_sums
from liit.engine.models import adapters, loading
from liit.engine.models.encoding import encode
from liit.engine.scoring.passes import Batch
from liit.engine.scoring.profile_spec import ProfilerSpec

LORA: dict[str, Any] = {"r": 3, "alpha": 6, "dropout": 0.5, "targets": (), "projector": False, "seed": 3}
PLAIN: dict[str, Any] = {"scores": ("nll",), "vectors": (), "sketches": {}, "lora": LORA, "merge": False}
TEXTS = (
    ("Two and two?", "four"),
    ("Say hello to them all", "hello, all of you"),
    ("Yes or no?", "y"),
    ("?", "why not"),
)


def conversation(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "text": question}, {"role": "assistant", "text": answer}]


@pytest.fixture
def model(tiny_llama: str) -> nn.Module:
    """With an adapter that has been trained a little: B is not zero."""
    model = adapters.add_lora(loading.load_model(tiny_llama), **LORA).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)
    return model


@pytest.mark.parametrize("kind", ["ewc", "mas"])
def test_sums_are_of_each_samples_own_gradient(kind: str, model: nn.Module, tiny_llama: str) -> None:
    processor = loading.load_processor(tiny_llama)
    encoded = [encode(processor, conversation(*text), [], 200) for text in TEXTS]
    weights = {name: weight for name, (_, weight) in adapter_weights(model).items()}
    expected = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    of_batch = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for one in encoded:
        logits = model(input_ids=one.input_ids[None]).logits[0]
        places = [at for at in range(len(one.input_ids)) if one.response[at]]
        if kind == "ewc":
            values = [-logits[at - 1].log_softmax(-1)[one.input_ids[at]] for at in places]
        else:
            values = [(logits[at - 1] ** 2).sum() for at in places]
        gradients = torch.autograd.grad(torch.stack(values).mean(), list(weights.values()))
        for name, gradient in zip(weights, gradients, strict=True):
            expected[name] += gradient.square() if kind == "ewc" else gradient.abs()
            of_batch[name] += gradient / len(encoded)
    found = importance_sums(model.requires_grad_(False), Batch(encoded, processor, "right", model), kind)
    assert found.keys() == weights.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-7)
    if kind == "ewc":  # the square of a batch's mean gradient is another thing, and a smaller one
        batch_fisher = sum(float(one.square().sum()) for one in of_batch.values())
        assert batch_fisher < 0.5 * sum(float(one.sum()) for one in expected.values()) / len(encoded)


def test_importance_fits_an_adapter_whose_blocks_are_not_called_layers(tiny_llama: str) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    falcon = FalconForCausalLM(FalconConfig(vocab_size=320, pad_token_id=0, **sizes))
    model, processor = adapters.add_lora(falcon, **LORA).eval(), loading.load_processor(tiny_llama)
    weights = adapter_weights(model)
    encoded = [encode(processor, conversation(*text), [], 200) for text in TEXTS]
    found = importance_sums(model.requires_grad_(False), Batch(encoded, processor, "right", model), "ewc")
    assert found.keys() == weights.keys()
    assert {"layers.0.mlp.dense_h_to_4h.lora_A", "layers.1.self_attention.dense.lora_B"} <= found.keys()
    assert all(found[name].shape == weight.shape for name, (_, weight) in weights.items())


def test_a_batch_split_in_two_adds_up_and_a_bad_sample_is_named(tiny_llama: str) -> None:
    worker = ImportanceWorker(ProfilerSpec(tiny_llama, max_length=80, **PLAIN), "ewc")
    rows = [
        {"id": f"{at}", "key": at, "conversation": conversation(*text), "images": []} for at, text in enumerate(TEXTS)
    ]
    whole, *parts = (worker(worker.prepare(some)) for some in (rows, rows[:1], rows[1:]))
    assert whole["status"].to_pylist() == ["ok"] * 4
    assert [one is None for one in whole["sums"].to_pylist()] == [False, True, True, True]
    all_of, first, rest = (load(table["sums"][0].as_py()) for table in (whole, *parts))
    for name, values in all_of.items():
        torch.testing.assert_close(first[name] + rest[name], values, rtol=1e-4, atol=1e-8)
    long = worker(worker.prepare([rows[0] | {"conversation": conversation("?", "long " * 20)}]))
    assert "80" in long["status"][0].as_py()


def test_a_model_in_bfloat16_has_importance_too(tiny_llama: str) -> None:
    """Its adapter is in float32, as PEFT keeps it."""
    rows = [{"id": "0", "key": 0, "conversation": conversation(*TEXTS[0]), "images": []}]
    exact, rough = (
        ImportanceWorker(ProfilerSpec(tiny_llama, dtype=dtype, max_length=80, **PLAIN), "ewc")
        for dtype in ("float32", "bfloat16")
    )
    sums = [load(worker(worker.prepare(rows))["sums"][0].as_py()) for worker in (exact, rough)]
    totals = [sum(float(values.sum()) for values in one.values()) for one in sums]
    assert totals[1] == pytest.approx(totals[0], rel=0.1)


def test_old_tasks_are_weighted_from_their_own_raw_values_and_never_compound(tmp_path: Path) -> None:
    """Over three tasks: what the second task's similarity did to the first one's importance leaves no trace at the third."""
    raw = [torch.rand(4, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    files = [str(tmp_path / f"{at}.safetensors") for at in range(3)]
    for file, values in zip(files, raw, strict=True):
        save_file({"w": values}, file)
    before = [Path(file).read_bytes() for file in files]
    combined([(files[0], 0.1)])
    combined([(files[0], 0.2), (files[1], 0.3)])
    weights = (0.9, 0.5, 0.7)
    found = combined(list(zip(files, weights, strict=True)))["w"]
    scaled = torch.stack([values / values.mean() for values in raw])
    each = scaled * torch.tensor(weights)[:, None, None]
    torch.testing.assert_close(found, each.max(0).values / scaled.max(0).values.mean())
    unweighted = combined([(file, 1.0) for file in files])["w"]
    assert unweighted.mean() == pytest.approx(1), "as strong as for one task"
    assert [Path(file).read_bytes() for file in files] == before


def test_importances_of_different_adapters_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        save_file({name: torch.ones(2)}, tmp_path / name)
    with pytest.raises(ValueError, match="another adapter"):
        combined([(str(tmp_path / "a"), 1.0), (str(tmp_path / "b"), 1.0)])
