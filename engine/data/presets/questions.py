"""A question about a picture, answered in a word or two: GQA, OK-VQA, VQAv2, TextVQA, VizWiz, OCR-VQA."""

from collections import Counter
from typing import Any

import pyarrow.parquet as pq

from liit.engine.data.presets.rows import Row, asked
from liit.engine.data.readers import parquet
from liit.engine.run.storage.places import below, opened, place

SHORT = "\nAnswer the question using a single word or phrase."
UNANSWERABLE = "\nWhen the provided information is insufficient, respond with 'Unanswerable'."


def gqa(row: Row) -> list[Row]:
    """lmms-eval `gqa`. The picture is beside the row, else the file `<imageId>.jpg` of the image folder."""
    image = row.get("image") or f"{row['imageId']}.jpg"
    return [asked(row["question"] + SHORT, [row["answer"]], images=[image], name=row["id"])]


def okvqa(row: Row) -> list[Row]:
    """lmms-eval `ok_vqa_val2014`."""
    return _humans(row, row["question"] + UNANSWERABLE + SHORT, row["answers"])


def vizwiz(row: Row) -> list[Row]:
    """lmms-eval `vizwiz_vqa_val`."""
    return _humans(row, row["question"].capitalize() + UNANSWERABLE + SHORT, row["answers"])


def textvqa(row: Row) -> list[Row]:
    """lmms-eval `textvqa_val`, without OCR tokens."""
    return _humans(row, row["question"].capitalize() + SHORT, row["answers"])


def vqav2(row: Row) -> list[Row]:
    """lmms-eval `vqav2_val`."""
    return _humans(row, row["question"] + SHORT, [one["answer"] for one in row["answers"]])


def ocr_vqa(row: Row) -> list[Row]:
    """Every question of a cover, each a sample; the suffix is that of LLaVA-1.5, whose mixture has OCR-VQA."""
    pairs = zip(row["questions"], row["answers"], strict=True)
    return [
        asked(question + SHORT, [answer], images=[row["image"]], name=f"{row['image_id']}-{at}")
        for at, (question, answer) in enumerate(pairs)
    ]


def _humans(row: Row, question: str, answers: list[str]) -> list[Row]:
    """With what people answered as references, and what most of them did as the answer."""
    most = Counter(answers).most_common(1)[0][0]
    return [asked(question, answers, images=[row["image"]], answer=most, name=row["question_id"])]


def stored_images(folder: str) -> dict[str, Any]:
    """By id, the pictures that GQA's repository has in tables of their own (`testdev_balanced_images`: 398, 60 MB)."""
    found: dict[str, Any] = {}
    inside = below(place(folder), recursive=False) if place(folder).is_dir() else ()
    for file in sorted((file for file in inside if file.name.endswith(".parquet")), key=lambda file: file.name):
        with opened(file) as source:
            names = pq.read_schema(source).names
        if {"id", "image"} <= set(names):
            found |= {row["id"]: row["image"] for row in parquet.rows(file) if isinstance(row, dict)}
    return found
