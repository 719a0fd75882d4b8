"""How a timestep is trained, and what holds the model to what it knows meanwhile (frozen pydantic models)."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveFloat, PositiveInt, model_validator

from liit.engine.settings.base import OnDisk, Settings


class Lora(Settings):
    r: PositiveInt = 128
    alpha: PositiveFloat = 256
    dropout: float = Field(0.05, ge=0, lt=1)
    targets: tuple[str, ...] = ()
    """Names of the linears that get an adapter. Empty: every linear of the language model but the head."""


class Regulariser(Settings):
    """What holds the adapter to what it has learned while a timestep is trained (He et al., arXiv 2311.16206)."""

    kind: Literal["ewc", "mas", "lwf"]
    """ewc, mas: weights that mattered stay near (`anchoring.py`). lwf: answers of before are taught (`distilling.py`)."""
    strength: PositiveFloat = 1
    """λ. Of ewc and mas in nats per squared weight, at an importance of mean 1; of lwf over the loss of the samples,
    to be below 1: at 1 the teacher's answer is as likely as what is taught."""
    samples: PositiveInt = 1000
    """Of a task of a finished timestep, that importance is measured on."""
    tokens_per_batch: PositiveInt = 2048
    """Of such samples: fewer than scoring takes, as the backward goes through all layers."""
    similarity: bool = False
    """TIR: weights of an old task are held the less, the more the new one is like it (`tasks` says how that is measured)."""

    @model_validator(mode="after")
    def _similarity_weighs_importance(self) -> "Regulariser":
        if self.similarity and self.kind == "lwf":
            raise ValueError("similarity weighs the importance of weights, which lwf has none of; take ewc or mas")
        return self


class Averaging(Settings):
    """The adapter that is handed on lies between the one that a timestep found and the one that it trained (`averaging.py`)."""

    alpha: Annotated[float, Field(ge=0, le=1)] | Literal["fisher"] = 0.5
    """The share of the trained one: 1 is plain training, 0 keeps what was there. fisher: where what was learned in the timestep
    before and in this one, both taken as quadratic, lose least."""
    samples: PositiveInt = 1000
    """Of fisher: of what a timestep is trained on, that its gradients are taken of."""


class Experts(Settings):
    """Model expansion (EProj): adapters side by side, one for each task or for tasks that are alike, chosen per sample."""

    of: Literal["language", "projector"] = "language"
    """Whose linears an expert adapts: the language model's, or those between it and the vision tower."""
    threshold: float = Field(1.0, ge=0, le=1)
    """A task more alike than this to an earlier one (`tasks`) goes on with its expert; at 1 every task gets its own."""
    start: Literal["similar", "base"] = "similar"
    """Where a new expert starts: from the weights of the most similar task's expert, or afresh."""


class Tasks(Settings):
    """What a task is, and what tasks are compared by."""

    of: Literal["timestep", "clusters"] = "timestep"
    """timestep: what one is trained on is a task. clusters: so is each gradient cluster of it (`pseudo_tasks.py`)."""
    overlap: float = Field(0.3, gt=0, le=1)
    """Of clusters: one that shares so much of a group of the timestep before is the same task (intersection over union)."""
    samples: PositiveInt = 1000
    """Of a task at a timestep, that its vectors are made of."""
    image_encoder: OnDisk | None = None
    """Folder or hub id of a vision model. None: the hidden states of the model's own image tokens."""
    text_encoder: OnDisk | None = None
    """Folder or hub id of a text model, of which the mean state is taken. None: the model's own hidden states."""


MACHINE = {
    "workers",
    "micro_batch_size",
    "micro_batch_tokens",
    "zero_stage",
    "gradient_checkpointing",
    "checkpoint_every",
}
"""How a training is laid out on the machines there are. What is learned is the same up to the order of its sums."""


class Gate(Settings):
    """How far a skill may fall in a timestep, for its adapter to be the one that the next goes on from."""

    skill: str = "*"
    """Of an evaluation set; `*` for every skill."""
    drop: float = Field(ge=0)
    """Percentage points below the model that was to be replaced; more is refused."""


class Judged(Settings):
    """What the gate said of a timestep's adapter, as its gate.json has it."""

    of: str
    """Fingerprint of what was judged: its adapter, the one before, and the bounds. Of others it says nothing."""
    stands: int
    against: int
    falls: tuple[dict[str, str | float], ...] = ()


def _listed(value: object) -> object:
    """One rule may stand alone."""
    return [value] if isinstance(value, dict | Gate) else [] if value is None else value


class Training(Settings):
    """DeepSpeed LoRA training of one timestep, on exactly the selected samples, once per epoch."""

    lora: Lora = Lora()
    epochs: PositiveInt = 1
    batch_size: PositiveInt = 128
    """Samples per optimizer step over all workers."""
    micro_batch_size: PositiveInt = 16
    """Samples per forward of one worker, at most; a step accumulates as many as it needs."""
    micro_batch_tokens: PositiveInt = 16384
    """Tokens per forward of one worker, padding included, at most; a sample that is longer goes alone. A step's samples are
    sorted by length: where lengths differ, raise `micro_batch_size`, that short ones go together, and let this bound memory."""
    learning_rate: PositiveFloat = 2e-4
    projector_learning_rate: PositiveFloat | None = None
    """Train the multimodal projector too, as a second parameter group. None: frozen."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = Field(0.03, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    weight_decay: float = Field(0.0, ge=0)
    gradient_clip: float = Field(1.0, ge=0)
    zero_stage: Literal[0, 1, 2, 3] = 2
    gradient_checkpointing: bool = False
    quantised: Literal[4] | None = None
    """Bits of the language model's frozen weights while an adapter is trained on them: NF4 with double quantisation (QLoRA,
    Dettmers et al., arXiv 2305.14314), by bitsandbytes. Scores and answers are of the weights as they are."""
    workers: PositiveInt = 1
    checkpoint_every: PositiveInt = 50
    """Optimizer steps between two checkpoints that a killed run continues from."""
    penalties: tuple[str, ...] = ()
    """Regularisers `module:function`; each maps the model to a scalar that is added to the loss."""
    modules: tuple[str, ...] = ()
    """Extra trainable modules `module:function`; each adds itself to the model before the optimizer is made."""
    regulariser: Regulariser | None = None
    """None: direct fine-tuning."""
    averaging: Averaging | None = None
    """None: a timestep hands on what it trained."""
    experts: Experts | None = None
    """None: one adapter, taught timestep after timestep."""
    gate: Annotated[tuple[Gate, ...], BeforeValidator(_listed)] = ()
    """Bounds, or one, e.g. {skill: '*', drop: 10}. An adapter that falls below one is kept and said, and the next timestep goes
    on from the last that stands. Empty: every adapter stands."""

    def taught_by(self) -> dict[str, Any]:
        """All that an adapter depends on: neither what is judged of it afterwards, nor which machines there were. What came later
        and is not asked for is left out, as adapters of before have it."""
        none = {name for name in ("averaging", "quantised") if getattr(self, name) is None}
        return self.model_dump(mode="json", exclude={"gate", *none, *MACHINE})

    def weighed_by(self) -> Regulariser | None:
        """How it is measured what each weight matters for, where anything goes by that."""
        if self.regulariser and self.regulariser.kind != "lwf":
            return self.regulariser
        if self.averaging and self.averaging.alpha == "fisher":
            return Regulariser(kind="ewc", samples=self.averaging.samples)
        return None

    @model_validator(mode="after")
    def _quantised_weights_are_not_shared_out(self) -> "Training":
        if self.quantised and self.zero_stage == 3:
            raise ValueError("training.quantised needs training.zero_stage <= 2: every worker holds all frozen weights")
        return self

    @model_validator(mode="after")
    def _experts_are_left_alone(self) -> "Training":
        if self.experts and (self.regulariser or self.projector_learning_rate is not None or self.modules):
            raise ValueError(
                "training.experts leaves what was learned as it is; take it without regulariser, "
                "projector_learning_rate and modules"
            )
        if self.experts and self.experts.of == "projector" and (self.zero_stage == 3 or self.lora.targets):
            raise ValueError(
                "training.experts.of=projector needs training.zero_stage <= 2 and no training.lora.targets"
            )
        return self

    @model_validator(mode="after")
    def _averaging_is_of_one_adapter(self) -> "Training":
        if self.averaging and (self.experts or self.projector_learning_rate is not None or self.modules):
            raise ValueError(
                "training.averaging is of LoRA weights alone, and of one adapter; take it without experts, "
                "projector_learning_rate and modules"
            )
        return self

    @model_validator(mode="after")
    def _regulariser_is_of_adapters(self) -> "Training":
        if self.regulariser and (self.projector_learning_rate is not None or self.modules):
            raise ValueError("training.regulariser holds LoRA weights alone; train no projector and no modules with it")
        return self
