"""Captions: Flickr30k, TextCaps, and the Chinese ones that M3IT has of COCO-CN and Flickr8k-CN."""

import base64
import binascii

from liit.engine.data.presets.rows import Row, asked

CAPTION = "Provide a one-sentence caption for the provided image."


def flickr30k(row: Row) -> list[Row]:
    """lmms-eval `flickr30k_test`. Where rows say their split, those of others than Karpathy's test are none of this set."""
    if row.get("split") not in (None, "test"):
        return []
    return [asked(CAPTION, row["caption"], images=[row["image"]], name=row["img_id"])]


def textcaps(row: Row) -> list[Row]:
    """lmms-eval `textcaps_val`."""
    return [asked(CAPTION, row["caption_str"], images=[row["image"]], name=row["image_id"])]


def m3it(row: Row) -> list[Row]:
    """A row of M3IT (arXiv 2306.04387): the instruction, what it is about, pictures in base64, one caption."""
    question = "\n".join(part for part in (row["instruction"], row["inputs"]) if part)
    given = row["image_base64_str"]
    texts = given if isinstance(given, list) else [given]
    return [asked(question, [row["outputs"]], images=[{"bytes": _decoded(one), "path": None} for one in texts])]


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        raise ValueError(f"damaged image: image_base64_str is not base64 ({error})") from error
