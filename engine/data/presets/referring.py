"""The box of what an expression refers to: RefCOCO, RefCOCO+, RefCOCOg."""

import os
from collections.abc import Mapping
from io import BytesIO

from PIL import Image

from liit.engine.data.presets.rows import Row, asked
from liit.engine.data.readers.images import FORMATS

WHERE = (
    "Bounding box coordinates are specified in the format (top-left x, top-left y, bottom-right x, bottom-right y). "
    "All values are floating point numbers bounded between 0 and 1. "
    "Please provide the bounding box coordinate of the region this sentence describes: "
)


def refcoco(row: Row) -> list[Row]:
    """lmms-eval `refcoco_bbox_rec_testA` and its sisters: every expression of a box is a sample.

    The publisher's box is x, y, width and height in pixels; the reference is its corners as shares of the picture's sides, the
    answer the same to two decimals, as LLaVA-1.5 writes it.
    """
    width, height = _size(row["image"])
    x, y, w, h = row["bbox"]
    corners = (x / width, y / height, (x + w) / width, (y + h) / height)
    reference, answer = _written(corners, 6), _written(corners, 2)
    return [
        asked(WHERE + text, [reference], images=[row["image"]], answer=answer, name=f"{row['question_id']}-{at}")
        for at, text in enumerate(row["answer"])
    ]


def _written(corners: tuple[float, ...], digits: int) -> str:
    return f"[{', '.join(f'{side:.{digits}f}' for side in corners)}]"


def _size(image: object) -> tuple[int, int]:
    """Width and height by the picture's header. Raises ValueError where it is not within the row."""
    data = image.get("bytes") if isinstance(image, Mapping) else None
    if not isinstance(data, bytes):
        kind = os.path.basename(str(image))[:80] if isinstance(image, str) else type(image).__name__
        raise ValueError(f"missing image: boxes in pixels need the picture itself in the row, not {kind!r}")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as picture:
            return picture.size
    except OSError as error:
        raise ValueError(f"not an image: {error}") from error
