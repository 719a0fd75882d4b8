"""Answers against references: per answer and per data set, in percent.

An answer from which nothing can be read (no box, no letter, no number, no text) is wrong, and counted. What each metric is, what
it takes, and where it differs from the evaluators of others is in docs/reference/metrics.md.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from liit.engine.answers import boxes, choices, corpus, judging, mmmu_open, numeric, own, spans, text, vqa
from liit.engine.answers.scores import DatasetScore, Each
from liit.engine.answers.text import Asked, spoken
from liit.engine.settings.metric_options import options_of, place_of
from liit.engine.settings.streams import EvaluationSet, Metric

METRICS: dict[str, Callable[[Sequence[Asked], Any], DatasetScore]] = {
    "exact": Each(text.exact),
    "vqa": Each(vqa.vqa),
    "choice": Each(choices.choice),
    "number": Each(numeric.number),
    "f1": Each(spans.f1),
    "mmmu-open": Each(mmmu_open.mmmu_open),
    "iou": Each(boxes.iou, extra=boxes.share_found),
    "iou@0.5": Each(boxes.iou, settled=boxes.found, extra=boxes.mean_overlap),
    "bleu": corpus.Bleu("13a"),
    "bleu-zh": corpus.Bleu("zh"),
    "rouge-l": Each(spans.rouge_l),
    "cider": corpus.cider,
    "judge": judging.judged,
}
STORED = "stored"
"""Answers that are written down and have no value."""


def accepted_answers(sample: Mapping[str, Any]) -> list[str]:
    """What counts as right for an evaluation sample: its `references`, else its last turn where that is an answer."""
    last = sample["conversation"][-1]
    return sample["references"] or ([last["text"]] if last["role"] == "assistant" else [])


def question_of(sample: Mapping[str, Any]) -> str:
    """The last user turn without its pictures: a choice's options are read from it, and a judge is shown it."""
    asked = next((turn["text"] for turn in reversed(sample["conversation"]) if turn["role"] == "user"), "")
    return str(asked).replace("<image>", "").strip()


def metric_of(sample: Mapping[str, Any], one: EvaluationSet) -> str:
    """The row's own metric where it has one, else the set's."""
    return sample.get("metric") or one.metric


def options_for(metric: str, one: EvaluationSet) -> Mapping[str, Any]:
    """The set's options are for its metric alone; another of a row's own has its defaults."""
    return one.options if metric == one.metric else {}


def check_metric(metric: Metric, options: Mapping[str, Any]) -> None:
    """Raises ValueError, one line, for a metric of one's own that is not there, and a judge whose key is not."""
    settled, place = options_of(metric, options), place_of(metric)
    if place is not None:
        own.load(place)
    elif metric == "judge":
        judging.headers_of(settled)


def check_references(
    metric: Metric, references: list[str], options: Mapping[str, Any] | None = None, question: str = ""
) -> None:
    """Raises ValueError for a reference without the letter, number or box that the metric compares, and where there is none."""
    settled, place = options_of(metric, options or {}), place_of(metric)
    if metric == STORED:
        return
    if not references:
        raise ValueError("no reference: give `references`, or an answer as the last turn")
    judge = Each(own.mark_of(place)) if place is not None else METRICS[metric]
    if isinstance(judge, Each):
        judge.mark(Asked("", references, question), settled)


def score(
    metric: Metric,
    answers: list[str],
    references: list[list[str]],
    options: Mapping[str, Any] | None = None,
    questions: list[str] | None = None,
) -> DatasetScore:
    """Score `answers[i]` to `questions[i]` against the accepted `references[i]`.

    Judged is what follows the last `</think>`. Raises ValueError for an unknown metric, options that it does not have, no
    answers, answers without reference, and references that hold no letter, number or box where one is needed.
    """
    settled, place = options_of(metric, options or {}), place_of(metric)
    if metric == STORED:
        raise ValueError("stored answers have no value; choose another metric to judge them")
    if not answers or len(answers) != len(references):
        raise ValueError(
            f"{metric}: {len(answers)} answers and {len(references)} lists of references; need as many, > 0"
        )
    for index, accepted in enumerate(references):
        if not accepted:
            raise ValueError(f"{metric}: answer {index} has no reference")
    pattern = None if place is not None else settled.pattern
    asked = [
        Asked(spoken(answer, pattern), accepted, question)
        for answer, accepted, question in zip(answers, references, questions or [""] * len(answers), strict=True)
    ]
    judge = Each(own.mark_of(place)) if place is not None else METRICS[metric]
    return judge(asked, settled)
