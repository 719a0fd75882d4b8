"""What a model knows before anything is taught: its own answers to short questions, those that end and, of facts, are true."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from real.items import Item, rows
from real.names import countries, pictured

LONGEST = 32
"""Tokens of an answer; one that has not ended by then is left out."""
AT_ONCE = 24
PROMPTS = {"own-explain": 110, "own-sentence": 70}


def prompts(annotations: Path, table: Path) -> list[Item]:
    """Questions whose answer is what it has to say: a fact's truth, or nothing in particular."""
    asked = list(facts(table))
    words = [(symbol, name) for symbol, name in pictured(annotations).items() if " " not in name]
    explained = words[: PROMPTS["own-explain"]]
    for symbol, name in explained:
        asked.append(Item("own-explain", f"emoji {symbol}", f"Explain in one short sentence what “{name}” means.", ""))
    for symbol, name in words[len(explained) :][: PROMPTS["own-sentence"]]:
        asked.append(Item("own-sentence", f"emoji {symbol}", f"Write one short sentence with the word “{name}”.", ""))
    return asked


def facts(table: Path) -> Iterator[Item]:
    """A capital or a continent of every country."""
    for position, row in enumerate(countries(table)):
        name, about = row["name"]["common"], f"country {row['cca3']}"
        if position % 3 or row["region"] == "Americas":
            yield Item("own-facts", about, f"What is the capital of {name}?", row["capital"][0])
        else:
            yield Item("own-facts", about, f"On which continent is {name}?", row["region"])


def kept(asked: Sequence[Item], answers: Sequence[str | None]) -> list[Item]:
    """The questions with what was answered, where it ended (None: it did not) and has in it what it has to say."""
    pairs = [(item, answer.strip()) for item, answer in zip(asked, answers, strict=True) if answer and answer.strip()]
    return [Item(item.task, item.source, item.question, said) for item, said in pairs if item.answer in said]


def answered(asked: Sequence[Item], model: Path, file: Path) -> list[str | None]:
    """The model's greedy answer to each question, in bfloat16 on one thread; `file` keeps them, for the same questions."""
    if file.is_file():
        known = list(rows(file))
        if [row["question"] for row in known] == [item.question for item in asked]:
            return [row["answer"] for row in known]
    answers = generate(asked, model)
    pairs = zip(asked, answers, strict=True)
    lines = [json.dumps({"question": item.question, "answer": answer}, ensure_ascii=False) for item, answer in pairs]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return answers


def generate(asked: Sequence[Item], folder: Path) -> list[str | None]:
    """Answers in batches of alike lengths; None where one does not end in time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)  # sums in another order are other bits, and now and then another word
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    talks = [[{"role": "user", "content": item.question}] for item in asked]
    texts: list[Any] = [
        tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True) for talk in talks
    ]
    order = sorted(range(len(asked)), key=lambda index: (len(texts[index]), index))
    answers: list[str | None] = [None] * len(asked)
    for start in range(0, len(order), AT_ONCE):
        batch = order[start : start + AT_ONCE]
        inputs = tokenizer(
            [texts[index] for index in batch], return_tensors="pt", padding=True, add_special_tokens=False
        )
        with torch.inference_mode():
            written = model.generate(**inputs, max_new_tokens=LONGEST, do_sample=False)
        for index, row in zip(batch, written[:, inputs["input_ids"].shape[1] :].tolist(), strict=True):
            if tokenizer.eos_token_id in row:
                answers[index] = tokenizer.decode(row[: row.index(tokenizer.eos_token_id)])
    return answers
