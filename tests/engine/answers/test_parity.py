"""The same answers judged by the field's own evaluators: equal, but for the differences that docs/reference/metrics.md lists."""

import random
import re
import shutil
import string
from typing import Any

import pytest

from liit.engine.answers.metrics import score
from liit.engine.answers.vqa import normal
from liit.engine.answers.words import caption_words
from tests.engine.answers.field import task

WORDS = (
    "red the a an two none seven dogs don't dont couldnt've it's 1,000 2.5 .5 5. 10:30 50% $5 black-and-white t-shirt "
    "u.s. yes, no! (left) c/d [x] what? \"so\" who's a&b x_y it; =3 <b> {z} re: 'twas @home `q` 3) 1.2.3 o'clock A.M."
)


def texts(count: int, seed: int) -> list[str]:
    draw, words = random.Random(seed), WORDS.split()
    return [" ".join(draw.choices(words, k=draw.randint(1, 4))) for _ in range(count)]


def test_vqa_normalises_as_the_official_evaluation() -> None:
    official = task("lmms_eval.tasks._task_utils.vqa_eval_metric", "loguru").EvalAIAnswerProcessor()
    for text in texts(4000, 0):
        expected = official.process_digit_article(official.process_punctuation(text.lower()))
        if expected:  # official: nothing is left of articles alone
            assert normal(text) == " ".join(expected.split()), text
    for short, proper in official.CONTRACTIONS.items():
        if short == short.lower():  # those with I are looked for in lower case, and never found
            assert normal(short) == normal(proper)


@pytest.mark.parametrize("name", ["vqav2", "ok_vqa", "textvqa", "vizwiz_vqa"])
def test_vqa_is_worth_what_lmms_eval_says(name: str) -> None:
    judge = getattr(task(f"lmms_eval.tasks.{name}.utils", "loguru"), f"{name}_process_results")
    draw, pool = random.Random(1), [text for text in texts(60, 1) if re.search(r"[b-z]{3}", text)]
    if name != "vqav2":  # their processor parts 's from a word, and glues what a comma parts
        pool = [text for text in pool if "'s" not in text and "," not in text]
    for number in range(400):
        few = draw.sample(pool, 3)
        humans, answer = draw.choices(few, k=10), draw.choice(few)
        answers = (
            [{"answer": one, "answer_id": at} for at, one in enumerate(humans)] if name == "vqav2" else list(humans)
        )
        expected = judge({"question_id": number, "answers": answers}, [answer])["exact_match"]
        assert score("vqa", [answer], [humans]).value == pytest.approx(100 * expected), (answer, humans)


@pytest.mark.parametrize(
    ("answer", "human", "theirs", "ours"),
    [
        ("-5", "5", 1, 0),
        ("c++", "c", 1, 0),
        ("the", "the", 1, 1),
        ("the", "a", 1, 0),
        ("红色。", "红色", 0, 1),
        ("ｒｅｄ", "red", 0, 1),
        ("don’t", "don't", 0, 1),
    ],
)
def test_vqa_differs_in_signs_and_scripts_only(answer: str, human: str, theirs: float, ours: float) -> None:
    judge = task("lmms_eval.tasks.vqav2.utils", "loguru").vqav2_process_results
    answers = [{"answer": human, "answer_id": at} for at in range(10)]
    assert judge({"question_id": 0, "answers": answers}, [answer])["exact_match"] == theirs
    assert score("vqa", [answer], [[human] * 10]).value == 100 * ours


OPTIONS = ["a cat", "a brown dog", "red", "dark red"]
ANSWERS = [
    *(
        "B",
        "(B)",
        "B.",
        "B. a brown dog",
        "(B) a brown dog",
        "The answer is B.",
        "The answer is (B).",
        "Answer: B",
        "B because it is",
    ),
    *("I think that it must be a brown dog in the end", "D", "The picture shows something that is dark red"),
]


def test_choice_reads_what_mmmu_s_own_parser_reads() -> None:
    parse = task("lmms_eval.tasks._task_utils.mmmu_mcq_utils").parse_mmmu_multi_choice_response
    question = "Which?\n" + "\n".join(f"{'ABCD'[at]}. {option}" for at, option in enumerate(OPTIONS))
    index = dict(zip("ABCD", OPTIONS, strict=True))
    for answer in ANSWERS:
        if answer.endswith("dark red"):
            continue  # `red` is within `dark red`: both are candidates there, and the first wins
        letter = parse(answer, list("ABCD"), index)
        assert score("choice", [answer], [[letter]], questions=[question]).value == 100, (answer, letter)


@pytest.mark.parametrize(
    ("answer", "theirs", "ours"),
    [
        ("A or B", "B", None),
        ("a brown dog", None, "B"),
        ("A cat, I would say", "A", "A"),
        ("A picture of something else", "A", None),
        ("The picture shows something that is dark red", "C", "D"),
        ("answer: b", None, "B"),
        ("Option A is wrong, so the answer is B", "B", "B"),
        ("The answer is B, as option A is wrong", "A", "B"),
        ("I do not know", None, None),
    ],
)
def test_choice_differs_where_a_letter_is_an_article_or_not_the_answer(
    answer: str, theirs: str | None, ours: str | None
) -> None:
    parse = task("lmms_eval.tasks._task_utils.mmmu_mcq_utils").parse_mmmu_multi_choice_response
    question = "Which?\n" + "\n".join(f"{'ABCD'[at]}. {option}" for at, option in enumerate(OPTIONS))
    index = dict(zip("ABCD", OPTIONS, strict=True))
    found = {parse(answer, list("ABCD"), index) for _ in range(60)}  # where it finds none it draws one
    assert found == ({theirs} if theirs else set("ABCD"))
    marks = {one: score("choice", [answer], [[one]], questions=[question]).value for one in "ABCD"}
    assert marks == {one: 100 * (one == ours) for one in "ABCD"}


def test_choice_is_worth_what_scienceqa_s_rule_says() -> None:
    judge = task("lmms_eval.tasks.scienceqa.utils").sqa_process_results
    doc = {"choices": ["cat", "dog"], "answer": 1}
    for answer in ("B", "b", "B. dog", "A", "A. cat", "B.", ""):
        expected = judge(doc, [answer])["exact_match"]
        assert score("choice", [answer], [["B"]]).value == 100 * expected, answer
    assert judge(doc, ["The answer is B."])["exact_match"] == 0, "which is right here"
    assert score("choice", ["The answer is B."], [["B"]]).value == 100


def test_open_questions_of_mmmu_are_worth_what_its_own_code_says() -> None:
    mmmu = task("lmms_eval.tasks.mmmu.utils", "loguru")
    draw = random.Random(2)
    ends = [
        "8",
        "8.0",
        "1,250",
        "-3.14159",
        "paris",
        "1/7",
        "$6,000",
        "2e3",
        "x",
        "a b",
        "0.14",
        "24/7",
        "12.",
        "none",
        "8 cm",
    ]
    starts = [
        "",
        "It is ",
        "So the answer is ",
        "Thus ",
        "Therefore, it could be ",
        "x = ",
        "First 3.\nThe result is ",
        "Is it? So ",
    ]
    for _ in range(2000):
        answer, reference = draw.choice(starts) + draw.choice(ends), draw.choice(ends)
        expected = mmmu.eval_open(reference, mmmu.parse_open_response(answer))
        assert score("mmmu-open", [answer], [[reference]]).value == 100 * expected, (answer, reference)


def test_boxes_are_read_and_overlap_as_lmms_eval_says() -> None:
    refcoco = task("lmms_eval.tasks.refcoco.utils_rec", "datasets")
    draw = random.Random(3)
    for _ in range(500):
        boxes = [sorted(draw.random() for _ in range(2)) + sorted(draw.random() for _ in range(2)) for _ in range(2)]
        one, other = ([round(box[at], 3) for at in (0, 2, 1, 3)] for box in boxes)
        if min(other[2] - other[0], other[3] - other[1]) <= 0:
            continue
        answer = draw.choice(["It is at {}.", "{}", "[{}"]).format(one)
        told = refcoco.refcoco_bbox_rec_process_result({"question_id": 1, "answer": "dog", "bbox": other}, [answer])
        found = score("iou", [answer], [[str(other)]], {"scale": 1})
        assert found.value == pytest.approx(100 * refcoco.refcoco_bbox_rec_iou([told["refcoco_IoU"]]))
        share = score("iou@0.5", [answer], [[str(other)]], {"scale": 1})
        assert share.value == 100 * refcoco.refcoco_bbox_rec_acc05([told["refcoco_ACC@0.5"]])
    unread = refcoco.refcoco_bbox_rec_process_result({"question_id": 1, "answer": "dog", "bbox": other}, ["left"])
    assert refcoco.refcoco_bbox_rec_iou([unread["refcoco_IoU"]]) == score("iou", ["left"], [[str(other)]]).value == 0


def test_exact_is_the_exact_match_of_gqa_but_for_punctuation_within() -> None:
    def theirs(answer: str, reference: str) -> bool:
        """lmms-eval's exact_match with ignore_case and ignore_punctuation."""
        one, other = (text.lower().translate(str.maketrans("", "", string.punctuation)) for text in (answer, reference))
        return one == other

    outer = [
        ("Yes.", "yes"),
        ("no", "yes"),
        ("“left”", "left"),
        ("on the left", "left"),
        ('"yes"', "yes"),
        ("t-shirt", "t shirt"),
    ]
    for answer, reference in outer:
        if "“" not in answer:
            assert score("exact", [answer], [[reference]]).value == 100 * theirs(answer, reference)
    assert theirs("tshirt", "t-shirt")
    assert score("exact", ["tshirt"], [["t-shirt"]]).value == 0


def test_f1_is_that_of_the_harness_for_tydiqa() -> None:
    tydiqa = task("lm_eval.tasks.tydiqa.utils", "datasets")
    cases = [
        ("en", "in the year 1900", "1900"),
        ("en", "The red, red dog!", "a red dog"),
        ("ar", "الكلب الأحمر", "كلب أحمر"),
        ("ru", "в 1900 году", "1900 год"),
        ("fi", "vuonna 1900.", "vuonna 1900"),
        ("te", "రెండు కుక్కలు", "రెండు"),
        ("ko", "1900년에", "1900년"),
        ("bn", "১৯০০ সালে।", "১৯০০ সালে"),
    ]
    for language, answer, reference in cases:
        expected = tydiqa.f1_score(answer, reference, language)
        assert score("f1", [answer], [[reference]]).value == pytest.approx(100 * expected), answer


CAPTIONS = [
    ("A dog runs on the beach.", ["A dog is running on the beach.", "Two dogs on a beach", "a dog runs"]),
    ("A man in a red T-shirt, smiling", ["A man wearing a red t-shirt.", "the man's red shirt"]),
    ("a dog a dog a dog", ["a dog", "a cat sits on a mat in the sun and sleeps all day"]),
    ("two boats", ["They don't move: 2 boats on the water!", "boats"]),
]


def test_cider_and_rouge_l_are_those_of_the_coco_caption_evaluation() -> None:
    answers, references = [answer for answer, _ in CAPTIONS], [texts for _, texts in CAPTIONS]
    tokens: Any = {at: [" ".join(caption_words(answer))] for at, answer in enumerate(answers)}
    wanted: Any = {at: [" ".join(caption_words(text)) for text in texts] for at, texts in enumerate(references)}
    for metric, scorer, scale in (
        ("cider", task("pycocoevalcap.cider.cider").Cider(), 100),
        ("rouge-l", task("pycocoevalcap.rouge.rouge").Rouge(), 100),
    ):
        value, values = scorer.compute_score(wanted, tokens)
        found = score(metric, answers, references)
        assert found.values == pytest.approx([scale * one for one in values])
        assert found.value == pytest.approx(scale * value)


def test_captions_have_the_words_that_the_ptb_tokenizer_gives_them() -> None:
    ptb = task("pycocoevalcap.tokenizer.ptbtokenizer")
    if shutil.which("java") is None:
        pytest.skip("the PTB tokenizer of pycocoevalcap needs java")
    every = [text for answer, texts in CAPTIONS for text in [answer, *texts]]
    every += [
        "It's 10:30, and they're in the U.S. (again)",
        'A sign says "STOP"',
        "1,000 people aren't here",
        "a man's hand",
    ]
    told = ptb.PTBTokenizer().tokenize({at: [{"caption": text}] for at, text in enumerate(every)})
    parted = {
        at: text for at, text in enumerate(every) if "U.S." not in text and "(" not in text
    }  # kept as u.s. and -lrb- there
    for at, text in parted.items():
        assert " ".join(caption_words(text)) == told[at][0]


def test_a_number_is_the_one_that_the_harness_extracts_for_gsm8k() -> None:
    flexible = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")

    def theirs(answer: str, reference: str) -> bool:
        """`flexible-extract` and its exact match: the last match, without commas, dollars and a last point, as text."""
        found = [group for match in flexible.findall(answer) for group in match if group]
        return bool(found) and re.sub(r"[,$]|\.$", "", found[-1]) == re.sub(r"[,$]|\.$", "", reference)

    for answer in ("so 4.", "#### 4", "It is $1,250.", "-3", "18 eggs", "3 + 4 = 7", "the answer is 12,000", "none"):
        for reference in ("4", "1,250", "-3", "18", "7", "12000"):
            assert score("number", [answer], [[reference]]).value == 100 * theirs(answer, reference), (
                answer,
                reference,
            )
    for answer, reference, their, our in (
        ("18.0", "18", False, True),
        ("25 cm2", "25", False, True),
        ("1/2", "0.5", False, True),
    ):
        assert theirs(answer, reference) == their
        assert score("number", [answer], [[reference]]).value == 100 * our
