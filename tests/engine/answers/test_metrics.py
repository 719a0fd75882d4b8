"""Each metric against the few lines that define it, and what an unreadable answer costs."""

import itertools
import re
from typing import get_args

import numpy as np
import pytest
import sacrebleu

from liit.engine.answers.metrics import score
from liit.engine.settings.sections import Metric

SOUND: dict[Metric, tuple[str, str, str]] = {
    "exact": ("seven", "eight", ""),
    "vqa": ("seven", "eight", "?!"),
    "choice": ("B", "C", "I do not know"),
    "number": ("7", "8", "many"),
    "iou": ("[0, 0, 4, 4]", "[5, 5, 6, 6]", "top left"),
    "bleu": ("the red digit is a seven", "nothing at all like this one", " "),
    "bleu-zh": ("红色的数字是七", "绿蓝黄黑白灰紫", " "),
}
"""A right answer, a wrong one, and one that cannot be read."""


@pytest.mark.parametrize("metric", get_args(Metric))
def test_right_is_100_wrong_is_0_and_unreadable_is_0_and_counted(metric: Metric) -> None:
    right, wrong, unreadable = SOUND[metric]
    best = score(metric, [right], [[right]])
    assert best.value == pytest.approx(100)
    assert max(best.value, *best.values, 0.0) <= 100
    mixed = score(metric, [right, wrong, unreadable], [[right]] * 3)
    assert mixed.values == pytest.approx([100, 0, 0], abs=5)
    assert mixed.parse_failures == 1
    assert 0 < mixed.value < 100


@pytest.mark.parametrize("metric", ["exact", "vqa", "choice", "number", "iou"])
def test_an_unreadable_answer_costs_as_much_as_a_wrong_one(metric: Metric) -> None:
    right, wrong, unreadable = SOUND[metric]
    scores = [score(metric, [right, other], [[right]] * 2) for other in (wrong, unreadable)]
    assert [found.value for found in scores] == [50, 50]
    assert [found.parse_failures for found in scores] == [0, 1]


@pytest.mark.parametrize("metric", get_args(Metric))
def test_a_permuted_data_set_gives_the_permuted_values_and_the_same_value(metric: Metric) -> None:
    right, wrong, unreadable = SOUND[metric]
    answers, references = [right, wrong, unreadable, right], [[right], [right], [right], [wrong, right]]
    whole = score(metric, answers, references)
    for order in itertools.permutations(range(4)):
        found = score(metric, [answers[i] for i in order], [references[i] for i in order])
        assert found.values == [whole.values[i] for i in order]
        assert found.value == pytest.approx(whole.value, abs=1e-9)


@pytest.mark.parametrize(
    ("metric", "answers", "references", "message"),
    [
        ("rouge", ["a"], [["a"]], "unknown metric 'rouge'; known are exact"),
        ("exact", [], [], "0 answers and 0 lists"),
        ("exact", ["a"], [["a"], ["b"]], "1 answers and 2 lists"),
        ("exact", ["a", "b"], [["a"], []], "answer 1 has no reference"),
        ("choice", ["A"], [["perhaps"]], "reference 'perhaps' holds no option letter"),
        ("number", ["1"], [["one"]], "reference 'one' holds no number"),
        ("iou", ["[0, 0, 1, 1]"], [["left"]], "reference 'left' holds no box"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    metric: Metric, answers: list[str], references: list[list[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        score(metric, answers, references)


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("  Seven. ", "seven", True),
        ("“seven”", "Seven!", True),
        ("Ｓｅｖｅｎ", "seven", True),
        ("七。", "七", True),
        ("a  red\nseven", "a red seven", True),
        ("seven", "seventh", False),
        (".5", "5", False),
        ("-5", "5", False),
        ("a seven", "seven", False),
    ],
)
def test_exact_ignores_case_width_spaces_and_outer_punctuation_only(answer: str, reference: str, same: bool) -> None:
    assert score("exact", [answer], [[reference]]).value == 100 * same
    assert score("exact", [reference], [["another", answer]]).value == 100 * same


def test_vqa_is_the_mean_over_the_subsets_of_nine_of_ten_humans() -> None:
    for agreeing in range(11):
        humans = ["two"] * agreeing + [f"other {number}" for number in range(10 - agreeing)]
        subsets = itertools.combinations(humans, 9)
        expected = np.mean([min(sum(human == "two" for human in nine) / 3, 1) for nine in subsets])
        assert score("vqa", ["two"], [humans]).value == pytest.approx(100 * expected)


def test_vqa_with_few_references_needs_one_match() -> None:
    assert score("vqa", ["two", "two"], [["two"], ["three", "four", "2"]]).value == 100


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("The two dogs.", "2 dogs", True),
        ("it's red", "It's red!", True),
        ("1,000", "1000", True),
        ("2.5", "25", False),
        ("black-and-white", "black and white", True),
        ("theater", "ater", False),
        ("红色", "红色", True),
    ],
)
def test_vqa_compares_words_without_articles_and_punctuation(answer: str, reference: str, same: bool) -> None:
    assert score("vqa", [answer], [[reference]]).value == 100 * same


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        *((text, "B") for text in ("B", "b", "(B)", "B.", " B ", "(b).", "B:", "B. a dog", "B) a dog", "(B) a dog")),
        *(
            (text, "B")
            for text in ("The answer is B.", "Answer: B", "answer is (B) a dog", "I choose option B", "B: x")
        ),
        ("B. The answer is B.", "B"),
        ("A. The answer is B.", None),
        ("The answer is A cat", None),
        ("A cat", None),
        ("A or B", None),
        ("Because", None),
        ("K", None),
        ("B.C. 44", None),
        ("", None),
    ],
)
def test_choice_reads_one_letter_or_none(answer: str, letter: str | None) -> None:
    found = score("choice", [answer], [["B"]])
    assert found.value == 100 * (letter == "B")
    assert found.parse_failures == (letter is None)


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("7", 7),
        ("It is 7.", 7),
        ("3 + 4 = 7", 7),
        ("-7", -7),
        ("−7", -7),
        ("9-7", 7),
        ("1,234", 1234),
        ("1, 2", 2),
        ("1,234,567.5 metres", 1234567.5),
        (".5", 0.5),
        ("7.0", 7),
        ("2e3", 2000),
        ("７", 7),
        ("1e999", None),
        ("seven", None),
        ("...", None),
    ],
)
def test_number_reads_the_last_number(answer: str, number: float | None) -> None:
    found = score("number", [answer, answer], [[repr(number or 0.0)], ["987654"]])
    assert found.values == [100.0 * (number is not None), 0.0]
    assert found.parse_failures == 2 * (number is None)


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
        shrunk = [str([side / 10 for side in box]) for box in boxes.tolist()]
        assert score("iou", [f"It is at {shrunk[0]}."], [[shrunk[1]]]).value == pytest.approx(expected)


def test_iou_reports_the_share_above_one_half_and_takes_the_best_reference() -> None:
    answers = ["[0, 0, 2, 2]", "[0, 0, 1, 2]", "[0, 0, 2, 1.2]", "none"]
    found = score("iou", answers, [["[7, 7, 8, 8]", "[0, 0, 2, 2]"]] * 4)
    assert found.values == pytest.approx([100, 50, 60, 0])
    assert found.value == pytest.approx(52.5)
    assert found.extra == {"acc@0.5": 50.0}
    assert found.parse_failures == 1


@pytest.mark.parametrize("answer", ["[2, 2, 0, 0]", "[0, 0, 0, 2]", "[1, 1, 1, 1]"])
def test_a_box_without_area_is_read_and_overlaps_nothing(answer: str) -> None:
    found = score("iou", [answer], [["[0, 0, 2, 2]"]])
    assert (found.value, found.parse_failures) == (0, 0)


@pytest.mark.parametrize("answer", ["[0, 0, 2]", "[0, 0, 2, 2", "[a, 0, 2, 2]", "[0, 0, 2, 2, 2]", "[1.2.3, 0, 2, 2]"])
def test_a_broken_box_is_counted(answer: str) -> None:
    assert score("iou", [answer], [["[0, 0, 2, 2]"]]).parse_failures == 1


@pytest.mark.parametrize(("metric", "tokenizer"), [("bleu", "13a"), ("bleu-zh", "zh")])
def test_bleu_is_the_corpus_bleu_of_sacrebleu(metric: Metric, tokenizer: str) -> None:
    answers = ["红色的数字是七，在左边。", "the digit on the left is a seven.", "绿色的数字是三。"]
    both = ["the digit on the right is a seven.", "it is a seven, on the left."]
    references = [["红色的数字是七，在右边。"], both, ["三"]]
    columns = [[accepted[min(n, len(accepted) - 1)] for accepted in references] for n in range(2)]
    found = score(metric, answers, references)
    assert found.value == pytest.approx(sacrebleu.corpus_bleu(answers, columns, tokenize=tokenizer).score)
    for answer, accepted, value in zip(answers, references, found.values, strict=True):
        assert value == pytest.approx(sacrebleu.sentence_bleu(answer, accepted, tokenize=tokenizer).score)
    assert found.value != pytest.approx(np.mean(found.values))
    assert found.extra["mean_sentence_bleu"] == pytest.approx(np.mean(found.values))


def test_a_right_answer_too_short_for_four_words_is_shown_as_100() -> None:
    assert score("bleu", ["a seven"], [["a seven"]]).values == [100]
