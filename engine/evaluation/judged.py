"""The answers to one evaluation set, judged: by the set's metric, or by a row's own where it names one."""

from collections.abc import Mapping, Sequence
from typing import Any

from liit.engine.answers.metrics import STORED, accepted_answers, metric_of, options_for, question_of, score
from liit.engine.answers.scores import DatasetScore
from liit.engine.settings.streams import EvaluationSet


def judged(
    one: EvaluationSet, samples: Sequence[Mapping[str, Any]], answers: Mapping[str, str]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What evaluation.json says of the set, and an ANSWER row (without loss) for each of its samples, in their order.

    A value over several metrics is the mean over all rows that have one: a metric counts by its rows. Where answers are only
    stored it is None.
    """
    by_metric: dict[str, list[int]] = {}
    for at, sample in enumerate(samples):
        by_metric.setdefault(metric_of(sample, one), []).append(at)
    rows = [
        {"id": sample["id"], "skill": one.skill, "dataset": one.name, "answer": answers[sample["id"]], "value": None}
        for sample in samples
    ]
    parts: dict[str, dict[str, Any]] = {}
    for metric, mine in by_metric.items():
        found = None if metric == STORED else _score(metric, one, [samples[at] for at in mine], answers)
        parts[metric] = _entry(found, len(mine))
        for place, at in enumerate(mine):
            rows[at]["value"] = None if found is None else found.values[place]
            rows[at]["judgement"] = found.judgements[place] if found and found.judgements else None
    if list(parts) == [one.metric]:
        return {"metric": one.metric, **parts[one.metric]}, rows
    known = [part for part in parts.values() if part["value"] is not None]
    counted = sum(part["n"] for part in known)
    value = sum(part["value"] * part["n"] for part in known) / counted if counted else None
    whole = {"value": value, "n": len(rows), "parse_failures": sum(part["parse_failures"] for part in parts.values())}
    return {"metric": one.metric, **whole, "metrics": parts}, rows


def _score(
    metric: str, one: EvaluationSet, samples: Sequence[Mapping[str, Any]], answers: Mapping[str, str]
) -> DatasetScore:
    given = [answers[sample["id"]] for sample in samples]
    accepted = [accepted_answers(sample) for sample in samples]
    return score(metric, given, accepted, options_for(metric, one), [question_of(sample) for sample in samples])


def _entry(found: DatasetScore | None, count: int) -> dict[str, Any]:
    if found is None:
        return {"value": None, "n": count, "parse_failures": 0}
    return {"value": found.value, "n": count, "parse_failures": found.parse_failures, **found.extra}
