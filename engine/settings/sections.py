"""The sections of a configuration: what each part of a run is told, with its defaults (frozen pydantic models)."""

import datetime
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, PositiveFloat, PositiveInt, model_validator

from liit.engine.settings.base import OnDisk, Settings
from liit.engine.settings.refresh import Pruning, Refreshing
from liit.engine.settings.specs import DATE, SketchSpec, TemplateSpec


def _iso(value: object) -> str:
    """A date as YAML has it, or as text."""
    return datetime.date.fromisoformat(str(value)).isoformat()


class Model(Settings):
    """The model that the stream is taught to."""

    path: OnDisk = "digits-base"
    """A local folder or hub id with weights and processor; shipped are `digits-base`, `-proxy`, `-captioned` and `-language`."""
    revision: str | None = None
    adapter: OnDisk | None = None
    """A PEFT folder that t0 already has, of the shape that `training.lora` says: the stream goes on from it. None: from the bare
    model."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    attention: Literal["eager", "sdpa", "flash_attention_2"] = "sdpa"
    max_length: PositiveInt = 2048
    """Context in tokens, images included. A longer sample is quarantined, never cut."""
    template_kwargs: dict[Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")], JsonValue] = Field(default_factory=dict)
    """Arguments of the chat template, e.g. {enable_thinking: false}."""
    date: Annotated[str, BeforeValidator(_iso)] = DATE
    """What a chat template that writes today's date takes for today: tokens are then the same tomorrow."""

    def bare(self) -> dict[str, Any]:
        """Without its adapter, which counts by what is in it and not by where it lies."""
        return self.model_dump(mode="json", exclude={"adapter"})

    def template(self) -> TemplateSpec:
        return TemplateSpec(**self.model_dump(include={"template_kwargs", "date"}))

    def told(self) -> dict[str, Any]:
        """What its chat template is told beside the defaults, for fingerprints."""
        return self.model_dump(include={"template_kwargs", "date"}, exclude_defaults=True)


Layers = Literal["first", "middle", "last", "all"] | tuple[int, ...]


class Pool(Settings):
    """What never enters the pool. Exact copies have the same pixels and words; of several the first arrival stays."""

    duplicates: Literal["remove", "keep"] = "remove"
    contamination: Literal["remove", "report"] = "remove"
    """Samples that an evaluation set holds too."""
    withdrawn: OnDisk | None = None
    """A file of samples that may be used no more: lines `id: …`, `content: …` or `image: …` (`data/withdrawing.py`). A line
    holds from the next timestep on."""
    withdrawals: dict[int, tuple[str, ...]] = Field(default_factory=dict)
    """Its lines by the timestep from which each holds; a run writes them down itself."""

    def withdrawn_at(self, t: int) -> tuple[str, ...]:
        """The lines that hold at timestep t."""
        return tuple(line for since, lines in sorted(self.withdrawals.items()) if since <= t for line in lines)


class Gradient(Settings):
    """One gradient sketch per sample: which gradient, of which layers and parameters, projected how."""

    layer: Layers = "middle"
    parameters: Literal["base", "lora", "projector"] = "base"
    """projector: the linears between vision tower and language model, whatever `layer` says."""
    gradient: Literal["sgd", "adam", "sign", "zero-order"] = "sgd"
    """adam: preconditioned by the last training's second moments; adam and sign are of LoRA parameters.
    zero-order: forward passes only, along shared directions."""
    projection: Literal["factored", "dense", "sparse"] = "factored"
    """dense is the paper's, for comparisons: every batch makes its signs anew."""
    dimension: PositiveInt = 8192
    directions: PositiveInt = 32
    """K of zero-order, and the size of its vector."""
    epsilon: PositiveFloat | None = None
    """How far zero-order moves the weights. None: 1e-3 in float32; 1e-2 in half precision, where less drowns in rounding."""
    temperature: PositiveFloat = 1
    """Of the loss whose gradient this is. Above 1, samples that the model answers surely are told apart by their task; at 1, as
    in the paper, their gradients are rounding errors of a probability near one."""
    model: OnDisk | None = None
    """A smaller model whose gradients stand in for the current model's. None: the current model."""

    @model_validator(mode="after")
    def _exists(self) -> "Gradient":
        self.spec()
        return self

    def spec(self, dtype: str = "float32") -> SketchSpec:
        """In plain values, of a model in this dtype."""
        values = self.model_dump()
        epsilon = values.pop("epsilon") or (1e-3 if dtype == "float32" else 1e-2)
        return SketchSpec(layers=values.pop("layer"), epsilon=epsilon, **values)


class Scoring(Settings):
    """The pass that profiles every sample with the current model."""

    tokens_per_batch: PositiveInt = 16384
    """A planned batch holds at most so many tokens, padding included."""
    samples_per_batch: PositiveInt = 64
    batches_per_file: PositiveInt = Field(1, exclude=True)
    """Of no effect: a task is a part of a release. Kept for configurations of before."""
    no_image: Literal["removed", "blank"] = "removed"
    """The pass that image grounding compares with: image tokens removed (the paper), or a blank image."""
    gradient: Gradient = Gradient()
    """The vector `sketch`, that pseudo-tasks are clusters of where `clustering.vector` says nothing else."""
    sketches: dict[str, Gradient] = Field(default_factory=dict)
    """Further gradient vectors by name, from the same pass."""
    vectors: tuple[str, ...] = ()
    """Vectors to profile beside those the strategy needs."""
    scores: tuple[str, ...] = ()
    """Scores to profile beside those the strategy needs."""
    custom: dict[str, str] = Field(default_factory=dict)
    """Scores of your own: name to `module:function` (see `engine/scoring/custom.py`)."""
    reference: OnDisk | None = None
    """The model that learnability compares with."""
    embedding: PositiveInt = 512
    embedding_layer: Layers = "middle"
    refresh: Refreshing = None
    """Keep rows of the timestep before where a sample shows that nothing moved (`true`, or how). None: all is scored anew."""
    padding_side: Literal["left", "right"] = "right"
    fuse: bool = False
    """Compile norms and rotary embeddings: 1.2 times as fast for a 7B model on a GPU. Takes a C compiler on every node,
    and a minute when an actor starts."""


class Clustering(Settings):
    """k-means on a vector of the profile, the gradient sketch; k by the elbow of the within-cluster sum of squares."""

    vector: str | None = None
    """What is clustered: `embedding`, another vector of the profile, a name of `scoring.sketches`. None: the strategy's own, the
    sketch of `scoring.gradient`."""
    k_grid: tuple[PositiveInt, ...] = tuple(range(5, 51))
    """Candidates for k; one number fixes it. The paper's grid is 5 to 50."""
    k: Annotated[dict[Literal["per_budget"], Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)] | None = None
    """A k that goes with `strategy.budget`, in place of `k_grid`: {per_budget: 0.5}. Of a budget in samples for each timestep."""

    def grid(self, budget: int) -> tuple[int, ...]:
        """The candidates for k where a timestep may choose so many samples."""
        return self.k_grid if self.k is None else (max(1, round(self.k["per_budget"] * budget)),)


class Opening(Settings):
    """Another strategy for the first timesteps, with no options of its own: a history to go on from."""

    name: str = "sequential"
    timesteps: PositiveInt


Share = Annotated[float, Field(ge=0, le=1)]


class Quotas(Settings):
    """Bounds for what each data set or task has of a selection: shares of its samples, whatever the budget's unit. They hold to
    the whole sample: least is rounded down, most up."""

    by: Literal["dataset", "task"] = "dataset"
    """Data sets are releases by name; tasks are what the samples themselves say."""
    least: dict[str, Share] = Field(default_factory=dict)
    """E.g. {gqa: 0.1}: a tenth or more. Where there are fewer, all of them are chosen, and it is said."""
    most: dict[str, Share] = Field(default_factory=dict)
    """E.g. {vqav2: 0.4}. Exceeded, and said, where the budget could not be spent else."""

    @model_validator(mode="after")
    def _can_hold_together(self) -> "Quotas":
        if not (self.least or self.most):
            raise ValueError("quotas bound nothing; give least or most, such as least: {gqa: 0.1}")
        if sum(Fraction(str(share)) for share in self.least.values()) > 1:
            raise ValueError(f"least shares sum to {sum(self.least.values()):g}; they are shares of one budget")
        for name in sorted(set(self.least) & set(self.most)):
            if self.least[name] > self.most[name]:
                raise ValueError(f"least of {name} is {self.least[name]:g}, and most {self.most[name]:g}")
        return self


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Files = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class Strategy(Settings):
    """Which samples are trained on, by name from the catalog in `selectors/catalog.py`."""

    name: str = "lite-adapt-inf"
    budget: PositiveInt = 25_000
    """T: what a timestep may spend, in `unit`."""
    unit: Literal["samples", "tokens", "flops"] = "samples"
    """tokens: of the chosen samples, images included, once. flops: of training on them, all epochs."""
    lifetime: PositiveInt | None = None
    """What all timesteps together may spend; in place of `budget`."""
    decay: float = Field(1.0, gt=0, le=1)
    """Of a lifetime: what a timestep gets of what the one before it got."""
    pool_budget: PositiveInt | None = None
    """D: samples the pool is pruned to at the end of a timestep, by strategies that prune. None: four times T."""
    prune: Pruning = Pruning()
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the strategy, e.g. {direction: lowest}."""
    run: OnDisk | None = None
    """Of `given`: the folder of the run whose selections are trained on, each at its own timestep."""
    always: Files = ()
    """Files of sample ids, one per line (or Parquet with a column `id`), that are chosen at every timestep that has them in its
    pool. They count in the budget and in the quotas, and their scorer is `always`."""
    never: Files = ()
    """Files of sample ids that are never chosen. They stay in the pool, and clusters are made of them too."""
    quotas: Quotas | None = None
    """How much of a selection each data set or task has, whatever the strategy. None: as the strategy chooses."""
    opening: Opening | None = None
    """By what the first timesteps choose instead; None: all by `name`."""


class Resources(Settings):
    """What Ray is asked for. A running cluster is used where there is one, else a local one is started."""

    address: str | None = None
    """`auto` or host:port. None: RAY_ADDRESS, or a local cluster in this process."""
    num_cpus: PositiveInt | None = None
    """CPUs of a local cluster. None: all of the machine's."""
    actors: PositiveInt | Literal["auto"] = 1
    """Scoring and evaluation actors, each with one copy of the model, spread over the nodes. auto: as many as find room there
    by `gpus_per_actor`, or by `cpus_per_actor` where that is 0; a run writes down how many these are."""
    cpus_per_actor: PositiveFloat = 1
    gpus_per_actor: float = Field(0, ge=0)
    threads_per_actor: PositiveInt = 1
    """torch threads of one actor; part of what makes results bit-equal, so it is fixed here, not detected."""
    loaders_per_actor: int | None = Field(None, ge=0)
    """Threads of an actor that read images and tokenize ahead of its model. None: with a GPU one for each of the actor's CPUs,
    8 at most; without one none, since the model itself takes the CPUs."""
    read_ahead_gb: PositiveFloat = 1
    """Memory of an actor for images and tokens that its loaders have ready before its model asks for them, about."""
    warm: bool | Literal["auto"] = "auto"
    """Score and answer in Ray's own processes, which stay, in place of actors, which load every library anew at every stage; each
    keeps the last model that it had. auto: without GPUs, where a model's weights are less than a gigabyte."""
    cpus_per_worker: PositiveFloat = 1
    gpus_per_worker: float = Field(0, ge=0)

    @property
    def actor_count(self) -> int:
        """How many actors; one while the cluster was not asked yet."""
        return 1 if self.actors == "auto" else self.actors


class Tracking(Settings):
    """Where a run can be watched beside its folder, which always holds TensorBoard files and `stages.jsonl`."""

    mlflow: str | None = None
    """A tracking server's address, or a folder; needs the extra `mlflow`."""
    experiment: str = "liit"
    """Of MLflow."""
    wandb: str | None = None
    """A project of Weights & Biases; needs the extra `wandb`. Entity, key, server and offline mode are its own environment's."""


class Estimate(Settings):
    """Stated throughputs that `--dry-run` and the first lines of a run compute their forecast from."""

    tokens_per_sample: PositiveFloat = 700
    scored_per_second: PositiveFloat = 20
    """Samples that one scoring actor profiles in a second."""
    trained_per_second: PositiveFloat = 5
    """Samples that one training worker takes forward and backward in a second."""
    answered_per_second: PositiveFloat = 5
    """Answers that one evaluation actor writes in a second."""
    start_seconds: float = Field(60, ge=0)
    """To start actors and workers, per timestep."""
