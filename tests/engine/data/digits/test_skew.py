"""Skewed task sizes and many wordings: nothing changes without them, and the shipped skew is the published pools'."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from liit.engine.data.digits.releases import RELEASES, plan_stream, skewed
from liit.engine.data.digits.samples import released
from liit.engine.data.digits.tokenizer import pieces
from liit.engine.data.digits.wordings import ways
from liit.engine.settings.settling import settle
from liit.engine.settings.streams import DigitsStream

LLAVA = [158, 40, 83, 72, 9, 80, 66, 22, 48, 86]
"""Thousands of samples of each set of LLaVA-665K (arXiv 2310.03744, Table 7)."""
M3IT = {
    "captions": (679087, [566747, 97765, 14575]),
    "classification": (238303, [30000, 118312, 30000, 30000, 20000, 4991, 5000]),
    "VQA": (177633, [30000, 13568, 39463, 11414, 26074, 27113, 30001]),
    "knowledge": (39981, [9009, 17056, 12726, 1190]),
    "reasoning": (99372, [30000, 29372, 25000, 15000]),
    "generation": (145000, [5000, 50000, 90000]),
    "Chinese": (192076, [164735, 18341, 6000, 3000]),
    "video": (20868, [6513, 6513, 5994, 1848]),
}
"""Training samples of each kind of M3IT and of its sets, by its card."""
M3IT_SETS = [size for _, sizes in M3IT.values() for size in sizes]


def evenness(sizes: Sequence[float]) -> float:
    """Entropy of the shares over that of equal ones."""
    shares = np.array(sizes) / sum(sizes)
    return float(-(shares * np.log(shares)).sum() / np.log(len(sizes)))


def test_the_sets_sum_to_what_the_publishers_say() -> None:
    assert round(sum(LLAVA) / 665, 2) == 1
    for kind, (total, sizes) in M3IT.items():
        assert sum(sizes) == total, kind


def test_the_shipped_skew_is_the_power_whose_evenness_is_nearest_that_of_the_published_releases() -> None:
    shares = np.array([1000 * sum(LLAVA), sum(M3IT_SETS)]) / (1000 * sum(LLAVA) + sum(M3IT_SETS))
    published = np.array([evenness(LLAVA), evenness(M3IT_SETS)])

    def distance(skew: float) -> float:
        ours = np.array([evenness(skewed(release, skew)) for release in RELEASES[:2]])
        return float(shares @ (ours - published) ** 2)

    best = min(np.arange(10, 51) / 10, key=distance)
    shipped = settle(["digits-skewed.yaml"], None).stream
    assert isinstance(shipped, DigitsStream)
    assert shipped.skew == best


def test_without_skew_sizes_are_the_documented_ones_and_with_it_releases_keep_theirs() -> None:
    for release in RELEASES:
        counts = [count for _, count in release.tasks]
        assert skewed(release, 1.0) == counts
        assert skewed(release, 3.0) == pytest.approx([sum(counts) * c**3 / sum(n**3 for n in counts) for c in counts])
    for plain, skew in zip(plan_stream(12_000, 0), plan_stream(12_000, 0, 2.8), strict=True):
        assert abs(len(plain.task_n) - len(skew.task_n)) <= len(plain.tasks)
        assert set(skew.task_n.tolist()) == set(range(len(skew.tasks)))


def test_repeats_fall_on_tasks_in_proportion_to_their_size() -> None:
    plan = plan_stream(120_000, 0, 2.8)[1]
    sizes = np.bincount(plan.task_n)
    repeats = np.bincount(plan.task_n[plan.kind_n == 3], minlength=len(sizes))
    large = sizes > 5000
    assert large.sum() >= 3
    assert (repeats / sizes)[large] == pytest.approx(repeats.sum() / sizes.sum(), rel=0.2)


def questions() -> dict[str, list[str]]:
    """Twenty questions or more of every task of the stream."""
    found: dict[str, list[str]] = {}
    for release in RELEASES:
        for task, _ in release.tasks:
            for seed in range(20):
                rng = np.random.default_rng(seed)
                scenes = task.compose(rng, "training")
                found.setdefault(task.name, []).extend(question for question, _ in task.ask(rng, scenes))
    return found


def test_every_instruction_has_ten_wordings_or_more_its_own_among_them_and_the_same_values_in_each() -> None:
    for asked in questions().values():
        for question in asked:
            found = ways(question)
            assert len(set(found)) >= 10
            assert question in found
            values = Counter(re.findall(r"\d|red|green|blue|yellow|white|purple|<image>", question))
            if "Image 1" not in question and "frames" not in question:
                for way in found:
                    assert set(re.findall(r"\d|red|green|blue|yellow|white|purple|<image>", way)) == set(values)


def test_some_wordings_share_most_of_their_words_with_another_tasks() -> None:
    bags = {name: {frozenset(pieces(way)) for q in asked[:3] for way in ways(q)} for name, asked in questions().items()}

    def near(one: str, other: str) -> bool:
        return any(len(a & b) > 0.7 * len(a | b) for a in bags[one] for b in bags[other])

    alone = [one for one in bags if not any(near(one, other) for other in bags if other != one)]
    assert len(alone) < len(bags) / 3
    own = {name: max(len(a - b) / len(a) for a in found for b in found) for name, found in bags.items()}
    assert np.median(list(own.values())) > 0.5


def test_a_question_that_no_meaning_has_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has no other words; add what it wants"):
        ways("Who drew this?")
    with pytest.raises(ValueError, match=r"for sequence releases, not text"):
        DigitsStream(sequence="text", skew=2.0)


def test_other_words_change_questions_alone_and_a_repeat_is_worded_as_its_source() -> None:
    plans = plan_stream(600, 0)
    changed = 0
    for release, plan in enumerate(plans):
        for index in range(len(plan.task_n)):
            plain, other = released(plans, release, index, 0), released(plans, release, index, 0, other_words=True)
            assert plain.drawings == other.drawings
            turns = zip(plain.row["conversations"], other.row["conversations"], strict=True)
            assert all(a == b for a, b in turns if a["from"] == "gpt")
            changed += plain.row != other.row
            if plan.kind_n[index] >= 3:
                at, source = map(int, plan.source_n2[index])
                again = released(plans, at, source, 0, other_words=True)
                assert again.row["conversations"] == other.row["conversations"]
    assert changed > 500
