"""A model's greedy answers to a batch of samples, with the expert of each where there are some."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
import torch

from liit.engine.data.readers.images import open_image
from liit.engine.evaluation.merging import CannotMerge, merged_to_answer
from liit.engine.fleet.fitting import fitting
from liit.engine.fleet.running import TaskError
from liit.engine.models import loading
from liit.engine.models.adapters import speaking_as, with_adapters
from liit.engine.models.encoding import Encoded, collate, encode_prompt, pad_id_of, placed, tokenizer_of
from liit.engine.models.experts import Experts, adapter_of, is_experts
from liit.engine.models.responses import stop_ids
from liit.engine.run.progress import log
from liit.engine.settings.specs import TemplateSpec

Sample = Mapping[str, Any]
GIVEN = pa.schema([("id", pa.string()), ("answer", pa.string())])


@dataclass(frozen=True)
class Prompts:
    """Samples of a planned batch, and what the model is shown of each."""

    samples: Sequence[Sample]
    encoded: Sequence[Encoded]
    references: Sequence[Encoded] = ()
    """Each with its last assistant turn, where that is wanted too."""

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, some: slice) -> "Prompts":
        return Prompts(self.samples[some], self.encoded[some], self.references[some])

    @property
    def nbytes(self) -> int:
        return sum(one.nbytes for one in (*self.encoded, *self.references))


class Speaker:
    """What evaluation actors hold: one model, with its adapter or its experts, that answers samples."""

    def __init__(
        self,
        model: Mapping[str, Any],
        adapter: str | None,
        max_length: int,
        new_tokens: Mapping[str, int],
        template: TemplateSpec | None = None,
    ) -> None:
        self.processor = loading.load_processor(model["path"], model["revision"], template)
        self.experts = Experts.load(Path(adapter)) if adapter and is_experts(Path(adapter)) else None
        self.apart: str | None = None
        """Why the adapter is not merged into the base, where it is not."""
        self.model: Any = self._loaded(model, adapter).to("cuda" if torch.cuda.is_available() else "cpu")
        self.max_length, self.new_tokens = max_length, new_tokens

    def _loaded(self, model: Mapping[str, Any], adapter: str | None) -> Any:
        """With an adapter in its weights: a LoRA apart computes two more products for every linear and token."""
        base = loading.load_model(**model)
        if self.experts:
            return with_adapters(base, self.experts.adapters())
        if adapter is None:
            return base
        try:
            return merged_to_answer(base, Path(adapter))
        except CannotMerge as why:
            self.apart = str(why)
        del base  # changed in part; here no traceback holds it, so there are never two in memory
        return loading.load_model(**model, adapter=adapter)

    def answer(self, samples: Sequence[Sample]) -> list[str]:
        """What the model writes in place of each sample's last assistant turn.

        Every answer is cut at its own data set's `max_new_tokens`, so it does not depend on its batch. With experts, all
        samples of a batch go to the one that their column `expert` names. Raises TaskError, naming the sample, for one that
        finds no room on the device.
        """
        return self.answers_to(Prompts(samples, prompts_of(self.processor, samples, self.max_length)))

    def answers_to(self, prompts: Prompts) -> list[str]:
        """The part of `answer` that needs the model."""
        if self.apart:
            log.warning("the adapter stays apart from its base, so answers take longer: %s", self.apart)
        with self.speaking(prompts.samples):
            return fitting(self._written, prompts, no_room)

    def speaking(self, samples: Sequence[Sample]) -> AbstractContextManager[None]:
        """The model with the expert of this batch, where there are experts."""
        return speaking_as(self.model, adapter_of(samples[0]["expert"])) if self.experts else nullcontext()

    def _written(self, prompts: Prompts) -> list[str]:
        limits = [self.new_tokens[sample["dataset"]] for sample in prompts.samples]
        return write_answers(self.model, self.processor, prompts.encoded, limits)


class Answerer(Speaker):
    """The evaluation actor: one planned batch of samples in, their greedy answers out."""

    def prepare(self, samples: list[dict[str, Any]]) -> Prompts:
        return Prompts(samples, prompts_of(self.processor, samples, self.max_length))

    def __call__(self, prompts: Prompts) -> pa.Table:
        ids = [sample["id"] for sample in prompts.samples]
        return pa.table({"id": ids, "answer": self.answers_to(prompts)}, schema=GIVEN)


def no_room(prompts: Prompts) -> NoReturn:
    """Raises TaskError for a sample that finds no room on the device."""
    name, tokens = prompts.samples[0]["id"], len(prompts.encoded[0].input_ids)
    raise TaskError(
        f"{name}: its {tokens} tokens and the answer do not fit in the device's memory, even alone; give an actor more of a GPU "
        "(resources.gpus_per_actor), lower max_new_tokens of its evaluation set, or take it out of that set's file"
    )


def prompts_of(processor: Any, samples: Sequence[Sample], max_length: int) -> list[Encoded]:
    """The samples up to the last assistant turn, with their images."""
    return [
        encode_prompt(processor, one["conversation"], [open_image(image) for image in one["images"]], max_length)
        for one in samples
    ]


@torch.no_grad()
def write_answers(model: Any, processor: Any, prompts: Sequence[Encoded], limits: Sequence[int]) -> list[str]:
    """Greedy answers to prompts, as text without special tokens, each of so many tokens at most.

    An answer ends with the token that ends a turn in training, or with one that ends the model's own texts.
    """
    inputs = collate(prompts, pad_id_of(processor), side="left")
    del inputs["response"]
    inputs = placed(inputs, model)
    pad, decode = pad_id_of(processor), tokenizer_of(processor).decode
    ends = end_ids(model, processor)
    out = model.generate(
        **inputs, do_sample=False, max_new_tokens=max(limits), pad_token_id=pad, eos_token_id=sorted(ends) or None
    )
    new = [takewhile(lambda token: token not in ends, row) for row in out[:, inputs["input_ids"].shape[1] :].tolist()]
    return [decode(list(row)[:limit], skip_special_tokens=True).strip() for row, limit in zip(new, limits, strict=True)]


def end_ids(model: Any, processor: Any) -> set[int]:
    """Ids that end an answer: of the chat template and the tokenizer, and of the model's own generation settings."""
    own = model.generation_config.eos_token_id
    return {*stop_ids(processor), *([] if own is None else [own] if isinstance(own, int) else own)}
