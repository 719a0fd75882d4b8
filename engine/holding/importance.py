"""How much each adapter weight matters for what was learned, from every sample's own gradient.

    EWC:  I_i = E_x (∂ℓ(x)/∂θ_i)²,   ℓ the mean loss of a sample's response tokens
    MAS:  I_i = E_x |∂h(x)/∂θ_i|,    h the mean over them of Σ_v logit_v²

Squares (or absolute values) are taken sample by sample, before anything is averaged: the square of a batch's mean gradient
is smaller by about the size of the batch. Samples are streamed through actors like those that score. A group of a task's samples,
the same whoever takes it, gives one sum, in float64, a column for each weight; the sums are added up in the order of the
groups, so that the result does not depend on how many actors there are.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from safetensors.torch import load, save, save_file

from liit.engine.fleet import planned
from liit.engine.fleet.fitting import fitting
from liit.engine.fleet.parts import Batches, tasks_of
from liit.engine.models import adapters, anatomy, loading
from liit.engine.models.weights import light
from liit.engine.run.files import appearing, read_table, remove
from liit.engine.run.store import Clock
from liit.engine.scoring.gradients import Linear, Recorder, lora_gradients
from liit.engine.scoring.passes import Batch, response_logits
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Prepared, Profiler
from liit.engine.scoring.projections import TILE, Gradient
from liit.engine.scoring.scores import token_nll
from liit.engine.scoring.scoring import too_large
from liit.engine.settings.config import Config
from liit.engine.settings.training import Regulariser

ROWS = pa.schema([("id", pa.string()), ("key", pa.uint64()), ("status", pa.string())])
LEAST_SAMPLES, MOST_GROUPS = 64, 16
"""Of a group, and for a task: what comes of a group is twice as large as the adapter."""


def measure(
    chosen: pa.Table,
    names_n: np.ndarray,
    spec: ProfilerSpec,
    rule: Regulariser,
    config: Config,
    partial: Path,
    label: str,
    clock: Clock,
) -> None:
    """Write the importance of every LoRA weight for each task: `<task>.safetensors`, float32, by `lora_gradients`' names.

    chosen: SAMPLE rows. names_n: the task of each. spec: the model, and its adapter or, in `lora`, the fresh one that training
    begins with. Raises ValueError that names a sample which cannot be read any more.
    """
    scoring = config.scoring
    names_n = names_n.astype(str)
    work, arguments = partial.with_name(f"{partial.name}.work"), {"spec": spec, "kind": rule.kind}
    table, groups = work.with_name(f"{work.name}.samples"), _grouped(names_n)
    _write(table, chosen, groups)
    batches = Batches(scoring.samples_per_batch, min(scoring.tokens_per_batch, rule.tokens_per_batch))
    tasks = tasks_of([table], chosen["key"].to_numpy())
    small = light(spec.model, spec.revision)
    job = planned.Job(label, ImportanceWorker, arguments, tasks, batches, light=small)
    parts: dict[str, list[Path]] = {}
    for (task, _), part in zip(groups, planned.run(work, job, config.resources, clock.tick), strict=True):
        _check(part)
        parts.setdefault(task, []).append(part)
    partial.mkdir(exist_ok=True)
    for task, of in parts.items():
        save_file(_means(of, int((names_n == task).sum())), partial / f"{task}.safetensors")
    remove(work)
    remove(table)


def _check(part: Path) -> None:
    found = read_table(part, ["id", "status"])
    bad = found.filter(pc.not_equal(found["status"], "ok"))
    if len(bad):
        raise ValueError(f"{bad['id'][0]}: was good when selected, and cannot be read now: {bad['status'][0]}")


def _means(parts: list[Path], count: int) -> dict[str, torch.Tensor]:
    """Of each weight, in float32, from the sums of all groups of a task; memory holds those of one weight at a time."""
    with ExitStack() as stack:
        opened = [stack.enter_context(pq.ParquetFile(part)) for part in parts]
        names = [name for name in opened[0].schema_arrow.names if name not in ROWS.names]
        nothing = torch.zeros((), dtype=torch.float64)
        return {name: (sum((_sums(file, name) for file in opened), nothing) / count).float() for name in names}


def _sums(opened: pq.ParquetFile, name: str) -> torch.Tensor:
    return load(opened.read(columns=[name])[name][0].as_py())[name]


def _grouped(names_n: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """The samples of each task in groups: for each the task, and its rows."""
    groups = []
    for task in np.unique(names_n):
        rows = np.flatnonzero(names_n == task)
        size = max(LEAST_SAMPLES, -(-len(rows) // MOST_GROUPS))
        groups += [(str(task), rows[start : start + size]) for start in range(0, len(rows), size)]
    return groups


def _write(path: Path, chosen: pa.Table, groups: list[tuple[str, np.ndarray]]) -> None:
    """The samples as a table of which a part is a group."""
    with appearing(path) as temporary, pq.ParquetWriter(temporary, chosen.schema) as writer:
        for _, rows in groups:
            writer.write_table(chosen.take(pa.array(rows)), row_group_size=len(rows))


class ImportanceWorker:
    """The actor: the model with its adapter apart from the weights; a group of samples in, its sums out."""

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

    def whole(self, prepared: Iterable[Prepared]) -> pa.Table:
        """id, key and status of every sample of a group; in the first row their sums, a column for each weight."""
        total: dict[str, torch.Tensor] = {}
        rows: list[dict[str, Any]] = []
        for one in prepared:
            for sums, status in fitting(self._summed, one, _too_large):
                for name, values in sums.items():
                    total[name] = total.get(name, torch.zeros(())) + values.double()
                rows += status
        table, nothing = pa.Table.from_pylist(rows, schema=ROWS), [None] * (len(rows) - 1)
        for name in sorted(total):
            mine = save({name: total.pop(name)})
            table = table.append_column(name, pa.array([mine, *nothing], pa.large_binary()))
        return table

    def _summed(self, one: Prepared) -> list[tuple[dict[str, torch.Tensor], list[dict[str, Any]]]]:
        """The sums of a batch, and a row for each of its samples."""
        profiler, sums = self.profiler, {}
        if one.encoded:
            batch = Batch(list(one.encoded.values()), profiler.processor, profiler.spec.padding_side, profiler.model)
            sums = importance_sums(profiler.model, batch, self.kind)
        rows = [
            {"id": str(sample["id"]), "key": sample["key"], "status": one.failed.get(at, "ok")}
            for at, sample in enumerate(one.samples)
        ]
        return [(sums, rows)]


def _too_large(one: Prepared) -> list[tuple[dict[str, torch.Tensor], list[dict[str, Any]]]]:
    return [({}, [{"id": row.id, "key": one.samples[0]["key"], "status": row.status} for row in too_large(one)])]


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
