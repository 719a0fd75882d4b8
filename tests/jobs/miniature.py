"""The sets of Adapt-∞ (arXiv 2410.10636, Table 1) in miniature: a few rows each, in files as published, with their quirks."""

import base64
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.engine.data.presets.published import ROWS, picture

Row = dict[str, Any]
HELD_OUT = "of a split that is not meant"


def write(root: Path) -> None:
    """All files where `docs/how-to/the-papers-sets.md` has them, in `root` for its /data."""
    for part in (_llava, _m3it, _minigpt4, _mantis, _lamm, _vision_flan, _evaluations):
        part(root)


def _json(path: Path, value: object, indent: int | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=indent, ensure_ascii=False), encoding="utf-8")


def _parquet(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


def _pictures(folder: Path, *names: str) -> None:
    """A picture by each name, no two alike."""
    for at, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24 + at, 18), (9 * at, sum(map(ord, str(path.name))) % 256, 90)).save(path)


def _said(*texts: str, first: str = "human") -> list[Row]:
    roles = ("human", "gpt") if first == "human" else ("gpt", "human")
    return [{"from": roles[at % 2], "value": text} for at, text in enumerate(texts)]


def _llava(root: Path) -> None:
    """One list. Ids are the picture's and repeat, ShareGPT's rows have no picture and may begin or end with the wrong turn."""
    coco, vg, ocr = "coco/train2017/000000033471.jpg", "vg/VG_100K/2.jpg", "ocr_vqa/images/140031996.jpg"
    _pictures(root / "llava" / "images", coco, vg)
    bus = {"id": "000000033471", "image": coco}
    rows = [
        bus | {"conversations": _said("<image>\nWhat colour is the bus?", "Red.", "Where is it?", "On a street.")},
        bus | {"conversations": _said("What is this?\n<image>\nAnswer in one word.", "bus")},
        bus | {"conversations": _said("What is this?\n<image>\nAnswer in one word.", "bus")},
        {
            "id": 2,
            "image": vg,
            "conversations": _said("<image>\nGive a short description: [0.1, 0.2, 0.5, 0.9].", "tree"),
        },
        {"id": "wNBG8Gp_0", "conversations": _said("Write a loop.", "```\nfor i in x: ...\n```", "Thanks", "Gladly.")},
        {"id": "OLrFHgp_7", "conversations": _said("I am ready.", "Name a fish.", "Cod.", first="gpt")},
        {"id": "wNBG8Gp_0", "conversations": _said("Go on", "Here it goes on.", "And then?")},
        {"id": "140031996", "image": ocr, "conversations": _said("<image>\nWho wrote this book?", "Nobody")},
    ]
    _json(root / "llava" / "llava_v1_5_mix665k.json", rows, indent=2)


def _m3it(root: Path) -> None:
    """A folder a set, no ids, pictures in base64; a story has several. COCO-CN's training set has a sample of its test set."""

    def row(instruction: str, inputs: str, outputs: str, *pictures: Row) -> Row:
        stored = [base64.encodebytes(one["bytes"]).decode() for one in pictures]
        return {"instruction": instruction, "inputs": inputs, "image_base64_str": stored, "outputs": outputs}

    def file(name: str, split: str, *rows: Row) -> None:
        _parquet(root / "M3IT" / name / f"{split}-00000-of-00001.parquet", list(rows))

    red, blue = picture((12, 16)), picture((16, 12), "blue")
    file("coco", "train", row("Describe it briefly.", "", "A wall.", red), row("Say what is there.", "", "Sky.", blue))
    file("coco", "validation", row("Describe it briefly.", "", HELD_OUT, red))
    file("vist", "train", row("Tell a story.", "Of a trip.", "We left. We saw. We slept.", red, blue, picture((9, 9))))
    file("coco-cn", "train", row("用中文描述这张图片。", "", "一面墙。", red), ROWS["coco-cn"][0])
    for name in ("coco-cn", "flickr8k-cn"):
        file(name, "test", *ROWS[name])


def _minigpt4(root: Path) -> None:
    """One object around the captions; pictures are named without their suffix."""
    captions = [{"image_id": str(at), "caption": f"The image shows {at} boats on a lake."} for at in (2, 3, 5)]
    _pictures(root / "cc_sbu_align" / "image", *(f"{one['image_id']}.jpg" for one in captions))
    _json(root / "cc_sbu_align" / "filter_cap.json", {"annotations": captions})


def _mantis(root: Path) -> None:
    """A folder a set; pictures by names that another set may have too; as many places in the text as pictures, or none."""

    def file(name: str, split: str, asked: str, pictures: tuple[str, ...]) -> None:
        said = [{"content": asked, "role": "user"}, {"content": "The second one.", "role": "assistant"}]
        images = [{"bytes": None, "path": one} for one in pictures]
        row = {"id": f"{name}_0", "images": images, "conversation": said, "source": name}
        _parquet(root / "Mantis-Instruct" / name / f"{split}-00000-of-00001.parquet", [row])
        _pictures(root / "Mantis-Instruct" / name, *pictures)

    file("nlvr2", "train", "<image> <image> Which one is darker?", ("train/0.png", "train/1.png"))
    file("nlvr2", "val", f"<image> {HELD_OUT}", ("val/0.png",))
    file("iconqa", "train", "Which one fits?\n<image>\nA. <image>\nB. <image>", ("train/0.png", "2.png", "3.jpg"))
    file("chartqa", "train", "Which bar is longer?", ("a/0.png",))


def _lamm(root: Path) -> None:
    """A file a task; a picture is in several of them under one id, and no text says where it stands."""
    folder = root / "LAMM" / "2D_Instruct"

    def row(image: str, task: str, *texts: str) -> Row:
        return {
            "id": Path(image).stem,
            "image": image,
            "conversations": _said(*texts),
            "task_type": task,
            "src_image": "x",
        }

    coco, bamboo = "coco_images/000000019028.jpg", "bamboo_images/inat_1.jpg"
    _pictures(folder, coco, bamboo)
    for name, rows in {
        "daily_dialogue_49k": [row(coco, "conversation", "How is the kitchen?", "White.", "Is there a stove?", "Yes.")],
        "detailed_description_49k": [
            row(coco, "detailed_description", "Describe it.", "A white kitchen with a stove.")
        ],
        "factual_knowledge_dialogue_42k": [row(bamboo, "factual_knowledge", "What bird is it?", "A wren.")],
    }.items():
        _json(folder / "meta_file" / f"{name}.json", rows)


def _vision_flan(root: Path) -> None:
    names = [f"CINIC-10+image_classification_{at}.png" for at in range(3)]
    _pictures(root / "vision-flan" / "images_191task_1k", *names)
    rows = [
        {
            "id": Path(one).stem,
            "image": one,
            "conversations": _said(f"Name the object.\nOptions: {at}\n<image>", "truck"),
        }
        for at, one in enumerate(names)
    ]
    _json(root / "vision-flan" / "annotation_191-task_1k.json", rows)


PLACES = {
    "scienceqa": ("ScienceQA/ScienceQA-FULL", "test", ("train", "validation")),
    "okvqa": ("OK-VQA/data", "val2014", ()),
    "aokvqa": ("A-OKVQA/data", "validation", ("test", "train")),
    "refcoco": ("RefCOCO/data", "testA", ("test", "testB", "val")),
    "refcoco-plus": ("RefCOCOplus/data", "testA", ("testB", "val")),
    "refcocog": ("RefCOCOg/data", "test", ("val",)),
    "mmmu": ("MMMU/data", "validation", ("dev", "test")),
    "mmlu": ("mmlu/all", "test", ("auxiliary_train", "dev", "validation")),
}
"""Folder and split of a preset, and the splits beside it."""


def _evaluations(root: Path) -> None:
    """Parquet by split, all of one form, so that nothing but its name tells a wrong one. GQA has its pictures apart."""
    for name, (folder, split, others) in PLACES.items():
        _parquet(root / folder / f"{split}-00000-of-00001.parquet", ROWS[name])
        for one in others:
            rows = [row | ({"answer": [HELD_OUT]} if "bbox" in row else {"question": HELD_OUT}) for row in ROWS[name]]
            _parquet(root / folder / f"{one}-00000-of-00001.parquet", rows)
    _parquet(root / "GQA/testdev_balanced_instructions/testdev-00000-of-00001.parquet", ROWS["gqa"])
    shown = [{"id": "n1", "image": picture(colour="green")}]
    _parquet(root / "GQA/testdev_balanced_images/testdev-00000-of-00001.parquet", shown)
