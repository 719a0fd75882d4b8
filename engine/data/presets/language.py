"""Questions in words alone: GSM8K, BIG-Bench Hard, TyDi QA, HumanEval, AlpacaEval."""

import re

from liit.engine.data.presets.rows import Row, asked

_LETTER = re.compile(r"\([A-Z]\)")


def gsm8k(row: Row) -> list[Row]:
    """lm-evaluation-harness `gsm8k`, without examples. The number after `####` is the reference."""
    question, (_, marked, number) = f"Question: {row['question']}\nAnswer:", row["answer"].rpartition("####")
    if not marked:
        raise ValueError("missing answer: no '####' before the number")
    return [asked(question, [number.strip()], answer=row["answer"])]


def bbh(row: Row) -> list[Row]:
    """lm-evaluation-harness `bbh_zeroshot`, without the task's one-line description, which rows do not have.

    A target such as (B) is judged as a choice.
    """
    target = row["target"]
    metric = "choice" if _LETTER.fullmatch(target) else None
    return [asked(f"Q: {row['input']}\nA:", [target], metric=metric)]


WORDS = {
    "arabic": ("السياق", "السؤال", "الإجابة"),
    "bengali": ("প্রসঙ্গ", "প্রশ্ন", "উত্তর"),
    "english": ("Context", "Question", "Answer"),
    "finnish": ("Konteksti", "Kysymys", "Vastaus"),
    "indonesian": ("Konteks", "Pertanyaan", "Jawaban"),
    "korean": ("맥락", "질문", "답변"),
    "russian": ("Контекст", "Вопрос", "Ответ"),
    "swahili": ("Muktadha", "Swali", "Jibu"),
    "telugu": ("సందర్భం", "ప్రశ్న", "సమాధానం"),
}
"""Of the gold-passage task's nine languages, as ids begin with them: context, question, answer."""


def tydiqa(row: Row) -> list[Row]:
    """lm-evaluation-harness `tydiqa_goldp_*`: a passage and a question in the row's own language."""
    language = row["id"].partition("-")[0]
    if language not in WORDS:
        raise ValueError(f"unknown language: id {row['id']!r:.80} begins with none of {', '.join(WORDS)}")
    context, question, answer = WORDS[language]
    prompt = f"{context}: {row['context']}\n\n{question}: {row['question']}\n\n{answer}:"
    return [asked(prompt, row["answers"]["text"], name=row["id"])]


def humaneval(row: Row) -> list[Row]:
    """lm-evaluation-harness `humaneval_instruct`, without the beginning of the answer. Answers are stored and never run."""
    task = f"Write a solution to the following problem and make sure that it passes the tests:\n```python\n{row['prompt']}\n```\n"
    return [asked(task, [row["canonical_solution"]], name=row["task_id"])]


def alpaca_eval(row: Row) -> list[Row]:
    """The instruction alone; the reference is what it is compared with by a judge."""
    return [asked(row["instruction"], [row["output"]])]
