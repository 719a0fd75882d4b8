"""What holds for every metric, and what is refused before anything is scored."""

import itertools
import re
from typing import Any

import pytest

from liit.engine.answers.metrics import METRICS, accepted_answers, check_references, question_of, score
from liit.engine.answers.text import bare, plain, spoken
from liit.engine.settings.metric_options import METRICS as KNOWN
from liit.engine.settings.streams import Metric

SOUND: dict[Metric, tuple[str, str, str]] = {
    "exact": ("seven", "eight", ""),
    "vqa": ("seven", "eight", "?!"),
    "choice": ("B", "C", "I do not know"),
    "number": ("7", "8", "many"),
    "f1": ("a red seven", "blue", "?!"),
    "mmmu-open": ("seven", "eight", " "),
    "iou": ("[0, 0, 4, 4]", "[5, 5, 6, 6]", "top left"),
    "iou@0.5": ("[0, 0, 4, 4]", "[5, 5, 6, 6]", "top left"),
    "bleu": ("the red digit is a seven", "nothing at all like this one", " "),
    "bleu-zh": ("红色的数字是七", "绿蓝黄黑白灰紫", " "),
    "rouge-l": ("the red digit is a seven", "nothing at all like this one", "?!"),
}
"""A right answer, a wrong one, and one that cannot be read."""


def test_every_metric_has_options_and_an_implementation() -> None:
    assert set(KNOWN) == {*METRICS, "stored"}
    assert set(SOUND) == {*METRICS} - {"cider", "judge"}, "which are of a corpus, and of another model"


@pytest.mark.parametrize("metric", SOUND)
def test_right_is_100_wrong_is_0_and_unreadable_is_0_and_counted(metric: Metric) -> None:
    right, wrong, unreadable = SOUND[metric]
    best = score(metric, [right], [[right]])
    assert best.value == pytest.approx(100)
    assert max(best.value, *best.values, 0.0) <= 100
    mixed = score(metric, [right, wrong, unreadable], [[right]] * 3)
    assert mixed.values == pytest.approx([100, 0, 0], abs=5)
    assert mixed.parse_failures == 1
    assert 0 < mixed.value < 100


@pytest.mark.parametrize("metric", [name for name in SOUND if not name.startswith("bleu")])
def test_an_unreadable_answer_costs_as_much_as_a_wrong_one(metric: Metric) -> None:
    right, wrong, unreadable = SOUND[metric]
    scores = [score(metric, [right, other], [[right]] * 2) for other in (wrong, unreadable)]
    assert [found.value for found in scores] == [50, 50]
    assert [found.parse_failures for found in scores] == [0, 1]


@pytest.mark.parametrize("metric", SOUND)
def test_a_permuted_data_set_gives_the_permuted_values_and_the_same_value(metric: Metric) -> None:
    right, wrong, unreadable = SOUND[metric]
    answers, references = [right, wrong, unreadable, right], [[right], [right], [right], [wrong, right]]
    whole = score(metric, answers, references)
    for order in itertools.permutations(range(4)):
        found = score(metric, [answers[i] for i in order], [references[i] for i in order])
        assert found.values == [whole.values[i] for i in order]
        assert found.value == pytest.approx(whole.value, abs=1e-9)


@pytest.mark.parametrize("metric", SOUND)
def test_what_was_thought_is_not_judged_and_a_thought_without_end_is_no_answer(metric: Metric) -> None:
    right, wrong, _ = SOUND[metric]
    answers = [f"<think>{wrong}</think>\n{right}", f"{wrong}</think>{right}", f"<think>{right}"]
    found = score(metric, answers, [[right]] * 3)
    assert found.values == pytest.approx([100, 100, 0])
    assert found.parse_failures == 1


@pytest.mark.parametrize("metric", SOUND)
def test_a_pattern_says_what_of_an_answer_is_judged(metric: Metric) -> None:
    right, wrong, _ = SOUND[metric]
    answers = [f"{wrong}. The result: {wrong}\nThe result: {right}", f"It is {right}"]
    found = score(metric, answers, [[right]] * 2, {"pattern": r"The result: (.*)"})
    assert found.values == pytest.approx([100, 0])
    assert found.parse_failures == 1


@pytest.mark.parametrize(
    ("metric", "answers", "references", "message"),
    [
        ("rouge", ["a"], [["a"]], "unknown metric 'rouge'; known are exact"),
        ("exact", [], [], "0 answers and 0 lists"),
        ("exact", ["a"], [["a"], ["b"]], "1 answers and 2 lists"),
        ("exact", ["a", "b"], [["a"], []], "answer 1 has no reference"),
        ("choice", ["A"], [["perhaps"]], "reference 'perhaps' holds no option letter (A to J)"),
        ("number", ["1"], [["one"]], "reference 'one' holds no number"),
        ("iou", ["[0, 0, 1, 1]"], [["left"]], "reference 'left' holds no box [x1, y1, x2, y2]"),
        ("stored", ["a"], [["a"]], "stored answers have no value"),
    ],
)
def test_what_cannot_be_scored_is_refused(
    metric: Metric, answers: list[str], references: list[list[str]], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        score(metric, answers, references)


@pytest.mark.parametrize("metric", KNOWN)
def test_references_are_checked_without_an_answer_and_without_asking_anybody(metric: Metric) -> None:
    options = {"base_url": "http://127.0.0.1:9/v1", "model": "nobody"} if metric == "judge" else {}
    reference = SOUND.get(metric, ("text", "", ""))[0]
    check_references(metric, [reference], options)
    if metric != "stored":
        with pytest.raises(ValueError, match="no reference"):
            check_references(metric, [], options)


def test_references_are_the_row_s_else_its_last_answer_and_a_question_alone_has_none() -> None:
    asked, told = {"role": "user", "text": "<image>\nWhich?"}, {"role": "assistant", "text": "seven"}
    row: dict[str, Any] = {"conversation": [asked, told], "references": None}
    assert accepted_answers(row) == ["seven"]
    assert accepted_answers({**row, "references": ["7", "seven"]}) == ["7", "seven"]
    assert accepted_answers({**row, "conversation": [asked]}) == []
    assert question_of(row) == question_of({**row, "conversation": [asked]}) == "Which?"


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("  Seven. ", "seven", True),
        ("“seven”", "Seven!", True),
        ("Ｓｅｖｅｎ", "seven", True),
        ("七。", "七", True),
        ("a  red\nseven", "a red seven", True),
        ("(A)", "A", True),
        ("(A).", "a", True),
        ("seven", "seventh", False),
        (".5", "5", False),
        ("-5", "5", False),
        ("a seven", "seven", False),
        ("10²", "102", False),
        ("x₁", "x1", False),
        ("1½", "11/2", False),
        ("] ]", "]", False),
        ("( [ ] )", "[ ]", False),
    ],
)
def test_exact_ignores_case_width_spaces_outer_punctuation_and_one_pair_of_brackets_only(
    answer: str, reference: str, same: bool
) -> None:
    assert score("exact", [answer], [[reference]]).value == 100 * same
    assert score("exact", [reference], [["another", answer]]).value == 100 * same


def test_plain_text_is_nfkc_but_for_what_nfkc_makes_something_else_of() -> None:
    assert plain("ﬁne ｶﾀｶﾅ Ⅷ e\u0301") == "fine カタカナ VIII é"
    assert plain("cm² H₂O ½ लाल") == "cm² H₂O ½ लाल"
    assert spoken("a</think>b</think> c") == " c"
    assert bare("...") == "..."
