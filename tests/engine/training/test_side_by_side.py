"""Without padding a model says what it says with: every sample is by itself, whatever stands beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from PIL import Image
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
)

from liit.engine.data.rows import write_rows
from liit.engine.models import encoding, loading
from liit.engine.run.tables import SAMPLE, key_of
from liit.engine.training.samples import LENGTHS, Batch, TrainingSamples
from liit.engine.training.side_by_side import ATTENTION, attend_side_by_side, layout, side_by_side
from liit.engine.training.step import nll_of, response_logits

SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
}
MLP = {"intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 64}
Make = Callable[[], PreTrainedModel]
TAKEN: dict[str, Make] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, **MLP)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES, **MLP, sliding_window=5)),
}
REFUSED: dict[str, Make] = {
    "bloom": lambda: BloomForCausalLM(
        BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.3)
    ),
    "mamba": lambda: MambaForCausalLM(
        MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, initializer_range=0.3)
    ),
}


def batch(*lengths: int, seed: int = 0) -> Batch:
    """Random tokens; the second half of each sample is its response."""
    chance = torch.Generator().manual_seed(seed)
    rows = [torch.randint(4, 64, (length,), generator=chance) for length in lengths]
    return encoding.collate([encoding.Encoded(row, torch.arange(len(row)) >= len(row) // 2) for row in rows], 0)


def made(make: Make) -> PreTrainedModel:
    torch.manual_seed(0)
    return make().train().double()


@pytest.mark.parametrize("family", TAKEN)
def test_a_sample_is_as_it_is_alone_whatever_stands_beside_it(family: str) -> None:
    model = made(TAKEN[family])
    alone = [response_logits(model, model, batch(length, seed=length)) for length in (9, 14, 6)]
    assert attend_side_by_side(model, batch(9, 14))
    rows = [batch(length, seed=length) for length in (9, 14, 6)]
    together = side_by_side(
        encoding.collate([encoding.Encoded(one["input_ids"][0], one["response"][0]) for one in rows], 0)
    )
    assert together["input_ids"].shape == (1, 29)
    assert together[LENGTHS] == (9, 14, 6)
    assert together["position_ids"].tolist() == [[*range(9), *range(14), *range(6)]]
    torch.testing.assert_close(response_logits(model, model, together), torch.cat(alone))


@pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # 2026-11, transformers 5.24
@pytest.mark.parametrize("family", TAKEN)
def test_gradients_are_those_of_the_padded_batch_and_recomputation_changes_nothing(family: str) -> None:
    found = []
    for beside, again in ((False, False), (True, False), (True, True)):
        model, one = made(TAKEN[family]), batch(9, 14, 14, 6)
        if again:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if beside:
            assert attend_side_by_side(model, one)
            one = side_by_side(one)
        nll_of(response_logits(model, model, one), one).backward()
        found.append({name: weight.grad for name, weight in model.named_parameters()})
    for other in found[1:]:
        torch.testing.assert_close(other, found[0])


@pytest.mark.parametrize("family", REFUSED)
def test_a_model_that_would_mix_samples_stays_as_it_is(family: str) -> None:
    model = made(REFUSED[family])
    before, way = response_logits(model.eval(), model, batch(9, 14)), model.config._attn_implementation
    model.train()
    assert not attend_side_by_side(model, batch(9, 14))
    assert model.training
    assert model.config._attn_implementation == way != ATTENTION
    assert torch.equal(response_logits(model.eval(), model, batch(9, 14)), before)


def test_pictures_are_seen_by_their_own_sample(tiny_llava: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = []
    for number, size in enumerate((3, 9, 5, 12)):
        pictured = number % 2 == 0
        path = tmp_path / f"{number}.png"
        Image.effect_noise((16, 16), 90).convert("RGB").save(path)
        turns = [("user", "<image>" * pictured + "q" * size), ("assistant", "ab" * size)]
        rows.append(
            {
                "id": f"d/{number}",
                "key": key_of(f"d/{number}"),
                "conversation": [{"role": role, "text": text} for role, text in turns],
                "images": [{"path": str(path), "bytes": None}] if pictured else [],
                "length": size,
            }
        )
    write_rows(tmp_path / "rows.arrow", [pa.Table.from_pylist(rows, schema=SAMPLE)])
    samples = TrainingSamples(str(tmp_path / "rows.arrow"), loading.load_processor(tiny_llava), 200)
    model = loading.load_model(tiny_llava)
    example = samples.examples()
    assert example is not None
    assert len(example["input_ids"]) == 4, "the shortest and the longest of either kind"
    expected = response_logits(model, model, encoding.placed(example, model))
    assert layout(model, samples) is side_by_side
    found = response_logits(model, model, encoding.placed(side_by_side(example), model))
    torch.testing.assert_close(found, expected)
