"""Published evaluation sets by name: where each is published, what its rows hold, and what it is judged by.

Data alone; how a row becomes a sample is in `engine/data/presets/`. Hub ids are those that lmms-eval 0.7 and
lm-evaluation-harness 0.4 read; `lmms-lab-encoder` was `lmms-lab` until July 2026.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """A set as its publisher has it, and how it is asked and judged here."""

    hub: str
    split: str
    columns: tuple[str, ...]
    """Of a row, those that are read; what stands after a `?` may be missing."""
    skill: str
    metric: str
    max_new_tokens: int
    samples: int
    """Questions in that split, for forecasts."""
    config: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """In words, for a person who has to fetch it."""
        return f"{self.hub}{f', config {self.config}' if self.config else ''}, split {self.split}"


ENCODER = "lmms-lab-encoder"
M3IT = ("instruction", "inputs", "image_base64_str", "outputs")
ASKED = ("question_id", "image", "question", "answers")
REFERRED = ("question_id", "image", "answer", "bbox")
SHARES = {"box": "xyxy", "scale": 1}
REFCOCO = f"{ENCODER}/RefCOCO"
PICTURES = tuple(f"?image_{number}" for number in range(1, 8))
MMMU = ("id", "question", "options", "answer", "question_type", *PICTURES)
OCRVQA = ("image", "image_id", "questions", "answers")
GQA_ROW = ("id", "imageId", "question", "answer", "?image")

VISION = {
    "gqa": Preset(f"{ENCODER}/GQA", "testdev", GQA_ROW, "vqa", "exact", 16, 12578, "testdev_balanced_instructions"),
    "vqav2": Preset(f"{ENCODER}/VQAv2", "validation", ASKED, "vqa", "vqa", 16, 214354),
    "vizwiz": Preset(f"{ENCODER}/VizWiz-VQA", "val", ASKED, "vqa", "vqa", 16, 4319),
    "textvqa": Preset(f"{ENCODER}/textvqa", "validation", ASKED, "vqa", "vqa", 16, 5000),
    "ocr-vqa": Preset("howard-hou/OCR-VQA", "test", OCRVQA, "vqa", "exact", 32, 100037),
    "okvqa": Preset(f"{ENCODER}/OK-VQA", "val2014", ASKED, "knowledge", "vqa", 16, 5046),
    "aokvqa": Preset(
        "HuggingFaceM4/A-OKVQA",
        "validation",
        ("question_id", "image", "question", "choices", "correct_choice_idx"),
        "knowledge",
        "choice",
        16,
        1145,
    ),
    "scienceqa": Preset(
        f"{ENCODER}/ScienceQA",
        "test",
        ("?image", "question", "choices", "answer", "hint"),
        "knowledge",
        "choice",
        16,
        4241,
        "ScienceQA-FULL",
    ),
    "mmmu": Preset(f"{ENCODER}/MMMU", "validation", MMMU, "reasoning", "choice", 128, 900),
    "refcoco": Preset(REFCOCO, "testA", REFERRED, "grounding", "iou@0.5", 64, 5657, options=SHARES),
    "refcoco-plus": Preset(f"{REFCOCO}plus", "testA", REFERRED, "grounding", "iou@0.5", 64, 5726, options=SHARES),
    "refcocog": Preset(f"{REFCOCO}g", "test", REFERRED, "grounding", "iou@0.5", 64, 9602, options=SHARES),
    "flickr30k": Preset(
        f"{ENCODER}/flickr30k", "test", ("image", "caption", "img_id", "?split"), "captions", "cider", 64, 31783
    ),
    "textcaps": Preset(
        f"{ENCODER}/TextCaps", "val", ("image", "image_id", "caption_str"), "captions", "cider", 64, 3166
    ),
    "coco-cn": Preset("MMInstruction/M3IT", "test", M3IT, "multilingual", "bleu-zh", 64, 1000, "coco-cn"),
    "flickr8k-cn": Preset("MMInstruction/M3IT", "test", M3IT, "multilingual", "bleu-zh", 64, 1000, "flickr8k-cn"),
}
LANGUAGE = {
    "mmlu": Preset(
        "cais/mmlu", "test", ("question", "subject", "choices", "answer"), "language", "choice", 16, 14042, "all"
    ),
    "gsm8k": Preset("openai/gsm8k", "test", ("question", "answer"), "mathematics", "number", 512, 1319, "main"),
    "bbh": Preset("SaylorTwift/bbh", "test", ("input", "target"), "reasoning", "exact", 64, 6511),
    "tydiqa": Preset(
        "google-research-datasets/tydiqa",
        "validation",
        ("id", "context", "question", "answers"),
        "multilingual",
        "f1",
        64,
        5077,
        "secondary_task",
    ),
    "humaneval": Preset(
        "openai/openai_humaneval", "test", ("task_id", "prompt", "canonical_solution"), "code", "stored", 512, 164
    ),
    "alpaca-eval": Preset(
        "tatsu-lab/alpaca_eval", "eval", ("instruction", "output"), "open-ended", "stored", 512, 805, "alpaca_eval"
    ),
}
PRESETS = {**VISION, **LANGUAGE}


def filled(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of an evaluation set, those of its preset under them where it names one.

    Options of the preset count for its own metric alone. Raises ValueError, one line, for a preset that does not exist, and for
    one without `path`.
    """
    name = values.get("preset")
    if name is None:
        return dict(values)
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        raise ValueError(f"unknown preset {name!r}; known are {', '.join(PRESETS)}")
    if not isinstance(values.get("path"), str):
        raise ValueError(
            f"preset {name} needs path: files of {preset.place}, Parquet or JSON: a folder, or "
            f"hf://datasets/{preset.hub} with split"
        )
    own = {
        key: value for key, value in asdict(preset).items() if key in ("skill", "metric", "max_new_tokens", "samples")
    }
    found = {"name": name, **own, **values}
    if preset.options and str(found["metric"]).partition("@")[0] == preset.metric.partition("@")[0]:
        found["options"] = {**preset.options, **values.get("options", {})}
    return found
