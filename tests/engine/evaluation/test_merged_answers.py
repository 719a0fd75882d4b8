"""A model answers with its adapter in its weights: always the same bits, those that are handed on, or it stays apart."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file

from liit.engine.evaluation.answering import Answerer
from liit.engine.evaluation.merging import CannotMerge, merge_into
from liit.engine.handing.handing_on import hand_on
from liit.engine.models.loading import load_model, load_processor
from tests.engine.handing.made_up import made_up_run, write_adapter


def answerer(model: str, adapter: Path, dtype: str = "float32") -> Answerer:
    told = {"path": model, "revision": None, "dtype": dtype, "attention": "sdpa"}
    return Answerer(told, str(adapter), 300, {"": 12})


def asked(count: int) -> list[dict[str, Any]]:
    turns = [{"role": "assistant", "text": ""}]
    return [
        {"id": str(n), "dataset": "", "conversation": [{"role": "user", "text": "Why " * n}, *turns], "images": []}
        for n in range(count)
    ]


@pytest.mark.parametrize("projector", [False, True])
def test_the_weights_that_answer_are_those_that_are_handed_on(tiny_llava: str, tmp_path: Path, projector: bool) -> None:
    told = {"training__projector_learning_rate": 1e-3} if projector else {}
    run = made_up_run(tmp_path / "run", tiny_llava, **told)
    merged = load_file(hand_on(run, tmp_path / "merged", merged=True).folder / "model.safetensors")
    for _ in range(2):
        one = answerer(tiny_llava, run / "t02" / "adapter")
        assert one.apart is None
        held = one.model.state_dict()
        assert all(torch.equal(tensor, held[name]) for name, tensor in _named(merged, held).items())


def _named(merged: dict[str, torch.Tensor], held: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """By the names of a loaded model, which files may have others for."""
    ends = {name.rpartition("model.")[2]: name for name in held}
    found = {ends[name.rpartition("model.")[2]]: tensor for name, tensor in merged.items()}
    assert len(found) == len(merged) > 10
    return found


def test_merged_answers_are_those_of_the_adapter_apart(tiny_llama: str, tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", tiny_llama, 0.03, seed=1)
    one = answerer(tiny_llama, tmp_path / "adapter")
    merged = one.answer(asked(12))
    one.model = load_model(tiny_llama, adapter=str(tmp_path / "adapter"))
    assert one.answer(asked(12)) == merged


def test_an_adapter_that_the_cast_would_undo_stays_apart_and_that_is_said(
    tiny_llama: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_adapter(tmp_path / "adapter", tiny_llama, 1e-5, seed=1)
    one = answerer(tiny_llama, tmp_path / "adapter", "bfloat16")
    assert one.apart is not None
    assert hasattr(one.model, "peft_config")
    one.answer(asked(1))
    assert "stays apart from its base" in caplog.text
    assert "the cast to bfloat16 would lose" in caplog.text
    assert answerer(tiny_llama, tmp_path / "adapter").apart is None, "float32 has room for it"


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"use_dora": True, "target_modules": ["q_proj"]}, "no plain LoRA of a linear"),
        ({"target_modules": ["embed_tokens"]}, "no plain LoRA of a linear"),
        ({"target_modules": ["q_proj"], "trainable_token_indices": [3]}, "no plain LoRA of a linear"),
    ],
)
def test_what_is_no_plain_lora_is_not_merged(tiny_llama: str, tmp_path: Path, told: dict[str, Any], says: str) -> None:
    made = get_peft_model(load_model(tiny_llama), LoraConfig(r=2, **told))
    made.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    with pytest.raises(CannotMerge, match=says):
        merge_into(load_model(tiny_llama), tmp_path / "adapter")
    assert answerer(tiny_llama, tmp_path / "adapter").answer(asked(2)) != []


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")  # that is what this is about
@pytest.mark.parametrize("told", [{"target_modules": ["lm_head"]}, {"modules_to_save": ["lm_head"]}])
def test_a_weight_that_another_module_has_too_is_not_merged_into(
    tiny_llama: str, tmp_path: Path, told: dict[str, Any]
) -> None:
    """The input embedding would become another with it."""
    model: Any = load_model(tiny_llama)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    model.save_pretrained(tmp_path / "tied")
    load_processor(tiny_llama).save_pretrained(tmp_path / "tied")
    base: Any = load_model(str(tmp_path / "tied"))
    assert base.lm_head.weight is base.model.embed_tokens.weight
    made = get_peft_model(base, LoraConfig(r=2, init_lora_weights=False, **{"target_modules": ["q_proj"], **told}))
    made.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    one = answerer(str(tmp_path / "tied"), tmp_path / "adapter")
    assert one.apart == "the weight of lm_head is tied to that of another module"
    answers = one.answer(asked(6))
    one.model = load_model(str(tmp_path / "tied"), adapter=str(tmp_path / "adapter"))
    assert answers == one.answer(asked(6))


def test_what_is_no_lora_stays_apart(tiny_llama: str, tmp_path: Path) -> None:
    made = get_peft_model(load_model(tiny_llama), PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3))
    made.save_pretrained(tmp_path / "adapter")
    one = answerer(tiny_llama, tmp_path / "adapter")
    assert one.apart == "it is no LoRA"
    assert hasattr(one.model, "peft_config")


def test_a_quantised_base_is_not_merged_into(tiny_llama: str, tmp_path: Path) -> None:
    write_adapter(tmp_path / "adapter", tiny_llama, 0.03, seed=1)
    base: Any = load_model(tiny_llama)
    base.is_quantized = True
    with pytest.raises(CannotMerge, match="the base is quantised"):
        merge_into(base, tmp_path / "adapter")
