"""Every family of models is profiled exactly: scores and gradients equal a naive reference of one sample at a time."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import GPT2Config, GPT2LMHeadModel

from liit.engine.data.readers.images import open_image
from liit.engine.models import adapters, anatomy, loading
from liit.engine.models.anatomy import linears
from liit.engine.models.encoding import blank_images, collate, encode, encode_prompt, pad_id_of
from liit.engine.models.processors import SampleError, tokenizer_of
from liit.engine.scoring.gradients import base_gradients
from liit.engine.scoring.passes import Batch, look, response_logits
from liit.engine.scoring.profile_spec import PROJECTOR
from liit.engine.scoring.scores import token_nll
from tests.engine.models import families
from tests.engine.models.family_reference import (
    LENGTH,
    Family,
    Sample,
    encoded,
    naive,
    naive_inputs,
    samples_for,
    whole,
)


@pytest.fixture(scope="module", params=[*families.LANGUAGE, *families.VISION])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp("families")
    return Family(request.param, families.build(request.param, folder), samples_for(request.param, folder))


def test_tokens_and_responses_are_those_of_the_models_own_processor(family: Family) -> None:
    for sample in family.samples:
        one, expected = encoded(family, sample), naive(family, sample)
        assert one.input_ids.tolist() == expected["ids"], sample["id"]
        assert one.response.nonzero()[:, 0].tolist() == expected["response"], sample["id"]


@pytest.mark.parametrize("side", ["right", "left"])
def test_scores_of_a_mixed_batch_equal_the_naive_reference(family: Family, side: str) -> None:
    for sample, row in zip(family.samples, family.profile(family.samples, side), strict=True):
        assert row.scores is not None, row.status
        expected = naive(family, sample)
        blind = naive(family, sample, with_images=False)["nll"] - expected["nll"]
        for name in ("nll", "el2n", "entropy", "grad_norm"):
            assert row.scores[name] == pytest.approx(expected[name], rel=1e-4), (sample["id"], name)
        assert row.scores["image_grounding"] == pytest.approx(blind if sample["images"] else 0.0, rel=1e-4, abs=1e-5)
        if not sample["images"]:
            assert row.scores["image_grounding"] == 0.0
        else:
            assert abs(row.scores["image_grounding"]) > 1e-4, "the image must matter, or nothing was compared"


@pytest.mark.parametrize("side", ["right", "left"])
def test_gradients_of_each_sample_of_a_mixed_batch_equal_autograd(family: Family, side: str) -> None:
    batch = Batch([encoded(family, sample) for sample in family.samples], family.processor, side, family.model)
    found = list(base_gradients(look(family.model, batch, gradient_layers={1.0: [1]}).linears[1.0]))
    for row, sample in enumerate(family.samples):
        true = dict(zip(_names(family), naive(family, sample)["gradients"], strict=True))
        for name, gradient in found:
            expected = true[name.removeprefix("layers.1.")]
            mine = gradient.rows(0, gradient.shape[1])[row]
            assert float((mine - expected).norm()) <= 1e-4 * float(expected.norm()), (sample["id"], name)


NO_ROWS = {"gemma3": "has no linears", "llava_onevision": "cuts and reorders"}


def test_projector_gradients_equal_autograd_or_are_refused_where_they_cannot_be_had(family: Family) -> None:
    batch = Batch([encoded(family, one) for one in family.samples], family.processor, "right", family.model)
    if family.name in NO_ROWS or family.name in families.LANGUAGE:
        with pytest.raises(ValueError, match=NO_ROWS.get(family.name, "has no multimodal projector")):
            (anatomy.projector(family.model), anatomy.projector_linears(family.model))
        return
    projector = anatomy.projector(family.model)
    found = list(base_gradients(look(family.model, batch, gradient_layers={1.0: [PROJECTOR]}).linears[1.0]))
    weights = {
        f"projector.{name}": projector.get_submodule(name).get_parameter("weight") for name, _ in linears(projector)
    }
    for row, sample in enumerate(family.samples):
        one = Batch([encoded(family, sample)], family.processor, "right", family.model)
        true = dict.fromkeys(weights, torch.zeros(()))
        if sample["images"]:
            for weight in weights.values():
                weight.requires_grad_(True)
            loss = one.means(token_nll(response_logits(family.model, one), one.targets_M)).sum()
            true = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
            family.model.requires_grad_(False)
        for name, gradient in found:
            mine = gradient.rows(0, gradient.shape[1])[row]
            assert float((mine - true[name]).norm()) <= 1e-4 * float(true[name].norm()), (sample["id"], name)


def _names(family: Family) -> list[str]:
    return [name for name, _ in linears(anatomy.decoder_layers(family.model)[1])]


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_other_samples_of_a_batch_change_nothing(family: Family, side: str) -> None:
    together = family.profile(family.samples, side)
    for sample, many in zip(family.samples, together, strict=True):
        alone = family.profile([sample])[0]
        assert alone.scores is not None
        assert many.scores is not None
        for name, value in alone.scores.items():
            scale = alone.scores["nll"] if name == "image_grounding" else value  # a difference of two of them
            assert many.scores[name] == pytest.approx(value, abs=1e-5 * scale), (sample["id"], name)
        for name, vector in (alone.vectors or {}).items():
            np.testing.assert_allclose((many.vectors or {})[name], vector, atol=2e-3)


def test_no_dropout_is_active_though_every_config_asks_for_it(family: Family) -> None:
    assert not any(module.training for module in family.model.modules())
    first, second = family.profile(family.samples[:2]), family.profile(family.samples[:2])
    assert [row.scores for row in first] == [row.scores for row in second]


def test_a_sample_above_the_length_is_refused_and_the_limit_itself_is_not(family: Family) -> None:
    sample = family.samples[-1]
    images = [open_image(image) for image in sample["images"]]
    length = len(encoded(family, sample).input_ids)
    assert len(encode(family.processor, sample["conversation"], images, length).input_ids) == length
    with pytest.raises(SampleError, match=f"{length} tokens are more than the context of {length - 1}"):
        encode(family.processor, sample["conversation"], images, length - 1)


def test_greedy_answers_of_a_mixed_batch_are_those_of_each_sample_alone(family: Family) -> None:
    def answers(samples: list[Sample]) -> list[list[int]]:
        prompts = [
            encode_prompt(family.processor, one["conversation"], [open_image(i) for i in one["images"]], LENGTH)
            for one in samples
        ]
        inputs = collate(prompts, pad_id_of(family.processor), side="left")
        del inputs["response"]
        out = family.model.generate(**inputs, do_sample=False, min_new_tokens=6, max_new_tokens=6, pad_token_id=0)
        return [row[inputs["input_ids"].shape[1] :].tolist() for row in out]

    together = answers(family.samples)
    assert together == [answers([sample])[0] for sample in family.samples]
    for sample, answer in zip(family.samples, together, strict=True):
        images = [open_image(image) for image in sample["images"]]
        inputs = naive_inputs(family, sample["conversation"][:-1], images)
        logits_V = whole(family, images)(**inputs).logits[0, -1]
        logits_V[families.EOS] = -torch.inf  # min_new_tokens
        assert int(logits_V.argmax()) == answer[0], sample["id"]


def test_lora_is_of_the_language_model_alone_and_changes_nothing_at_first(family: Family) -> None:
    batch = Batch([encoded(family, sample) for sample in family.samples], family.processor, "right", family.model)
    before = look(family.model, batch).losses_B
    model = loading.load_model(family.folder)
    sees = family.name in families.VISION
    adapted = adapters.add_lora(model, r=2, alpha=4, dropout=0.5, targets=(), projector=sees, seed=0).eval()
    layers = anatomy.decoder_layers(adapted)
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    lora = {name for name in trained if "lora_" in name}
    assert len(layers) == 3
    assert len(lora) == 2 * 3 * len(_names(family)), "an A and a B for every linear of every layer"
    assert all(f".{anatomy.decoder_name(model)}.layers." in name for name in lora)
    assert all(f".{anatomy.projector_name(model)}." in name for name in trained - lora)
    assert bool(trained - lora) == sees
    torch.testing.assert_close(look(adapted, batch).losses_B, before)


def test_a_blank_image_is_as_long_as_the_image_and_says_less(family: Family) -> None:
    for sample in family.samples:
        seen = encoded(family, sample)
        blank = blank_images(seen)
        losses = [
            float(look(family.model, Batch([one], family.processor, "right", family.model)).losses_B)
            for one in (seen, blank)
        ]
        assert (losses[0] == losses[1]) == (not sample["images"]), sample["id"]


def test_an_image_more_or_less_than_the_text_names_is_refused(family: Family) -> None:
    image, turns = Image.new("RGB", (16, 16)), [{"role": "user", "text": "hi"}, {"role": "assistant", "text": "ho"}]
    with pytest.raises(SampleError, match="image"):
        encode(family.processor, turns, [image, image], LENGTH)
    if family.name in families.VISION and family.name != "instructblip":
        shown = [{"role": "user", "text": "<image> hi"}, turns[1]]
        with pytest.raises(SampleError, match="1 image tokens in the text for 0 images"):
            encode(family.processor, shown, [], LENGTH)


def test_a_model_without_linears_or_without_the_attention_is_refused(tmp_path: Path) -> None:
    config = GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=9)
    with pytest.raises(loading.ModelError, match=r"GPT2LMHeadModel: no list of 2 decoder layers made of nn\.Linear"):
        anatomy.decoder_layers(GPT2LMHeadModel(config))
    with pytest.raises(loading.ModelError, match="attention linear: cannot be loaded"):
        loading.load_model(families.build("llama", tmp_path), attention="linear")


def test_a_language_model_with_an_encoder_is_refused(tmp_path: Path) -> None:
    folder = families.build("instructblip_t5", tmp_path)
    for load in (loading.load_model, loading.load_processor):
        with pytest.raises(loading.ModelError, match="encoder-decoder"):
            load(folder)


@pytest.mark.parametrize("name", ["instructblip", "llava", "llama"])
def test_a_model_without_chat_template_gets_a_plain_one(name: str, tmp_path: Path) -> None:
    """As base models are: every response is found, and ends with the token that ends generation."""
    folder = families.build(name, tmp_path)
    for file in ("chat_template.jinja", "chat_template.json"):
        (Path(folder) / file).unlink(missing_ok=True)
    settings = Path(folder) / "tokenizer_config.json"
    settings.write_text(json.dumps({k: v for k, v in json.loads(settings.read_text()).items() if k != "chat_template"}))
    processor = loading.load_processor(folder)
    images = [] if name == "llama" else [Image.new("RGB", (30, 20))]
    turns = ["<image>what?" if images else "what?", "a cup", "sure?", "yes"]
    conversation = [{"role": ("user", "assistant")[at % 2], "text": text} for at, text in enumerate(turns)]
    one, tokenizer = encode(processor, conversation, images, 400), tokenizer_of(processor)
    said = tokenizer.decode(one.input_ids[one.response]).replace(" ", "")
    assert said == f"acup{tokenizer.eos_token}yes{tokenizer.eos_token}"
    prompt = encode_prompt(processor, conversation[:2], images, 400)
    assert prompt.input_ids.tolist() == one.input_ids[: len(prompt.input_ids)].tolist()
    assert not one.response[: len(prompt.input_ids)].any()
    assert one.response[len(prompt.input_ids)]
