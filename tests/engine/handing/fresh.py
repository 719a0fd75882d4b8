"""Answers of models that were handed on, by transformers and peft alone: python fresh.py QUESTIONS JOBS.

Run as a script in a process of its own; it knows nothing of LiIT. QUESTIONS: JSON, rows by kind. JOBS: JSON rows of `folder`,
`base` (of an adapter), `kind` and `answers`, the file to write.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
)

NEW_TOKENS = 12


def main(questions: str, jobs: str) -> None:
    rows = json.loads(Path(questions).read_text())
    for job in json.loads(Path(jobs).read_text()):
        model, processor = loaded(job["folder"], job["base"])
        said = [answer(model, processor, row) for row in rows[job["kind"]]]
        Path(job["answers"]).write_text(json.dumps(said))
    assert not [name for name in sys.modules if name.split(".")[0] == "liit"]


def loaded(folder: str, base: str | None) -> tuple[Any, Any]:
    sees = json.loads((Path(base or folder) / "config.json").read_text())["model_type"] == "llava"
    model: Any = (AutoModelForImageTextToText if sees else AutoModelForCausalLM).from_pretrained(
        base or folder, dtype="auto"
    )
    if base is not None:
        model = PeftModel.from_pretrained(model, folder)
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval(), (AutoProcessor if sees else AutoTokenizer).from_pretrained(folder)


def answer(model: Any, processor: Any, row: dict[str, Any]) -> str:
    images = iter(row["images"])
    messages = [{"role": turn["role"], "content": content(turn["text"], images)} for turn in row["conversation"][:-1]]
    return written(model, processor, messages, NEW_TOKENS)


@torch.no_grad()
def written(model: Any, processor: Any, messages: list[dict[str, Any]], most: int) -> str:
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    inputs = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    out = model.generate(**inputs, do_sample=False, max_new_tokens=most)
    new = out[0, inputs["input_ids"].shape[1] :]
    text: str = getattr(processor, "tokenizer", processor).decode(new, skip_special_tokens=True)
    return text.strip()


def content(text: str, images: Iterator[dict[str, str]]) -> list[dict[str, str]]:
    made: list[dict[str, str]] = []
    for at, piece in enumerate(text.split("<image>")):
        made += [{"type": "image", "path": next(images)["path"]}] if at else []
        made += [{"type": "text", "text": piece}] if piece else []
    return made


if __name__ == "__main__":
    main(*sys.argv[1:])
