"""Which option an answer chooses, however it says so."""

import pytest

from liit.engine.answers.choices import options_in
from liit.engine.answers.metrics import score

QUESTION = "Which one barks?\nA. a cat\nB. a dog\nC. red\nD. dark red\nAnswer with the option's letter."


@pytest.mark.parametrize(
    ("answer", "letter"),
    [
        *(
            (text, "B")
            for text in ("B", "b", "(B)", "[B]", "B.", " B ", "(b).", "B:", "B. a dog", "B) a dog", "(B) a dog")
        ),
        *(
            (text, "B")
            for text in ("The answer is B.", "Answer: B", "answer is (B) a dog", "I choose option B", "B: x")
        ),
        *(
            (text, "B")
            for text in ("**B**", "**B.** a dog", "$\\boxed{B}$", "\\boxed{\\text{B}}", "<answer>B</answer>")
        ),
        *((text, "B") for text in ("B because it barks", "B, since it barks", "B\nIt barks.", "B - a dog")),
        *((text, "B") for text in ("answer: b", "**Answer:** B", "The correct option is B", "I'd pick B.")),
        *((text, "B") for text in ("答案是B", "答案：（B）", "正确答案为Ｂ。", "故选B", "我选择选项B")),
        ("B. The answer is B.", "B"),
        ("The answer is A. Wait, the answer is B.", "B"),
        ("Option A is wrong, so the answer is B", "B"),
        ("The answer is B, since option A is wrong", "B"),
        ("Consider \\boxed{A}. No: \\boxed{B}", "B"),
        ("A. The answer is B.", None),
        ("The answer is A cat", None),
        ("A cat", None),
        ("I, as a model, cannot say", None),
        ("A or B", None),
        ("A, B and C", None),
        ("Option A or option B", None),
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
    ("answer", "letter"),
    [
        ("a dog", "B"),
        ("A dog.", "B"),
        ("It must be a dog!", "B"),
        ("The answer is a dog", "B"),
        ("It is dark red.", "D"),
        ("it is red", "C"),
        ("A cat", "A"),
        ("a cat or a dog", None),
        ("the dogs", None),
        ("E", None),
        ("B", "B"),
    ],
)
def test_the_text_of_an_option_chooses_it_where_the_question_lists_them(answer: str, letter: str | None) -> None:
    found = [score("choice", [answer], [[one]], questions=[QUESTION]) for one in "ABCD"]
    assert [one.value for one in found] == [100 * (one == letter) for one in "ABCD"]
    assert {one.parse_failures for one in found} == {int(letter is None)}


def test_a_number_among_the_options_is_not_found_within_another() -> None:
    question = "How much?\n(A) 1\n(B) 1.5\n(C) 15"
    answers = ["It is 1.", "1.5 exactly", "about 15", "15.1", "21"]
    found = score("choice", answers, [["A"], ["B"], ["C"], ["C"], ["A"]], questions=[question] * 5)
    assert found.values == [100, 100, 100, 0, 0]
    assert found.parse_failures == 2


def test_options_are_the_last_list_of_the_question() -> None:
    assert options_in(QUESTION) == {"A": "a cat", "B": "a dog", "C": "red", "D": "dark red"}
    assert options_in("A. old\nB. list\nNow:\n(A) one\n(B) two\n(C) three")["C"] == "three"
    assert options_in("A. Smith wrote it.\nWhy?") == {}
    assert list(options_in("\n".join(f"({chr(65 + at)}) word{at}" for at in range(14))))[-1] == "N"


def test_a_letter_beyond_the_options_is_no_answer_and_a_reference_beyond_them_is_refused() -> None:
    wide = "\n".join(f"({chr(65 + at)}) word{at}" for at in range(14))
    assert score("choice", ["N"], [["N"]], questions=[wide]).value == 100
    with pytest.raises(ValueError, match="reference 'N' holds no option letter"):
        score("choice", ["N"], [["N"]], questions=[QUESTION])
