"""What vLLM and SGLang would make of an adapter, thing by thing."""

from typing import Any

import pytest

from liit.engine.handing.servers import warnings

SETTINGS = {"r": 16, "target_modules": ["q_proj"], "modules_to_save": None, "bias": "none"}
IN_LAYER = "base_model.model.model.language_model.layers.0.self_attn.q_proj"


def names(*modules: str) -> list[str]:
    return [f"{module}.lora_{part}.weight" for module in modules for part in "AB"]


def test_an_adapter_of_linears_of_the_language_model_is_served_as_it_is() -> None:
    assert warnings(names(IN_LAYER, IN_LAYER.replace("q_proj", "down_proj")), SETTINGS) == []


@pytest.mark.parametrize(
    ("tensors", "settings", "said"),
    [
        (names(IN_LAYER), {"r": 128}, "vLLM needs --max-lora-rank 128, SGLang --max-lora-rank 128"),
        (names(IN_LAYER), {"r": 24}, "vLLM needs --max-lora-rank 32, SGLang --max-lora-rank 24"),
        (names(IN_LAYER), {"rank_pattern": {"q_proj": 40}}, "vLLM needs --max-lora-rank 64"),
        (names(IN_LAYER), {"r": 1024}, "rank 1024 is above 512"),
        (
            names(IN_LAYER),
            {"modules_to_save": ["connector"]},
            "vLLM refuses modules_to_save (connector), SGLang leaves it",
        ),
        (names(IN_LAYER), {"target_modules": r".*\.q_proj"}, "SGLang needs --lora-target-modules"),
        (names(IN_LAYER), {"use_dora": True}, "use_dora"),
        (names(IN_LAYER), {"bias": "all"}, "a trained bias"),
        (names("base_model.model.model.multi_modal_projector.linear_1"), {}, "not in a layer of the language model"),
        (names("base_model.model.model.vision_tower.layers.0.q_proj"), {}, "not in a layer of the language model"),
        (names(IN_LAYER.replace("q_proj", "wqkv")), {}, "wqkv: whether a server has a linear of this name"),
        (names(IN_LAYER)[:1], {}, "has only one of lora_A and lora_B"),
        ([f"{IN_LAYER}.lora_A.default.weight"], {}, "vLLM refuses tensors that are no LoRA of a linear"),
        ([f"model.{name}" for name in names(IN_LAYER)], {}, "vLLM refuses tensors that are no LoRA of a linear"),
    ],
)
def test_what_is_refused_or_left_out_is_said(tensors: list[str], settings: dict[str, Any], said: str) -> None:
    (line,) = warnings(tensors, SETTINGS | settings)
    assert said in line
