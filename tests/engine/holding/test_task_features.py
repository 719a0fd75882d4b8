"""What a task looks like: the model's own hidden states at the right tokens, or an encoder's of the user's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import BertConfig, BertModel, CLIPImageProcessorPil, CLIPVisionConfig, CLIPVisionModel

from liit.engine.holding.task_features import MODALITIES, FeatureWorker, feature_spec, mean_vectors
from liit.engine.models import loading
from liit.engine.models.encoding import encode
from liit.engine.run.profiles import unpacked
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.settings.settling import settle
from liit.engine.settings.training import Tasks


def sample(at: int, question: str, answer: str, image: Path | None) -> dict[str, Any]:
    turns = [{"role": "user", "text": question}, {"role": "assistant", "text": answer}]
    return {"id": f"{at}", "key": at, "conversation": turns, "images": [{"path": str(image)}] if image else []}


def spec_of(model: str, *theirs: str) -> ProfilerSpec:
    """What the model itself looks at, where encoders of the user's stand in for `theirs`."""
    vectors = tuple(vector for name, vector in MODALITIES.items() if name not in theirs)
    return ProfilerSpec(model, max_length=200, scores=("nll",), vectors=vectors, sketches={})


@pytest.fixture
def rows(tmp_path: Path) -> list[dict[str, Any]]:
    Image.new("RGB", (20, 16), (200, 30, 60)).save(tmp_path / "red.png")
    red = tmp_path / "red.png"
    return [sample(0, "<image>what?", "red", red), sample(1, "two and two?", "it is four", None)]


def test_vectors_are_mean_hidden_states_of_image_instruction_and_answer(
    rows: list[dict[str, Any]], tiny_llava: str, tmp_path: Path
) -> None:
    worker = FeatureWorker(spec_of(tiny_llava), Tasks())
    found = worker(worker.prepare(rows))
    model: Any = loading.load_model(tiny_llava)
    processor = loading.load_processor(tiny_llava)
    for at, row in enumerate(rows):
        images = [Image.open(one["path"]) for one in row["images"]]
        one = encode(processor, row["conversation"], images, 200)
        with torch.no_grad():
            states = model(input_ids=one.input_ids[None], **one.extras, output_hidden_states=True).hidden_states
        seen = one.input_ids == model.config.image_token_id
        wanted = {"image": (states[1], seen), "instruction": (states[2], ~seen & ~one.response)}
        wanted |= {"answer": (states[2], one.response)}
        for name, (state, mask) in wanted.items():
            expected = state[0][mask].mean(0) if mask.any() else torch.zeros(32)
            expected = torch.nn.functional.normalize(expected, dim=0, eps=1e-30)
            np.testing.assert_allclose(unpacked(found[name])[at], expected, atol=2e-3)
    means = mean_vectors(found)
    np.testing.assert_allclose(np.linalg.norm(means["image"]), 1, atol=1e-2)  # of the one sample that has an image


def test_any_encoders_from_the_hub_can_stand_in(rows: list[dict[str, Any]], tiny_llava: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    BertModel(BertConfig(vocab_size=320, **sizes)).save_pretrained(tmp_path / "text")
    loading.load_processor(tiny_llava).tokenizer.save_pretrained(tmp_path / "text")
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=16, patch_size=8)).save_pretrained(tmp_path / "image")
    CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}).save_pretrained(
        tmp_path / "image"
    )
    worker = FeatureWorker(
        spec_of(tiny_llava, "image", "answer", "instruction"),
        Tasks(image_encoder=str(tmp_path / "image"), text_encoder=str(tmp_path / "text")),
    )
    found = worker(worker.prepare(rows))
    images, words = unpacked(found["image"]), unpacked(found["instruction"])
    assert images.shape == words.shape == (2, 16)
    assert np.linalg.norm(images[0].astype(float)) == pytest.approx(1, abs=1e-2)
    assert not images[1].any()
    assert not np.allclose(words[0], words[1])
    later = [{"role": "user", "text": "<image>and now?"}, {"role": "assistant", "text": "blue"}]
    Image.new("RGB", (20, 16), (20, 30, 230)).save(tmp_path / "blue.png")
    longer = rows[0] | {
        "conversation": [*rows[0]["conversation"], *later],
        "images": [*rows[0]["images"], {"path": str(tmp_path / "blue.png")}],
    }
    again = worker(worker.prepare([longer]))
    for name, first in (("image", images), ("instruction", words)):
        np.testing.assert_array_equal(unpacked(again[name])[0], first[0], "only what is known before the first answer")
    assert not np.allclose(unpacked(again["answer"])[0], unpacked(found["answer"])[0])
    silent = sample(2, "<image>", "red", tmp_path / "red.png")  # asks nothing in words
    gone = sample(3, "<image>what?", "red", tmp_path / "gone.png")
    table = worker(worker.prepare([silent, gone]))
    assert table["status"][0].as_py() == "ok"
    assert "gone.png" in table["status"][1].as_py()
    assert unpacked(table["image"])[0].any()
    assert not unpacked(table["instruction"])[0].any()
    assert not any(unpacked(table[name])[1].any() for name in MODALITIES)


def test_what_scores_the_pool_has_no_part_in_what_tasks_look_like() -> None:
    changed = settle(["digits.yaml", "scoring.gradient.dimension=4096", "scoring.scores=[el2n]"], None)
    assert feature_spec(changed) == feature_spec(settle(["digits.yaml"], None))
    theirs = settle(["digits.yaml", "tasks.text_encoder=/some/bert"], None)
    assert feature_spec(theirs).vectors == ("image",)
