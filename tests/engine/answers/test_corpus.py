"""BLEU against sacreBLEU, CIDEr-D and ROUGE-L against their formulas written naively, F1 by hand."""

import math
from collections import Counter
from functools import cache

import numpy as np
import pytest
import sacrebleu

from liit.engine.answers.metrics import score
from liit.engine.answers.words import caption_words
from liit.engine.settings.streams import Metric


@pytest.mark.parametrize(("metric", "tokenizer"), [("bleu", "13a"), ("bleu-zh", "zh")])
def test_bleu_is_the_corpus_bleu_of_sacrebleu(metric: Metric, tokenizer: str) -> None:
    answers = ["红色的数字是七，在左边。", "the digit on the left is a seven.", "绿色的数字是三。"]
    both = ["the digit on the right is a seven.", "it is a seven, on the left."]
    references = [["红色的数字是七，在右边。"], both, ["三"]]
    columns = [[accepted[min(n, len(accepted) - 1)] for accepted in references] for n in range(2)]
    found = score(metric, answers, references)
    expected = sacrebleu.corpus_bleu(answers, columns, tokenize=tokenizer).score
    assert found.value == pytest.approx(expected)
    assert found.extra["corpus_bleu"] == pytest.approx(expected)
    for answer, accepted, value in zip(answers, references, found.values, strict=True):
        assert value == pytest.approx(sacrebleu.sentence_bleu(answer, accepted, tokenize=tokenizer).score)
    assert found.value != pytest.approx(np.mean(found.values))
    assert found.extra["mean_sentence_bleu"] == pytest.approx(np.mean(found.values))


def test_equal_texts_too_short_for_four_words_are_100_and_the_figure_of_all_orders_stands_beside_it() -> None:
    found = score("bleu", ["two dogs", "a seven", "red"], [["two dogs"], ["a seven"], ["red"]])
    assert found.values == [100, 100, 100]
    assert found.value == 100
    assert found.extra["corpus_bleu"] == 0


CAPTIONS = [
    ("a dog runs on the beach", ["A dog is running on the beach.", "Two dogs on a beach", "a dog runs"]),
    ("a man in a red t-shirt", ["A man wearing a red t-shirt.", "the man's red shirt"]),
    ("a dog a dog a dog", ["a dog", "a cat sits on a mat in the sun and sleeps all day"]),
    ("nothing alike", ["two boats on the water", "boats"]),
]


def naive_cider(answer: list[str], references: list[list[str]], corpus: list[list[list[str]]]) -> float:
    """CIDEr-D of one answer (Vedantam et al. 2015, eq. 1 to 3 and section 5), times 100."""

    def grams(words: list[str], n: int) -> list[tuple[str, ...]]:
        return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]

    def weights(words: list[str], n: int) -> dict[tuple[str, ...], float]:
        found = {}
        for gram in grams(words, n):
            pictures = sum(any(gram in grams(reference, n) for reference in texts) for texts in corpus)
            found[gram] = grams(words, n).count(gram) * math.log(len(corpus) / max(pictures, 1))
        return found

    total = 0.0
    for reference in references:
        for n in range(1, 5):
            one, other = weights(answer, n), weights(reference, n)
            above = sum(min(one[gram], other.get(gram, 0)) * other.get(gram, 0) for gram in one)
            below = math.hypot(*one.values()) * math.hypot(*other.values())
            total += (above / below if below else 0) * math.exp(-((len(answer) - len(reference)) ** 2) / 72)
    return 1000 * total / 4 / len(references)


def test_cider_is_its_formula() -> None:
    answers, references = [answer for answer, _ in CAPTIONS], [texts for _, texts in CAPTIONS]
    corpus = [[caption_words(text) for text in texts] for texts in references]
    expected = [naive_cider(caption_words(answer), mine, corpus) for answer, mine in zip(answers, corpus, strict=True)]
    found = score("cider", answers, references)
    assert found.values == pytest.approx(expected)
    assert found.value == pytest.approx(np.mean(expected))
    assert expected[0] > 100, "it is reported times 100, and goes above that"
    assert expected[3] == 0


def test_cider_of_a_corpus_s_own_captions_is_its_maximum_and_silence_is_counted() -> None:
    alone = [["a dog runs on sand"], ["the sea is very calm"], ["three men play cards outside"]]
    found = score("cider", [texts[0] for texts in alone], alone)
    assert found.values == pytest.approx([1000] * 3)
    silent = score("cider", ["", "the sea is very calm", "?!"], alone)
    assert silent.values == pytest.approx([0, 1000, 0])
    assert silent.parse_failures == 2


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    @cache
    def longest(one: tuple[str, ...], other: tuple[str, ...]) -> int:
        if not one or not other:
            return 0
        if one[0] == other[0]:
            return 1 + longest(one[1:], other[1:])
        return max(longest(one[1:], other), longest(one, other[1:]))

    for answer, references in CAPTIONS:
        words = tuple(caption_words(answer))
        shared = [(longest(words, tuple(caption_words(text))), len(caption_words(text))) for text in references]
        precision, recall = max(n / len(words) for n, _ in shared), max(n / size for n, size in shared)
        expected = 2.44 * precision * recall / (recall + 1.44 * precision) if precision else 0
        assert score("rouge-l", [answer], [references]).value == pytest.approx(100 * expected)


def test_words_of_a_caption_are_without_punctuation_and_contractions_are_parted() -> None:
    text = "The man's T-shirt, in 1,000 words: don't they’re «café» at 10:30!"
    assert " ".join(caption_words(text)) == "the man 's t-shirt in 1,000 words do n't they 're café at 10:30"


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        ("the red dog", "a Red dog!", 1),
        ("red dog", "red", 2 / 3),
        ("red red", "red", 2 / 3),
        ("الكلب الأحمر", "كلب أحمر", 1),
        ("the", "the", 1),
        ("नीला कुत्ता।", "नीला", 2 / 3),
        ("blue", "red", 0),
    ],
)
def test_f1_is_the_harmonic_mean_over_words(answer: str, reference: str, expected: float) -> None:
    assert score("f1", [answer], [["something else", reference]]).value == pytest.approx(100 * expected)


def test_f1_counts_words_as_often_as_they_are_there() -> None:
    one, other = list("abbcccx"), list("bbcde")
    shared = sum((Counter(one[1:]) & Counter(other)).values())  # `a` is an article
    expected = 2 * shared / (len(one) - 1 + len(other))
    assert score("f1", [" ".join(one)], [[" ".join(other)]]).value == pytest.approx(100 * expected)


@pytest.mark.parametrize(
    ("answer", "references", "right"),
    [
        ("8", ["8"], True),
        ("The total is $6,000.", ["$6,000"], True),
        ("So x = 0.1428", ["1/7", "0.14"], True),
        ("thus the answer is 1/7", ["1/7"], True),
        ("It is Paris\nSo the capital is paris, in France.", ["Paris"], True),
        ("a big cat", ["a"], True),
        ("abacus", ["a"], False),
        ("81", ["8"], False),
        ("London", ["Paris"], False),
    ],
)
def test_an_open_question_is_right_where_a_conclusion_holds_a_reference(
    answer: str, references: list[str], right: bool
) -> None:
    assert score("mmmu-open", [answer], [references]).value == 100 * right
