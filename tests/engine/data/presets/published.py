"""Two rows of every published set, with exactly the columns that its publisher gives them."""

import base64
from io import BytesIO
from typing import Any

from PIL import Image

Row = dict[str, Any]


def picture(size: tuple[int, int] = (40, 20), colour: str = "red") -> dict[str, Any]:
    """As `datasets` stores one in Parquet."""
    data = BytesIO()
    Image.new("RGB", size, colour).save(data, format="PNG")
    return {"bytes": data.getvalue(), "path": "picture.png"}


HUMANS = ["red", "red", "red", "Red.", "dark red", "red", "crimson", "red", "red", "a red"]


def _gqa() -> list[Row]:
    beside: Row = {
        "isBalanced": True,
        "groups": {"global": None, "local": "x"},
        "entailed": "",
        "equivalent": "",
        "types": {"structural": "query"},
    }
    beside |= {"annotations": [], "semantic": [], "semanticStr": ""}
    one: Row = {
        "id": "201",
        "imageId": "n1",
        "question": "Which colour is it?",
        "answer": "red",
        "fullAnswer": "It is red.",
    }
    return [one | beside, one | beside | {"id": "202", "question": "Is it red?", "answer": "yes"}]


def _asked(number: int, question: str) -> Row:
    return {"question_id": number, "image": picture(), "question": question, "answers": list(HUMANS)}


def _vqav2() -> list[Row]:
    answers = [{"answer": text, "answer_confidence": "yes", "answer_id": at} for at, text in enumerate(HUMANS)]
    beside: Row = {"question_type": "what", "multiple_choice_answer": "red", "image_id": 9, "answer_type": "other"}
    return [_asked(at, "What colour is it?") | beside | {"answers": answers} for at in (1, 2)]


def _textvqa() -> list[Row]:
    beside: Row = {
        "image_id": "a",
        "question_tokens": ["what"],
        "image_width": 40,
        "image_height": 20,
        "set_name": "val",
    }
    beside |= {"flickr_original_url": "", "flickr_300k_url": "", "image_classes": ["Sign"], "ocr_tokens": ["STOP"]}
    return [_asked(at, "what is WRITTEN there?") | beside for at in (1, 2)]


def _ocr_vqa() -> list[Row]:
    beside: Row = {
        "ocr_tokens": ["A"],
        "ocr_info": [],
        "title": "T",
        "authorName": "N",
        "genre": "G",
        "image_width": 40,
    }
    beside |= {"image_height": 20, "image_url": "", "set_name": "test"}
    said: Row = {"questions": ["Who wrote this book?", "What is the title?"], "answers": ["N", "T"]}
    return [{"image": picture(), "image_id": name, **said, **beside} for name in ("b1", "b2")]


def _aokvqa() -> list[Row]:
    one: Row = {"image": picture(), "question_id": "q1", "question": "Which?", "choices": ["cat", "dog", "cow", "owl"]}
    one |= {
        "correct_choice_idx": 1,
        "direct_answers": "['dog']",
        "difficult_direct_answer": False,
        "rationales": ["It barks."],
    }
    return [one, one | {"question_id": "q2", "correct_choice_idx": 3}]


def _scienceqa() -> list[Row]:
    beside: Row = {
        "task": "closed choice",
        "grade": "grade2",
        "subject": "s",
        "topic": "t",
        "category": "c",
        "skill": "k",
    }
    beside |= {"lecture": "", "solution": ""}
    one: Row = {
        "image": picture(),
        "question": "Which?",
        "choices": ["cat", "dog"],
        "answer": 1,
        "hint": "Look.",
    } | beside
    return [one, one | {"image": None, "hint": "", "choices": ["a", "b", "c"], "answer": 2}]


def _mmmu() -> list[Row]:
    none = {f"image_{at}": None for at in range(1, 8)}
    beside: Row = {"explanation": "", "img_type": "['Plots']", "topic_difficulty": "Easy", "subfield": "Algebra"}
    one: Row = {
        "id": "validation_Math_1",
        "question": "<image 1> Which is it?",
        "options": "['<image 2>', '<image 3>', 'x']",
    }
    one |= {**none, "image_1": picture(), "image_2": picture(colour="blue"), "image_3": picture(colour="green")}
    one |= {"answer": "B", "question_type": "multiple-choice", **beside}
    two: Row = {
        "id": "validation_Math_2",
        "question": "How many? <image 1>",
        "options": "[]",
        **none,
        "image_1": picture(),
    }
    return [one, two | {"answer": "8", "question_type": "open", **beside}]


def _refcoco() -> list[Row]:
    one: Row = {
        "question_id": "r1",
        "image": picture((40, 20)),
        "question": "Which?",
        "answer": ["left dog", "the dog"],
    }
    one |= {"segmentation": [0.0], "bbox": [10.0, 5.0, 20.0, 10.0], "iscrowd": 0, "file_name": "COCO_1.jpg"}
    return [one, one | {"question_id": "r2", "answer": ["cat"], "bbox": [0.0, 0.0, 13.0, 7.0]}]


def _captions() -> list[Row]:
    one: Row = {
        "image": picture(),
        "caption": ["A dog runs.", "A dog."],
        "sentids": ["0", "1"],
        "img_id": "7",
        "filename": "7.jpg",
    }
    return [one, one | {"img_id": "8", "caption": ["A man sits.", "Someone sits down."]}]


def _textcaps() -> list[Row]:
    beside: Row = {
        "question_id": "q",
        "question": "",
        "image_classes": ["Sign"],
        "flickr_original_url": "",
        "image_width": 40,
    }
    beside |= {
        "flickr_300k_url": "",
        "image_height": 20,
        "set_name": "val",
        "image_name": "a",
        "image_path": "a",
        "caption_id": [],
    }
    one: Row = {
        "image": picture(),
        "image_id": "t1",
        "caption_str": ["A sign says STOP.", "A stop sign."],
        "reference_strs": [],
    }
    return [one | beside, one | beside | {"image_id": "t2"}]


def _m3it() -> list[Row]:
    stored = base64.b64encode(picture()["bytes"]).decode()
    one: Row = {
        "instruction": "用中文描述这张图片。",
        "inputs": "",
        "image_base64_str": [stored],
        "outputs": "一只狗在跑。",
    }
    return [one, one | {"inputs": "请看图。", "outputs": "两只猫。"}]


def _mmlu() -> list[Row]:
    one: Row = {
        "question": " What is 2 + 2? ",
        "subject": "abstract_algebra",
        "choices": ["3", "4", "5", "6"],
        "answer": 1,
    }
    return [one, one | {"subject": "anatomy", "answer": 3}]


def _tydiqa() -> list[Row]:
    one: Row = {"id": "english-1-0", "title": "T", "context": "Ann was born in 1900.", "question": "When?"}
    said: Row = {"text": ["1900", "in 1900"], "answer_start": [16, 13]}
    return [one | {"answers": said}, one | {"id": "finnish-2-1", "answers": said}]


def _humaneval() -> list[Row]:
    one: Row = {
        "task_id": "HumanEval/0",
        "prompt": "def f(x):\n",
        "canonical_solution": "    return x\n",
        "test": "",
        "entry_point": "f",
    }
    return [one, one | {"task_id": "HumanEval/1", "prompt": "def g(x):\n"}]


_BBH: list[Row] = [
    {"input": "not True is", "target": "False"},
    {"input": "Which?\nOptions:\n(A) a\n(B) b", "target": "(B)"},
]
_GSM: list[Row] = [
    {"question": "Two and two?", "answer": "2 + 2 = <<2+2=4>>4\n#### 4"},
    {"question": "How much?", "answer": "#### 1,250"},
]
_ALPACA: list[Row] = [
    {"instruction": text, "output": "Well.", "generator": "g", "dataset": "d"} for text in ("Write.", "Say.")
]

ROWS: dict[str, list[Row]] = {
    "gqa": _gqa(),
    "vqav2": _vqav2(),
    "vizwiz": [_asked(at, "what IS this") | {"category": "other"} for at in (1, 2)],
    "textvqa": _textvqa(),
    "ocr-vqa": _ocr_vqa(),
    "okvqa": [_asked(at, "Which?") | {"question_type": "one", "answer_type": "other"} for at in (1, 2)],
    "aokvqa": _aokvqa(),
    "scienceqa": _scienceqa(),
    "mmmu": _mmmu(),
    "refcoco": _refcoco(),
    "refcoco-plus": _refcoco(),
    "refcocog": _refcoco(),
    "flickr30k": _captions(),
    "textcaps": _textcaps(),
    "coco-cn": _m3it(),
    "flickr8k-cn": _m3it(),
    "mmlu": _mmlu(),
    "gsm8k": _GSM,
    "bbh": _BBH,
    "tydiqa": _tydiqa(),
    "humaneval": _humaneval(),
    "alpaca-eval": _ALPACA,
}
