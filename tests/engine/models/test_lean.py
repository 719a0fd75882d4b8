"""A lean LoRA linear is PEFT's: the same product, the same gradients, and dropout that is dropout."""

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import Linear as LoraLinear
from torch import nn

from liit.engine.models import adapters


class One(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(24, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def made(lean: bool, dropout: float = 0.0) -> PeftModel:
    """A linear with two LoRA adapters, all their weights random."""
    torch.manual_seed(0)
    rule = LoraConfig(r=4, lora_alpha=6, lora_dropout=dropout, target_modules=["linear"])
    model = get_peft_model(One().double(), rule, autocast_adapter_dtype=False)
    model.add_adapter("other", rule, autocast_adapter_dtype=False)
    for weight in model.requires_grad_(True).double().parameters():
        nn.init.normal_(weight)
    if lean:
        adapters.lean(model)
    return model.train()


def inputs(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


@pytest.mark.parametrize("speaking", ["default", "other", None])
@pytest.mark.parametrize("shape", [(2, 5), (7,), (1, 0)])
def test_it_is_pefts_for_each_adapter_and_for_none(shape: tuple[int, ...], speaking: str | None) -> None:
    found = []
    for lean in (False, True):
        model, x = made(lean), inputs(*shape)
        with adapters.speaking_as(model, speaking):
            rows = model(x)
        (rows**2).sum().backward()
        found.append((rows, x.grad, {name: weight.grad for name, weight in model.named_parameters()}))
    torch.testing.assert_close(found[1], found[0])


def test_who_waits_for_a_weight_to_be_used_is_called() -> None:
    model, seen = made(lean=True), []
    linear = model.base_model.model.linear
    for part in (linear.lora_A["default"], linear.lora_B["default"]):
        part.register_forward_hook(lambda module, inputs, output: seen.append(module))
    torch.testing.assert_close(model(inputs(3)), made(lean=False)(inputs(3)))
    assert len(seen) == 2


def test_what_is_not_plain_is_left_to_peft() -> None:
    torch.manual_seed(0)
    rule = LoraConfig(r=4, lora_alpha=6, lora_dropout=0.0, target_modules=["linear"], use_dora=True)
    model = get_peft_model(One(), rule)
    expected = model(inputs(3).float())
    adapters.lean(model)
    assert torch.equal(model(inputs(3).float()), expected)


@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_dropout_zeroes_its_share_alike_for_a_seed_and_changes_no_mean(rate: float) -> None:
    model, x = made(lean=True, dropout=rate), inputs(1)
    assert isinstance(model.base_model.model.linear, LoraLinear)
    with torch.no_grad():
        expected = model.eval()(x)
        model.train()
        torch.manual_seed(3)
        rows = model(x.expand(20_000, -1))
        torch.manual_seed(3)
        assert torch.equal(model(x.expand(20_000, -1)), rows)
    error = rows.std(0) / 20_000**0.5
    assert ((rows.mean(0) - expected[0]).abs() < 5 * error).all()
    base = model.base_model.model.linear.base_layer(x)
    low = torch.linalg.lstsq(model.base_model.model.linear.lora_B["default"].weight, (rows - base).T).solution.T
    single = low[:, :1]  # of 24 numbers kept at random, each a coin: the spread of their sum says how often
    weight = model.base_model.model.linear.lora_A["default"].weight[0] * x[0] * 1.5
    expected_variance = (weight**2).sum() * rate / (1 - rate)
    torch.testing.assert_close(single.var(), expected_variance, rtol=0.1, atol=0.0)
