"""One padded batch through the model: token scores of the responses, and beside them gradients and hidden states.

Legend: B samples, S positions, M response tokens of the batch, V vocabulary, D features.
"""

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from liit.engine.models import anatomy
from liit.engine.models.encoding import Encoded, collate, pad_id_of, placed
from liit.engine.scoring.gradients import Linear, Recorder
from liit.engine.scoring.profile_spec import PROJECTOR
from liit.engine.scoring.scores import sample_means, token_nll


class Batch:
    """Samples padded together on the model's device, and where their responses are."""

    def __init__(self, encoded: Sequence[Encoded], processor: Any, side: str, model: nn.Module) -> None:
        self.inputs = placed(collate(encoded, pad_id_of(processor), side), model)
        self.response_BS: torch.Tensor = self.inputs.pop("response")
        self.image_BS: torch.Tensor = self.inputs["input_ids"] == anatomy.image_token(model)
        self.predicts_BS = torch.zeros_like(self.response_BS)
        self.predicts_BS[:, :-1] = self.response_BS[:, 1:]
        self.counts = [int(one.response.sum()) for one in encoded]

    @property
    def attention_BS(self) -> torch.Tensor:
        attention: torch.Tensor = self.inputs["attention_mask"]
        return attention

    @property
    def targets_M(self) -> torch.Tensor:
        targets: torch.Tensor = self.inputs["input_ids"][self.response_BS]
        return targets

    def means(self, values_M: torch.Tensor) -> torch.Tensor:
        """Mean over each sample's own response tokens, (B,) or (B, k)."""
        return sample_means(values_M, self.counts)


@dataclass(frozen=True)
class Seen:
    """What came of a pass."""

    logits_MV: torch.Tensor
    losses_B: torch.Tensor
    linears: Mapping[float, list[Linear]]
    """Of the layers whose gradients were wanted, by the temperature of the loss."""
    outputs: Mapping[nn.Module, torch.Tensor]
    """Of the watched modules, (B, S, ...); of the output head what it is given, the last hidden states."""


def look(
    model: nn.Module,
    batch: Batch,
    gradient_layers: Mapping[float, Collection[int]] | None = None,
    watched: Collection[nn.Module] = (),
) -> Seen:
    """One forward, and for each temperature a backward to the linears of its layers; no gradient of a weight is ever formed."""
    wanted = gradient_layers or {}
    layers = anatomy.decoder_layers(model)
    outputs: dict[nn.Module, torch.Tensor] = {}

    def keep(module: nn.Module, inputs: Any, output: Any) -> None:
        outputs[module] = (output[0] if isinstance(output, tuple) else output).detach()

    def given(module: nn.Module, inputs: Any) -> None:
        outputs[module] = inputs[0].detach()

    head = anatomy.unwrapped(model).get_output_embeddings()
    recorded = sorted({index for indices in wanted.values() for index in indices})
    if PROJECTOR in recorded and not batch.image_BS.any():
        recorded.remove(PROJECTOR)  # it is not asked
    recorder = Recorder(
        {index: layers[index] if index != PROJECTOR else anatomy.projector(model) for index in recorded}
    )
    with ExitStack() as during, torch.set_grad_enabled(bool(recorded)):
        for module in watched:
            hook = module.register_forward_pre_hook(given) if module is head else module.register_forward_hook(keep)
            during.callback(hook.remove)
        during.enter_context(recorder)
        if len(layers) - 1 not in recorded and head not in watched:
            during.enter_context(anatomy.mlp_at(layers[-1], batch.predicts_BS | batch.response_BS))
        logits = response_logits(model, batch)
        losses = {heat: batch.means(token_nll(logits / heat, batch.targets_M)) for heat in wanted}
    linears = {}
    for left, (heat, mine) in zip(reversed(range(len(wanted))), wanted.items(), strict=True):
        linears[heat] = recorder.backward(losses[heat], batch.attention_BS, batch.image_BS, mine, retain=left > 0)
    logits = logits.detach()
    plain = losses[1.0].detach() if 1.0 in losses else batch.means(token_nll(logits, batch.targets_M))
    return Seen(logits, plain, linears, outputs)


def response_logits(model: nn.Module, batch: Batch) -> torch.Tensor:
    """Logits (M, V) of the positions that predict response tokens. The head sees no other."""
    with anatomy.head_at(model, batch.predicts_BS):
        logits: torch.Tensor = model(**batch.inputs, use_cache=False).logits[0]
    return logits
