"""Where a stream's releases and evaluation sets are, and what is told of each."""

import re
import shlex
from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from liit.engine.settings.base import AnyPlace, Settings
from liit.engine.settings.metric_options import options_of
from liit.engine.settings.presets import filled

Metric = str
"""A name of `metric_options.METRICS`, of an installed package's metric, or `module:function`."""


Column = Literal[
    "id",
    "system",
    "user",
    "assistant",
    "conversation",
    "image",
    "image_base64",
    "references",
    "task",
    "metric",
    "ignore",
]


class Release(Settings):
    """One data set of the stream; the position in the list is the timestep at which it arrives."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    format: str = "auto"
    """auto: by the names of files and columns, and it says what it took. Else the name of a format, or one of your own as
    `module:function`; `docs/reference/data-formats.md` has them all."""
    path: AnyPlace
    """A file, a pattern, a folder of files, on a disk or object storage (`s3://bucket/folder`), or
    `hf://datasets/<owner>/<name>[@<revision>]`."""
    images: AnyPlace | None = None
    """Folder that image paths are relative to, and that they may not leave. Default: the folder of `path`."""
    split: str | None = None
    """Of a folder that holds several. Default: train; of an evaluation set it must be said."""
    recursive: bool = False
    """Whether files in subfolders are read too."""
    columns: dict[str, Column] = Field(default_factory=dict)
    """What columns are that have other names: {question: user, answer: assistant, photo: image}. Texts that are one turn are
    joined by line breaks."""
    samples: PositiveInt | None = None
    """How many samples there are, for the estimate of `--dry-run` where the files are not here."""


class EvaluationSet(Release):
    """Held-out samples. A row's `references`, an answer or a list of accepted ones, are the references, else its last assistant
    turn; a row with references may end with its question."""

    preset: str | None = None
    """A published set (`presets.py`): `path` holds files with the columns it is published with, and all other keys but `path`
    have values. None: rows are samples as a release's are."""
    skill: str
    metric: Metric = "exact"
    options: dict[str, Any] = Field(default_factory=dict)
    """What the metric is told (`metric_options.py`), e.g. {box: xywh, scale: 1000}."""
    limit: PositiveInt | None = None
    """Use the first so many samples in the order of their keys."""
    max_new_tokens: PositiveInt = 32
    since: int = Field(0, ge=0)
    """The first timestep whose pool is kept free of its questions; every model is examined on it. A run that has begun writes
    down the next timestep for a set that is added to it."""
    until: PositiveInt | None = None
    """It is asked no more, and kept its questions out of the pools of timesteps before this one: of a set that was taken out of a
    run, or whose questions are others by now."""

    @property
    def key(self) -> str:
        """Its name, and since when it has had these questions, where that is not the start."""
        return self.name if not self.since else f"{self.name}@t{self.since:02d}"

    def holds(self, t: int) -> bool:
        """Whether the pool of timestep t is kept free of its questions."""
        return self.since <= t and (self.until is None or t < self.until)

    @model_validator(mode="before")
    @classmethod
    def _has_what_its_preset_says(cls, values: Any) -> Any:
        return filled(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _can_be_judged(self) -> "EvaluationSet":
        options_of(self.metric, self.options)
        return self


class DigitsStream(Settings):
    """The embedded stream: six releases composed of scikit-learn's handwritten digits."""

    kind: Literal["digits"] = "digits"
    size: int = Field(3000, ge=600, le=2_000_000)
    """Samples over all six releases, about; the shares mirror Table 1 of the paper."""
    seed: int = 0
    answers_per_skill: PositiveInt = 40
    sequence: Literal["releases", "tasks", "text"] = "releases"
    """releases: the lifelong stream, many tasks in each. tasks: five single-task sets after t0
    (`data/digits/sequence.py`). text: five releases of text alone (`data/digits/tabular.py`)."""
    joint: bool = True
    """Of `tasks`: whether t0 is a mixture of tasks, for the jointly tuned `digits-base`, or captions, for `digits-captioned`."""
    skew: float = Field(1.0, ge=0, le=8)
    """Of `releases`: a task's size within its release is in proportion to its share to this power, at least one sample each.
    0: all alike. 1: as documented. 2.8: as skewed as M3IT and LLaVA-665K are (`docs/how-to/skew.md`)."""
    reworded: bool = False
    """Of `releases`: every instruction is worded in one of ten ways or more, drawn by the seed, many of whose words another
    task's have too. Evaluation sets and targets keep their words."""

    @property
    def last(self) -> int:
        """The last timestep."""
        return 5

    @model_validator(mode="after")
    def _skew_has_tasks_to_skew(self) -> "DigitsStream":
        if self.sequence != "releases" and (self.skew != 1 or self.reworded):
            raise ValueError(
                f"stream.skew and stream.reworded are for sequence releases, not {self.sequence}; leave them out"
            )
        return self


class FileStream(Settings):
    """A stream of the user's own files. The base model was trained on release 0; learning starts at 1."""

    kind: Literal["files"] = "files"
    releases: tuple[Release, ...] = Field(min_length=1)
    evaluations: tuple[EvaluationSet, ...] = ()
    targets: tuple[EvaluationSet, ...] = ()
    """A small split per skill that target-based methods (LESS, ICONS) may look at; never evaluation data."""

    @property
    def last(self) -> int:
        """The last timestep."""
        return len(self.releases) - 1

    @property
    def asked(self) -> tuple[EvaluationSet, ...]:
        """The evaluation sets that models are examined on."""
        return tuple(one for one in self.evaluations if one.until is None)

    @model_validator(mode="after")
    def _names_are_unique(self) -> "FileStream":
        asked = [one for one in self.evaluations if one.until is None]
        names = [one.name for one in (*self.releases, *asked, *self.targets)]
        keys = [one.key for one in self.evaluations]
        names += [key for key in keys if keys.count(key) > 1]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"names {twice} are used twice; ids begin with the name, so each must be unique")
        return self


class Server(Settings):
    """A server of others with the interface of OpenAI, such as vLLM's, that answers in place of the built-in engine."""

    command: str
    """Starts it, without a shell. {port} is a free port; {merged} the folder of the merged model, or {model} the base and
    {adapter} the adapter's folder; these are made where they stand in it."""
    name: str | None = None
    """What requests call the model, with the same words in it. None: {merged} where the command has it, else {adapter}. vLLM
    knows an adapter by the name that --lora-modules gives it."""
    actors: PositiveInt = 1
    """Servers, each on a node that has room for it."""
    cpus: PositiveFloat = 1
    """Of a server, that Ray keeps for it."""
    gpus: float = Field(0, ge=0)
    health: str = Field("/health", pattern="^/")
    """What is asked for until it answers with 200."""
    start_s: PositiveFloat = 900
    """Seconds within which it must be healthy."""
    in_flight: PositiveInt = 32
    """Requests at a time."""
    timeout_s: PositiveFloat = 600
    """Seconds that one may take."""
    retries: int = Field(4, ge=0)
    """Of one that fails, with growing waits."""

    @model_validator(mode="after")
    def _can_be_reached(self) -> "Server":
        words = set(re.findall(r"\{(\w+)\}", self.command)) & {"port", "merged", "model", "adapter"}
        if "port" not in words:
            raise ValueError("evaluation.server.command has no {port} in it, by which the server is reached")
        if len(words & {"merged", "adapter"}) != 1:  # {model} alone would be the base at every timestep
            raise ValueError(
                "evaluation.server.command needs {merged}, or {model} and {adapter}, to know whom it serves"
            )
        if "--api-key" in self.command:
            raise ValueError(
                "evaluation.server.command has a key in it, which every copy of the configuration would show, and requests have "
                "none; leave out --api-key, and have the server listen on 127.0.0.1 alone"
            )
        try:
            shlex.split(self.command)
        except ValueError as error:
            raise ValueError(f"evaluation.server.command cannot be split into words: {error}") from error
        return self


class Evaluation(Settings):
    """How models are asked."""

    samples_per_batch: PositiveInt | None = None
    """None: as many as their tokens allow."""
    tokens_per_batch: PositiveInt = 16384
    """Of prompts, padding included, and of their answers as long as they may be."""
    batches_per_file: PositiveInt = Field(1, exclude=True)
    """Of no effect, as `scoring.batches_per_file`."""
    losses: bool = False
    """Also the loss of each reference, in nats a token: how much is left of a skill whose answers are all wrong by now. One
    forward more for each sample."""
    server: Server | None = None
    """None: answers are the built-in engine's."""

    def answered_by(self) -> dict[str, Any]:
        """What an answer depends on: of a server who it is, and neither where it runs nor how often it is asked."""
        if self.server is None:
            return self.model_dump(exclude={"server"})
        return {"server": self.server.model_dump(include={"command", "name"})}

    @model_validator(mode="after")
    def _a_server_has_no_losses(self) -> "Evaluation":
        if self.server and self.losses:
            raise ValueError("evaluation.losses needs the model itself; leave it out, or evaluation.server")
        return self
