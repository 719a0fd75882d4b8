"""Generation stops where training stopped, also where the model's own end of text is another token."""

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from liit.engine.evaluation import answering
from liit.engine.evaluation.answering import prompts_of, write_answers
from liit.engine.models.encoding import encode
from liit.engine.scoring.passes import Batch, response_logits
from tests.engine.models.chat_families import LANGUAGE

SAMPLES: list[dict[str, Any]] = [
    {"conversation": [{"role": "user", "text": question}, {"role": "assistant", "text": answer}], "images": []}
    for question, answer in (("Which?", "two cups"), ("And this one?", "the blue one, not the red one"))
]


@pytest.mark.parametrize("name", ["qwen2_5", "llama2", "phi3", "gemma", "smollm2"])
def test_a_model_answers_what_it_was_taught_and_stops_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the base models of Qwen: their text ends with <|endoftext|>, their turns with <|im_end|>."""
    tokenizer = LANGUAGE[name].tokenizer()
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **sizes))
    batch = Batch([encode(tokenizer, one["conversation"], [], 300) for one in SAMPLES], tokenizer, "right", model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(response_logits(model, batch), batch.targets_M).backward()
        optimizer.step()
    taught = [one["conversation"][1]["text"] for one in SAMPLES]
    prompts = prompts_of(tokenizer, SAMPLES, 300)
    assert write_answers(model.eval(), tokenizer, prompts, [100, 100]) == taught
    if tokenizer.eos_token != LANGUAGE[name].end.strip():
        monkeypatch.setattr(answering, "stop_ids", lambda processor: [])
        assert write_answers(model, tokenizer, prompts, [100, 100]) != taught, "they would run on"
