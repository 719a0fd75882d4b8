"""Overlap of boxes against counted cells, and boxes as models write them."""

import re
from typing import Any

import numpy as np
import pytest

from liit.engine.answers.metrics import check_references, score


def test_iou_counts_cells_that_two_boxes_share() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        boxes = np.sort(generator.integers(0, 9, (2, 2, 2)), axis=1).reshape(2, 4)  # (box, x1 y1 x2 y2)
        if (boxes[:, :2] >= boxes[:, 2:]).any():
            continue
        cells = [{(x, y) for x in range(x1, x2) for y in range(y1, y2)} for x1, y1, x2, y2 in boxes.tolist()]
        expected = 100 * len(cells[0] & cells[1]) / len(cells[0] | cells[1])
        answer, reference = (str(box) for box in boxes.tolist())
        assert score("iou", [answer], [[reference]]).value == pytest.approx(expected)
        assert score("iou@0.5", [answer], [[reference]]).value == 100 * (expected >= 50)
        shrunk = [str([side / 10 for side in box]) for box in boxes.tolist()]
        assert score("iou", [f"It is at {shrunk[0]}."], [[shrunk[1]]]).value == pytest.approx(expected)
        sized = [str([x1, y1, x2 - x1, y2 - y1]) for x1, y1, x2, y2 in boxes.tolist()]
        assert score("iou", [sized[0]], [[sized[1]]], {"box": "xywh"}).value == pytest.approx(expected)


def test_mean_and_share_of_one_half_are_two_metrics_each_with_the_other_beside_it() -> None:
    answers = ["[0, 0, 2, 2]", "[0, 0, 1, 2]", "[0, 0, 2, 1.2]", "[0, 0, 0.5, 2]", "none"]
    references = [["[7, 7, 8, 8]", "[0, 0, 2, 2]"]] * 5
    mean, share = (score(metric, answers, references) for metric in ("iou", "iou@0.5"))
    assert mean.values == pytest.approx([100, 50, 60, 25, 0])
    assert share.values == [100, 100, 100, 0, 0], "one half is found"
    assert (mean.value, mean.extra["acc@0.5"]) == pytest.approx((47, 60))
    assert (share.value, share.extra["mean_iou"]) == pytest.approx((60, 47))
    assert mean.parse_failures == share.parse_failures == 1


@pytest.mark.parametrize("answer", ["[2, 2, 0, 0]", "[0, 0, 0, 2]", "[1, 1, 1, 1]"])
def test_a_box_without_area_is_read_and_overlaps_nothing(answer: str) -> None:
    found = score("iou", [answer], [["[0, 0, 2, 2]"]])
    assert (found.value, found.parse_failures) == (0, 0)


@pytest.mark.parametrize("answer", ["[0, 0, 2]", "[0, 0, 2, 2", "[a, 0, 2, 2]", "[0, 0, 2, 2, 2]", "[1.2.3, 0, 2, 2]"])
def test_a_broken_box_is_counted(answer: str) -> None:
    assert score("iou", [answer], [["[0, 0, 2, 2]"]]).parse_failures == 1


@pytest.mark.parametrize(
    ("answer", "options"),
    [
        ("<box>(100,200),(300,400)</box>", {"scale": 1000}),
        ("<ref>the dog</ref><box>[[100, 200, 300, 400]]</box>", {"scale": 1000}),
        ("(100, 200, 300, 400)", {"scale": 1000}),
        ("（100，200），（300，400）", {"scale": 1000}),
        ('{"bbox_2d": [100, 200, 300, 400], "label": "dog"}', {"scale": 1000}),
        ("[100, 200, 200, 200] and [0, 0, 1, 1]", {"scale": 1000, "box": "xywh"}),
        ("(100,200),(300,400)", {"scale": 1000, "box": "xywh"}),
        ("<loc_100><loc_200><loc_300><loc_400>", {"scale": 1000}),
        ("[0.1, 0.2, 0.3, 0.4]", {"scale": 1000, "answer_scale": 1}),
    ],
)
def test_boxes_are_read_as_models_write_them(answer: str, options: dict[str, Any]) -> None:
    reference = "[100, 200, 200, 200]" if options.get("box") == "xywh" else "[100, 200, 300, 400]"
    assert score("iou", [answer], [[reference]], options).values == [pytest.approx(100)]


def test_locations_have_y_first_and_a_scale_of_their_own() -> None:
    answer = "<loc0512><loc0256><loc1024><loc0768> dog"
    assert score("iou", [answer], [["[0.25, 0.5, 0.75, 1.0]"]], {"scale": 1}).value == pytest.approx(100)
    assert score("iou", [answer], [["[250, 500, 750, 1000]"]], {"scale": 1000}).value == pytest.approx(100)
    assert score("iou", [answer], [["[25, 50, 75, 100]"]]).parse_failures == 1, "pixels of what size is not known"


@pytest.mark.parametrize(
    ("reference", "options", "message"),
    [
        ("[300, 200, 50, 40]", {}, "has no area as xyxy; set options.box"),
        ("[300, 200, 0, 40]", {"box": "xywh"}, "has no area as xywh"),
        ("[10, 10, 20, 20]", {"scale": 1}, "goes beyond 1; set options.scale"),
        ("[10, 10, 2000, 20]", {"scale": 1000}, "goes beyond 1000"),
        ("left", {"box": "xywh"}, "holds no box [x, y, width, height]"),
    ],
)
def test_a_reference_that_is_no_box_of_its_set_is_refused_before_anything_is_answered(
    reference: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        check_references("iou", [reference], options)
