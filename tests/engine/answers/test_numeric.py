"""The last number of an answer, whatever it is written with."""

import pytest

from liit.engine.answers.metrics import score
from liit.engine.answers.numeric import last_number
from liit.engine.settings.metric_options import Numbers


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("7", 7),
        ("It is 7.", 7),
        ("3 + 4 = 7", 7),
        ("-7", -7),
        ("−7", -7),
        ("9-7", 7),
        ("5–7", 7),
        ("1,234", 1234),
        ("1, 2", 2),
        ("1,234,567.5 metres", 1234567.5),
        ("1\u202f234", 1234),
        (".5", 0.5),
        ("7.0", 7),
        ("2e3", 2000),
        ("3 × 10⁵", 300000),
        ("3 \\times 10^{-2}", 0.03),
        ("10²", 100),
        ("2^10", 1024),
        ("７", 7),
        ("٣٫٥", 3.5),
        ("答案是7个", 7),
        ("1/2", 0.5),
        ("½", 0.5),
        ("1½", 1.5),
        ("-1 1/2", -1.5),
        ("1,000/4", 250),
        ("\\boxed{\\frac{3}{4}}", 0.75),
        ("on 10/12/2020", 2020),
        ("So it is $1,250.00", 1250),
        ("-$5", -5),
        ("US$5", 5),
        ("1{,}234\\,\\text{km}", 1234),
        ("25 cm²", 25),
        ("25 cm^2", 25),
        ("25 m2", 25),
        ("18 g of CO2", 18),
        ("50%", 50),
        ("#### 72", 72),
        ("1e999", None),
        ("1e" + "9" * 5000, None),
        ("1/0", None),
        ("CO2", None),
        ("seven", None),
        ("...", None),
    ],
)
def test_number_reads_the_last_number(answer: str, number: float | None) -> None:
    found = score("number", [answer, answer], [[repr(number or 0.0)], ["987654"]])
    assert found.values == [100.0 * (number is not None), 0.0]
    assert found.parse_failures == 2 * (number is None)


def test_different_numbers_with_the_same_unit_or_denominator_differ() -> None:
    assert score("number", ["25 cm²", "1/4"], [["36 cm²"], ["3/4"]]).values == [0, 0]


@pytest.mark.parametrize(
    ("text", "point", "comma"),
    [("1.250,5", 5, 1250.5), ("1,250.5", 1250.5, 5), ("3,5", 5, 3.5), ("7.5", 7.5, 7.5), ("1.250", 1.25, 1250)],
)
def test_what_separates_decimals_is_said_by_the_set(text: str, point: float, comma: float) -> None:
    assert last_number(text, Numbers()) == point
    if text != "1,250.5":
        assert last_number(text, Numbers(decimal="comma")) == comma


def test_a_percent_is_a_unit_or_a_hundredth_as_the_set_says() -> None:
    for percent, worth in (("unit", [100, 0]), ("hundredth", [0, 100])):
        found = score("number", ["50 %", "50 per cent"], [["50"], ["0.5"]], {"percent": percent})
        assert found.values == worth


def test_long_answers_take_no_longer_than_their_length() -> None:
    for piece in ("a", "9", "1,", "1/", "a1/", " ", "e1", "\\frac{"):
        last_number(
            piece * 20_000, Numbers()
        )  # a second each would be felt: this test would take minutes if it were squared
