"""Answers of a model that was handed on, by transformers and peft alone: python fresh.py FOLDER QUESTIONS ANSWERS [BASE].

Run as a script in a process of its own; it knows nothing of LiIT.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
)

NEW_TOKENS = 12


def main(folder: str, questions: str, answers: str, base: str | None = None) -> None:
    kind = json.loads((Path(base or folder) / "config.json").read_text())["model_type"]
    auto, reader = (AutoModelForImageTextToText, AutoProcessor) if kind == "llava" else (AutoModelForCausalLM, AutoTokenizer)
    model: Any = auto.from_pretrained(base or folder, dtype="auto")
    if base is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder)
        model.generation_config = GenerationConfig.from_pretrained(folder)
    processor = reader.from_pretrained(folder)
    said = [answer(model.eval(), processor, row) for row in json.loads(Path(questions).read_text())]
    Path(answers).write_text(json.dumps(said))
    assert not [name for name in sys.modules if name.split(".")[0] == "liit"]


@torch.no_grad()
def answer(model: Any, processor: Any, row: dict[str, Any]) -> str:
    images = iter(row["images"])
    messages = [
        {"role": turn["role"], "content": content(turn["text"], images, bool(row["images"]))}
        for turn in row["conversation"][:-1]
    ]
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    inputs = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    out = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS)
    new = out[0, inputs["input_ids"].shape[1] :]
    text: str = getattr(processor, "tokenizer", processor).decode(new, skip_special_tokens=True)
    return text.strip()


def content(text: str, images: Any, parts: bool) -> Any:
    if not parts:
        return text
    made: list[dict[str, str]] = []
    for at, piece in enumerate(text.split("<image>")):
        made += [{"type": "image", "path": next(images)["path"]}] if at else []
        made += [{"type": "text", "text": piece}] if piece else []
    return made


if __name__ == "__main__":
    main(*sys.argv[1:])
