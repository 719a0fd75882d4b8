"""What a model answers on the evaluation digits, skill by skill: the numbers that `base/accuracies.json` records."""

import re
from typing import Any

import torch
from PIL import Image
from sacrebleu.metrics import BLEU

from liit.engine.digits.canvas import render
from liit.engine.digits.evaluation import SETS, SkillSet
from liit.engine.digits.samples import Sample, held_out
from liit.engine.digits.tokenizer import IMAGE

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
        references = [sample.row["conversations"][-1]["value"] for sample in samples]
        values[one.name] = round(_value(one.metric, answers, references), 2)
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


def _value(metric: str, answers: list[str], references: list[str]) -> float:
    pairs = list(zip(answers, references, strict=True))
    if metric == "bleu-zh":
        return float(BLEU(tokenize="zh").corpus_score(answers, [references]).score)
    if metric == "iou":
        return 100 * sum(_overlap(_box(answer), _box(reference)) for answer, reference in pairs) / len(pairs)
    return 100 * sum(answer == reference for answer, reference in pairs) / len(pairs)


def _box(text: str) -> tuple[float, ...] | None:
    numbers = re.findall(r"\d+(?:\.\d+)?", text)
    return tuple(map(float, numbers)) if len(numbers) == 4 else None


def _overlap(box: tuple[float, ...] | None, other: tuple[float, ...] | None) -> float:
    if box is None or other is None:
        return 0.0
    width = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    total = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)) - width * height
    return width * height / total if total > 0 else 0.0
