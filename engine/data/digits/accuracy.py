"""What a model answers on the evaluation digits, skill by skill: the numbers that `base/accuracies.json` records."""

import re
from typing import Any

import torch
from PIL import Image

from liit.engine.answers.metrics import score
from liit.engine.data.digits.canvas import render
from liit.engine.data.digits.evaluation import SETS, SkillSet
from liit.engine.data.digits.samples import Sample, held_out
from liit.engine.data.digits.tokenizer import IMAGE

BATCH = 100


def measure(model: Any, processor: Any, per_set: int, seed: int, sets: tuple[SkillSet, ...] = SETS) -> dict[str, float]:
    """Percent of every evaluation set, by name, from `per_set` fresh samples each (greedy answers)."""
    values = {}
    for one in sets:
        samples = [
            held_out(one.tasks[index % len(one.tasks)], one.name, "evaluation", seed, index) for index in range(per_set)
        ]
        answers = [
            answer
            for start in range(0, per_set, BATCH)
            for answer in answer_all(model, processor, samples[start : start + BATCH], one.max_new_tokens)
        ]
        references = [[sample.row["conversations"][-1]["value"]] for sample in samples]
        values[one.name] = round(score(one.metric, answers, references).value, 2)
    return values


@torch.inference_mode()
def answer_all(model: Any, processor: Any, samples: list[Sample], max_new_tokens: int) -> list[str]:
    """Greedy answers to the first question of every sample."""
    texts, images = [], []
    for sample in samples:
        parts = re.split(f"({IMAGE})", sample.row["conversations"][0]["value"])
        content = [{"type": "image"} if part == IMAGE else {"type": "text", "text": part} for part in parts if part]
        messages = [{"role": "user", "content": content}]
        texts.append(processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        images += [Image.fromarray(render(drawing.scene)) for drawing in sample.drawings]
    inputs = processor(text=texts, images=images or None, padding=True, return_tensors="pt")
    inputs.pop("mm_token_type_ids", None)
    output = model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)
    new = output[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in processor.tokenizer.batch_decode(new, skip_special_tokens=True)]
