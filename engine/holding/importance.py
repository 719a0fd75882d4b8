"""How much each adapter weight matters for what was learned, from every sample's own gradient.

    EWC:  I_i = E_x (∂ℓ(x)/∂θ_i)²,   ℓ the mean loss of a sample's response tokens
    MAS:  I_i = E_x |∂h(x)/∂θ_i|,    h the mean over them of Σ_v logit_v²

Squares (or absolute values) are taken sample by sample, before anything is averaged: the square of a batch's mean gradient
is smaller by about the size of the batch. Samples are streamed through actors like those that score; a planned batch gives
one sum, and the sums are added up in the order of the plan, so that the result does not depend on how many actors there are.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors.torch import load, save, save_file

from liit.engine.fleet import planned
from liit.engine.fleet.batching import plan_groups
from liit.engine.models import adapters, anatomy, loading
from liit.engine.run.files import read_table, remove
from liit.engine.run.store import Clock
from liit.engine.scoring.gradients import Linear, Recorder, lora_gradients
from liit.engine.scoring.passes import Batch, response_logits
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Prepared, Profiler
from liit.engine.scoring.projections import TILE, Gradient
from liit.engine.scoring.scores import token_nll
from liit.engine.settings.config import Config


def measure(
    chosen: pa.Table, names_n: np.ndarray, spec: ProfilerSpec, config: Config, partial: Path, label: str, clock: Clock
) -> None:
    """Write the importance of every LoRA weight for each task: `<task>.safetensors`, float32, by `lora_gradients`' names.

    chosen: SAMPLE rows. names_n: the task of each. spec: the model, and its adapter or, in `lora`, the fresh one that training
    begins with. Raises ValueError that names a sample which cannot be read any more.
    """
    rule, scoring = config.training.regulariser, config.scoring
    assert rule is not None
    keys_N = chosen["key"].to_numpy()
    lengths_N, names_n = chosen["length"].to_numpy(), names_n.astype(str)
    limits = scoring.samples_per_batch, min(scoring.tokens_per_batch, rule.tokens_per_batch)
    batch_N = plan_groups(names_n, keys_N, lengths_N, *limits)  # a batch is of one task
    work, arguments = partial.with_name(f"{partial.name}.work"), {"spec": spec, "kind": rule.kind}
    # One batch a file: what comes of it is as large as the adapter.
    job = planned.Job(label, ImportanceWorker, arguments, keys_N, batch_N, lambda: iter([chosen]), batches_per_file=1)
    task_of_key = dict(zip(keys_N.tolist(), names_n.tolist(), strict=True))
    total: dict[str, dict[str, torch.Tensor]] = {}
    for part in planned.run(work, job, config.resources, clock.tick):
        table = read_table(part)
        bad = table.filter(pc.not_equal(table["status"], "ok"))
        if len(bad):
            raise ValueError(f"{bad['id'][0]}: was good when selected, and cannot be read now: {bad['status'][0]}")
        table = table.filter(pc.is_valid(table["sums"]))
        for key, sums in zip(table["key"].to_pylist(), table["sums"].to_pylist(), strict=True):
            mine = total.setdefault(task_of_key[key], {})
            for name, values in load(sums).items():
                mine[name] = mine.get(name, torch.zeros(())) + values.double()
    partial.mkdir(exist_ok=True)
    for task, of in total.items():
        count = int((names_n == task).sum())
        save_file({name: (values / count).float() for name, values in of.items()}, partial / f"{task}.safetensors")
    remove(work)


class ImportanceWorker:
    """The actor: the model with its adapter apart from the weights; a planned batch in, its sums out."""

    def __init__(self, spec: ProfilerSpec, kind: str) -> None:
        self.kind = kind
        model = loading.load_model(
            spec.model, revision=spec.revision, dtype=spec.dtype, attention=spec.attention, adapter=spec.adapter
        )
        if spec.adapter is None:
            model = adapters.add_lora(model, **(spec.lora or {})).requires_grad_(False).eval()
        processor = loading.load_processor(spec.model, spec.revision, spec.template)
        self.profiler = Profiler(spec, loaded=(processor, model))

    def prepare(self, samples: list[dict[str, Any]]) -> Prepared:
        return self.profiler.prepare(samples)

    def __call__(self, prepared: Prepared) -> pa.Table:
        """id, key and status of every sample; `sums` of the batch in its first row."""
        count = len(prepared.samples)
        encoded, profiler = list(prepared.encoded.values()), self.profiler
        sums: list[bytes | None] = [None] * count
        if encoded:
            batch = Batch(encoded, profiler.processor, profiler.spec.padding_side, profiler.model)
            sums[0] = save(importance_sums(profiler.model, batch, self.kind))
        status = [prepared.failed.get(at, "ok") for at in range(count)]
        return pa.table(
            {
                "id": pa.array([str(sample["id"]) for sample in prepared.samples], pa.string()),
                "key": pa.array([sample["key"] for sample in prepared.samples], pa.uint64()),
                "status": pa.array(status, pa.string()),
                "sums": pa.array(sums, pa.large_binary()),
            }
        )


def importance_sums(model: torch.nn.Module, batch: Batch, kind: str) -> dict[str, torch.Tensor]:
    """Σ over the batch's samples of the squared (ewc) or absolute (mas) gradient of every LoRA weight."""
    layers = dict(enumerate(anatomy.decoder_layers(model)))
    sums: dict[str, torch.Tensor] = {}

    def take(linear: Linear) -> None:
        with torch.no_grad():
            sums.update((name, _summed(gradient, kind)) for name, gradient in lora_gradients([linear]))

    with Recorder(layers) as recorder, torch.enable_grad():
        logits_MV = response_logits(model, batch)
        values_M = token_nll(logits_MV, batch.targets_M) if kind == "ewc" else logits_MV.float().square().sum(-1)
        recorder.backward_one_by_one(batch.means(values_M), batch.attention_BS, take)
    return sums


def _summed(gradient: Gradient, kind: str) -> torch.Tensor:
    """(O, I) of (B, O, I), some rows at a time."""
    samples, outputs, inputs = gradient.shape
    step = max(TILE // (samples * inputs), 1)

    def parts() -> Iterator[torch.Tensor]:
        for start in range(0, outputs, step):
            rows = gradient.rows(start, min(start + step, outputs))
            yield (rows.square() if kind == "ewc" else rows.abs()).sum(0)

    return torch.cat(list(parts())).cpu()
