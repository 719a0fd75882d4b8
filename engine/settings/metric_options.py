"""The metrics by name, and what each may be told in an evaluation set's `options` (frozen pydantic models)."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from liit.engine.settings.extensions import installed

GROUP = "liit.metrics"
"""Entry points of installed packages whose metrics are known by name."""


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Reading(Options):
    """What all metrics take that read an answer."""

    pattern: str | None = None
    """A regular expression with one group: what is judged of an answer, where it matches last. Without a match: unreadable."""

    @field_validator("pattern")
    @classmethod
    def _has_one_group(cls, pattern: str | None) -> str | None:
        if pattern is not None and _compiled(pattern).groups != 1:
            raise ValueError(f"{pattern!r} must have one group: what is judged")
        return pattern


class Numbers(Reading):
    decimal: Literal["point", "comma"] = "point"
    """What comes before decimals: 1,250.5 or 1.250,5. The other separates thousands."""
    percent: Literal["unit", "hundredth"] = "unit"
    """unit: 50 % reads 50, as in GSM8K. hundredth: 50 % reads 0.5, as in ChartQA."""


class Boxes(Reading):
    box: Literal["xyxy", "xywh"] = "xyxy"
    """What four numbers are: two corners, or a corner, width and height."""
    scale: Literal[1, 1000, "pixels"] = "pixels"
    """Of the set's coordinates: shares of the picture's width and height, thousandths of them, or pixels."""
    answer_scale: Literal[1, 1000] | None = None
    """Where a model answers in another scale than the references have: that of its answers."""

    @model_validator(mode="after")
    def _can_be_converted(self) -> "Boxes":
        if self.answer_scale is not None and self.scale == "pixels":
            raise ValueError("answer_scale cannot be compared with references in pixels; give scale: 1 or 1000")
        return self


class Judge(Reading):
    """Another model, behind an interface like OpenAI's (`POST base_url/chat/completions`)."""

    base_url: str = Field(pattern=r"^https?://")
    model: str
    key_env: str | None = None
    """Environment variable that holds the key. None: no key is sent."""
    prompt: str = (
        "Question:\n{question}\n\nReference answers:\n{reference}\n\nAnswer to be graded:\n{answer}\n\n"
        "How well does the answer agree with the references? Say why in one sentence, then write on a line of its own\n"
        "Score: <a number from 0 to 10>"
    )
    parse: str = r"Score:\s*(\d+(?:\.\d+)?)"
    """A regular expression with one group: the number that the judge gives, where it matches last."""
    best: PositiveFloat = 10
    """The number of a perfect answer; 0 is that of a useless one."""
    max_tokens: PositiveInt = 256
    in_flight: PositiveInt = 8
    retries: int = Field(4, ge=0)
    """After a failure that may pass (no connection, 408, 429, 5xx), each after twice the wait of the one before."""
    timeout_s: PositiveFloat = 60

    @model_validator(mode="after")
    def _asks_and_reads(self) -> "Judge":
        if "{answer}" not in self.prompt:
            raise ValueError("prompt must hold {answer}; it may hold {question} and {reference}")
        if _compiled(self.parse).groups != 1:
            raise ValueError(f"parse {self.parse!r} must have one group: the number")
        return self


class Stored(Options):
    """Answers are written down and not judged."""


METRICS: dict[str, type[Options]] = {
    "exact": Reading,
    "vqa": Reading,
    "choice": Reading,
    "number": Numbers,
    "f1": Reading,
    "mmmu-open": Reading,
    "iou": Boxes,
    "iou@0.5": Boxes,
    "bleu": Reading,
    "bleu-zh": Reading,
    "rouge-l": Reading,
    "cider": Reading,
    "judge": Judge,
    "stored": Stored,
}


def place_of(metric: str) -> str | None:
    """`module:function` of a metric of one's own, None for one of ours. Raises ValueError for a name that nobody has."""
    if metric in METRICS:
        return None
    if re.fullmatch(r"[\w.]+:\w+", metric):
        return metric
    there = installed(GROUP)
    if metric not in there:
        known = ", ".join([*METRICS, *sorted(there)])
        raise ValueError(f"unknown metric {metric!r}; known are {known}, and module:function of your own")
    return there[metric]


def options_of(metric: str, options: Mapping[str, Any]) -> Any:
    """The options of a metric with its defaults; those of one's own metric as they are.

    Raises ValueError, one line, for a metric that is not known, an option that it does not have, and a value not allowed.
    """
    if place_of(metric) is not None:
        return dict(options)
    try:
        return METRICS[metric].model_validate(dict(options))
    except ValidationError as error:
        problem = error.errors()[0]
        key, taken = ".".join(map(str, problem["loc"])), ", ".join(METRICS[metric].model_fields) or "none"
        message = problem["msg"].removeprefix("Value error, ")
        said = "no such option" if problem["type"] == "extra_forbidden" else message
        place = f"options.{key}" if key else "options"
        raise ValueError(f"{place} of metric {metric}: {said}; it takes {taken}") from error


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
