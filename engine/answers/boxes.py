"""Boxes in answers: how models write them, and how far two overlap."""

import math
import re
import unicodedata
from collections.abc import Sequence

from liit.engine.answers.text import Asked
from liit.engine.settings.metric_options import Boxes

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 of two corners."""

HALF = 0.5
"""The overlap from which on a box counts as found (Yu et al. 2016, RefCOCO)."""

_NUMBER = r"\s*([-+]?(?:\d+(?:\.\d*)?|\.\d+))\s*"
_FOUR = ",".join([_NUMBER] * 4)
_LISTED = re.compile(rf"\[{_FOUR}\]|\({_FOUR}\)", re.ASCII)
_CORNERS = re.compile(rf"\({_NUMBER},{_NUMBER}\)\s*,?\s*\({_NUMBER},{_NUMBER}\)", re.ASCII)
_LOCATIONS = re.compile(r"<loc(\d{4})>\s*" * 4, re.ASCII)
_BINS = re.compile(r"<loc_(\d{1,3})>\s*" * 4, re.ASCII)


def iou(asked: Asked, options: Boxes) -> float | None:
    """Intersection over union of the answer's first box with the best reference, 0 to 1.

    Raises ValueError for a reference without box, without area, or outside the set's scale.
    """
    accepted = [_reference(reference, options) for reference in asked.references]
    box = box_in(asked.answer, options, answer=True)
    return None if box is None else max(overlap(box, reference) for reference in accepted)


def found(value: float) -> float:
    """1 for an overlap of one half or more."""
    return float(value >= HALF)


def share_found(values: Sequence[float]) -> dict[str, float]:
    return {"acc@0.5": 100 * math.fsum(map(found, values)) / len(values)}


def mean_overlap(values: Sequence[float]) -> dict[str, float]:
    return {"mean_iou": 100 * math.fsum(values) / len(values)}


def box_in(text: str, options: Boxes, answer: bool = False) -> Box | None:
    """The first box of a text in the scale of the set; None without one, or where its scale is not that of pixels.

    Read are `[a, b, c, d]` and `(a, b, c, d)` as `options.box` says, `(x1, y1), (x2, y2)`, `<loc0123>` four times (y before x, in
    1/1024, as PaliGemma writes it) and `<loc_123>` four times (in 1/1000, as Florence-2 does); whatever stands around them.
    """
    text = unicodedata.normalize("NFKC", text)
    for pattern, size in ((_LOCATIONS, 1024), (_BINS, 1000)):
        if tokens := pattern.search(text):
            a, b, c, d = (int(token) / size for token in tokens.groups())
            shares = (b, a, d, c) if size == 1024 else (a, b, c, d)
            return None if options.scale == "pixels" else _scaled(shares, options.scale)
    listed, corners = _LISTED.search(text), _CORNERS.search(text)
    if corners and not (listed and listed.start() < corners.start()):
        a, b, c, d = map(float, corners.groups())
    elif listed:
        a, b, c, d = (float(group) for group in listed.groups() if group is not None)
        if options.box == "xywh":
            c, d = a + c, b + d
    else:
        return None
    given = options.answer_scale if answer and options.answer_scale is not None else options.scale
    if given == options.scale or given == "pixels" or options.scale == "pixels":
        return (a, b, c, d)
    return _scaled((a, b, c, d), options.scale / given)


def _scaled(box: Box, factor: float) -> Box:
    a, b, c, d = box
    return (a * factor, b * factor, c * factor, d * factor)


def _reference(text: str, options: Boxes) -> Box:
    box = box_in(text, options)
    if box is None:
        form = "[x, y, width, height]" if options.box == "xywh" else "[x1, y1, x2, y2]"
        raise ValueError(f"reference {text!r:.200} holds no box {form}; correct it or choose another metric")
    if _area(box) <= 0:
        raise ValueError(f"reference {text!r:.200} has no area as {options.box}; set options.box, or correct it")
    if options.scale != "pixels" and max(box) > options.scale * 1.01:
        raise ValueError(f"reference {text!r:.200} goes beyond {options.scale}; set options.scale, or correct it")
    return box


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of continuous coordinates (no pixel is added); 0 where a box has no area."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if min(width, height, one[2] - one[0], one[3] - one[1]) <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(one) + _area(other) - shared)


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)
