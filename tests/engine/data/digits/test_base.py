"""The shipped models load as any user's would, are small, and can do what the stream starts from, and no more."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from liit.engine.data.digits.accuracy import measure
from liit.engine.data.digits.base import SHAPES, make_model
from liit.engine.data.digits.canvas import render, scatter
from liit.engine.data.digits.evaluation import SETS
from liit.engine.data.digits.pretraining import pixels
from liit.engine.models.loading import SHIPPED, load_model, load_processor

KNOWN = {"vqa": 95, "grounding": 85, "language": 95}  # percent on unseen digits, as measured; grounding is mean IoU
NEW = ("knowledge", "multilingual", "multi-image")


def by_skill(values: dict[str, float]) -> dict[str, float]:
    skills = {one.skill: [values[other.name] for other in SETS if other.skill == one.skill] for one in SETS}
    return {skill: float(np.mean(found)) for skill, found in skills.items()}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_model_loads_with_its_processor_and_is_small(name: str) -> None:
    folder = SHIPPED[name]
    assert sum(path.stat().st_size for path in folder.glob("*.safetensors")) <= 10e6
    if name == "digits-language":
        model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
        assert len(tokenizer) == model.config.vocab_size
        assert tokenizer.chat_template
        return
    model = AutoModelForImageTextToText.from_pretrained(folder, use_safetensors=True)
    processor = AutoProcessor.from_pretrained(folder)
    assert isinstance(model, LlavaForConditionalGeneration)
    assert isinstance(processor, LlavaProcessor)
    assert len(processor.tokenizer) == model.config.text_config.vocab_size
    assert model.config.image_token_id == processor.tokenizer.convert_tokens_to_ids("<image>")


def test_the_proxy_is_half_the_base_and_reads_the_same_tokens() -> None:
    sizes = {name: sum(weight.numel() for weight in load_model(name).parameters()) for name in SHIPPED}
    assert sizes["digits-proxy"] < 0.55 * sizes["digits-base"]
    read = {name: (SHIPPED[name] / "tokenizer.json").read_bytes() for name in SHIPPED}
    assert read["digits-base"] == read["digits-proxy"]


def test_the_base_knows_its_skills_on_unseen_digits_and_none_of_the_later_ones() -> None:
    found = by_skill(measure(load_model("digits-base"), load_processor("digits-base"), 100, seed=9))
    assert all(found[skill] >= least - 5 for skill, least in KNOWN.items()), found  # 100 answers a set
    assert all(found[skill] <= 20 for skill in NEW), found


@pytest.mark.parametrize("name", SHAPES)
def test_recorded_accuracies_name_every_set(name: str) -> None:
    recorded = json.loads((Path(SHIPPED[f"digits-{name}"]) / "accuracies.json").read_text())
    assert set(recorded) == {one.name for one in SETS}


def test_the_recorded_accuracies_of_the_base_do_not_fall() -> None:
    recorded = by_skill(json.loads((SHIPPED["digits-base"] / "accuracies.json").read_text()))
    assert all(recorded[skill] >= least for skill, least in KNOWN.items()), recorded


def test_pretraining_sees_the_pixels_that_the_processor_makes() -> None:
    canvas = render(scatter(np.random.default_rng(0), "training", 3, 3))
    processed = load_processor("digits-base").image_processor(images=[canvas], return_tensors="pt")["pixel_values"]
    assert torch.allclose(pixels(canvas[None]), processed, atol=1e-6)


def test_a_seed_makes_the_same_first_weights_and_another_seed_others() -> None:
    processor = load_processor("digits-proxy")
    first, again, other = (make_model(SHAPES["proxy"], processor, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])
