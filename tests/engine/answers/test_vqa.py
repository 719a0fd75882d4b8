"""The soft accuracy of VQA against its definition, and what its normalisation makes equal."""

import itertools

import numpy as np
import pytest

from liit.engine.answers.metrics import score
from liit.engine.answers.vqa import normal


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
        ("none", "0", True),
        ("it's red", "It's red!", True),
        ("dont", "don’t", True),
        ("couldnt've", "couldn't've", True),
        ("1,000", "1000", True),
        ("black-and-white", "black and white", True),
        ("red, blue", "red blue", True),
        ("红色。", "红色", True),
        ("«rouge»", "rouge", True),
        ("the", "the", True),
        ("A", "a", True),
        ("the", "a", False),
        ("were", "we're", False),
        ("2.5", "25", False),
        ("theater", "ater", False),
        ("-5", "5", False),
        ("−5", "-5", True),
        ("minus (-5)", "minus 5", False),
        ("3-5", "3 5", True),
        ("c++", "c", False),
        ("18+", "18", False),
        ("लाल", "लोल", False),
        ("नीला।", "नीला", True),
        ("שָׁלוֹם", "שלום", False),
    ],
)
def test_vqa_compares_words_without_articles_and_punctuation_in_every_script(
    answer: str, reference: str, same: bool
) -> None:
    assert score("vqa", [answer], [[reference]]).value == 100 * same


def test_normal_text_stays_as_it_is() -> None:
    for text in ("The two dogs.", "c++ -5", "it's the U.S.A.", "1,000 red, blue!", "couldn'tve", "नीला।", "a the"):
        assert normal(normal(text)) == normal(text)
