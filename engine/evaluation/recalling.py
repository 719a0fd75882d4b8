"""How likely a model still finds the reference answers: what is left of a skill is seen where every answer it writes is wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import torch

from liit.engine.data.readers.images import open_image
from liit.engine.evaluation.answering import Prompts, Speaker, no_room, prompts_of
from liit.engine.fleet.fitting import fitting
from liit.engine.models.encoding import Encoded, encode
from liit.engine.scoring.passes import Batch, response_logits
from liit.engine.scoring.scores import token_nll

BOTH = pa.struct([("answer", pa.string()), ("loss", pa.float32())])


class Recaller(Speaker):
    """The actor: one planned batch of samples in; out what it answers to each, and the loss of the reference."""

    def prepare(self, samples: list[dict[str, Any]]) -> Prompts:
        references = references_of(self.processor, samples, self.max_length)
        return Prompts(samples, prompts_of(self.processor, samples, self.max_length), references)

    def __call__(self, prompts: Prompts) -> pa.Table:
        with self.speaking(prompts.samples):
            losses = fitting(self._losses, prompts, no_room)
        answers = self.answers_to(prompts)
        both = [{"answer": answer, "loss": loss} for answer, loss in zip(answers, losses, strict=True)]
        return pa.table({"id": [sample["id"] for sample in prompts.samples], "answer": pa.array(both, BOTH)})

    def _losses(self, prompts: Prompts) -> list[float]:
        return reference_losses(self.model, self.processor, prompts.references)


def references_of(processor: Any, samples: Sequence[Mapping[str, Any]], max_length: int) -> list[Encoded]:
    """The samples with only the last assistant turn marked."""
    return [
        last_turn(encode(processor, one["conversation"], [open_image(image) for image in one["images"]], max_length))
        for one in samples
    ]


@torch.no_grad()
def reference_losses(model: Any, processor: Any, references: Sequence[Encoded]) -> list[float]:
    """Mean negative log-likelihood of the tokens of each sample's last assistant turn, its end included, in nats."""
    batch = Batch(references, processor, "right", model)
    losses: list[float] = batch.means(token_nll(response_logits(model, batch), batch.targets_M)).tolist()
    return losses


def last_turn(sample: Encoded) -> Encoded:
    """The same sample with only its last run of response tokens marked."""
    others = (~sample.response).nonzero().flatten()
    end = int(sample.response.nonzero().max())
    before = others[others < end]
    mask = torch.zeros_like(sample.response)
    mask[int(before.max()) + 1 if len(before) else 0 : end + 1] = True
    return replace(sample, response=mask)
