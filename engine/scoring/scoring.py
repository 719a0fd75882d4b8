"""Every sample of the pool profiled with the current model: Ray Data around `profiler.py`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.data.ingest import quarantine
from liit.engine.data.pool import described
from liit.engine.data.readers.checks import Bad
from liit.engine.fleet import planned
from liit.engine.fleet.batching import plan_groups
from liit.engine.fleet.work import places, read_chunks, rows_that_fit
from liit.engine.models import loading
from liit.engine.models.experts import routed
from liit.engine.models.fingerprint import fingerprint as model_fingerprint
from liit.engine.run.files import read_json, read_table, write_json, write_table
from liit.engine.run.fingerprints import file_fingerprint, fingerprint
from liit.engine.run.profiles import NUMBER, packed, read_profile
from liit.engine.run.store import Clock
from liit.engine.scoring.profile_spec import ProfilerSpec, layer_indices
from liit.engine.scoring.profiler import Prepared, Profiler, Row
from liit.engine.settings.config import Config
from liit.engine.settings.sketch_spec import SketchSpec


class ProfileWorker:
    """The scoring actor: one model, one planned batch in, its profile rows out."""

    def __init__(self, spec: dict[str, Any], model: str) -> None:
        self.profiler = Profiler(ProfilerSpec.of(spec))
        self.model = model

    def prepare(self, samples: list[dict[str, Any]]) -> Prepared:
        return self.profiler.prepare(samples)

    def __call__(self, prepared: Prepared) -> pa.Table:
        return profile_table(prepared.samples, self.profiler.run(prepared), self.profiler.spec, self.model)


def profile_table(samples: Sequence[Mapping[str, Any]], rows: list[Row], spec: ProfilerSpec, model: str) -> pa.Table:
    """Profile rows as a table; a failed sample has NaN scores and zero vectors, and its reason as status."""
    columns: dict[str, Any] = {
        "id": pa.array([row.id for row in rows], pa.string()),
        "key": pa.array([sample["key"] for sample in samples], pa.uint64()),
        "n_tokens": pa.array([row.n_tokens for row in rows], pa.int32()),
        "n_response_tokens": pa.array([row.n_response_tokens for row in rows], pa.int32()),
        "model": pa.array([model] * len(rows), pa.string()),
        "status": pa.array([row.status for row in rows], pa.string()),
    }
    for name in spec.scores:
        columns[name] = pa.array([row.scores[name] if row.scores else np.nan for row in rows], pa.float32())
    for name in spec.vectors:
        size = next((len(row.vectors[name]) for row in rows if row.vectors), 0) or width(name, spec)
        columns[name] = packed(np.stack([row.vectors[name] if row.vectors else np.zeros(size) for row in rows]))
    return pa.table(columns)


def width(name: str, spec: ProfilerSpec) -> int:
    """What a vector's width would be, where every sample of a batch failed."""
    if name in spec.sketches:
        return spec.sketches[name].size
    text = loading.text_config(spec.model, spec.revision)
    count, hidden = int(text.num_hidden_layers), int(text.hidden_size)
    if name in ("image", "instruction", "projector"):
        return hidden
    if name == "coincide":
        return 2 * hidden * len({int(depth * count) for depth in spec.coincide_depths})
    return min(spec.embedding, hidden * len(layer_indices(spec.embedding_layers, count)))


def score(
    releases: list[Path],
    pool: Path,
    previous: Path | None,
    spec: ProfilerSpec,
    config: Config,
    partial: Path,
    quarantined: Path,
    label: str,
    clock: Clock,
    looks: Sequence[Path] = (),
    arrival: int | None = None,
) -> None:
    """Write the profile of a pool as part files and `columns.json` below `partial`; its samples are in the releases.

    previous: the profile of the timestep before, where there is one; forgetting is measured against it. looks: what the
    samples of each release look like (`task_features.py`), where each is scored by the expert that it goes to. arrival: only
    what came at this timestep; None: the whole pool.

    The plan of batches is stored beside it as `profile.batches.parquet`. A sample that cannot be profiled is quarantined with
    stage "score"; the others of its batch are not touched by that.
    """
    scoring = config.scoring
    known = described(releases, pool, arrival)
    if not len(known):
        raise ValueError(
            f"{label}: {pool} holds nothing that came at this timestep; leave the release out of the stream"
        )
    keys_N, expert_N = known["key"].to_numpy(), _experts(known, spec, looks)
    batch_N = plan_groups(
        expert_N, keys_N, known["length"].to_numpy(), scoring.samples_per_batch, scoring.tokens_per_batch
    )
    plan = known.select(["id", "key", "length"]).append_column("batch", pa.array(batch_N))
    write_table(partial.with_name(f"{partial.name.partition('.')[0]}.batches.parquet"), plan)
    arguments = {"spec": asdict(spec), "model": model_mark(spec)}
    best = _Best(previous) if "forgetting" in spec.scores else None

    def chunks() -> Iterator[pa.Table]:
        sorter = np.argsort(keys_N)
        for chunk in read_chunks(releases):
            at = places(chunk["key"].to_numpy(), keys_N, sorter)
            chunk = chunk.append_column("expert", pa.array(expert_N[at], mask=at < 0))
            yield chunk if best is None else best.beside(chunk)

    job = planned.Job(
        label, ProfileWorker, arguments, keys_N, batch_N, chunks, scoring.batches_per_file, rows_that_fit(releases)
    )
    parts = planned.run(partial, job, config.resources, clock.tick)
    status = pa.concat_tables([read_table(part, ["id", "status"]) for part in parts])
    failed = status.filter(pc.not_equal(status["status"], "ok"))
    dataset = known["dataset"].take(pc.index_in(failed["id"], known["id"].combine_chunks()))
    rows = zip(*(column.to_pylist() for column in (failed["id"], dataset, failed["status"])), strict=True)
    quarantine(quarantined, {"score"}, [Bad(name, of, reason, "score") for name, of, reason in rows])
    write_json(partial / "columns.json", columns_of(spec, read_table(parts[0])))


def _experts(known: pa.Table, spec: ProfilerSpec, looks: Sequence[Path]) -> np.ndarray:
    """(N,) names: whom each sample goes to, `base` where there are no experts."""
    adapter = Path(spec.adapter) if spec.adapter else None
    return np.array(routed(known, adapter, looks)["expert"].to_pylist(), dtype=str)


class _Best:
    """The lowest nll on record of every sample that was profiled before."""

    def __init__(self, previous: Path | None) -> None:
        there = set() if previous is None else set(pq.read_schema(min(previous.glob("*.parquet"))).names)
        if previous is None or "nll" not in there:
            self.keys, self.nll, self.sorter = np.empty(0, np.uint64), np.empty(0), np.empty(0, np.intp)
            return
        table = read_profile(previous, sorted(there & {"nll", "forgetting"}))
        above_N = np.maximum(table["forgetting"], 0) if "forgetting" in there else 0
        self.keys, self.nll = table["key"].to_numpy(), table["nll"].to_numpy() - above_N
        self.sorter = np.argsort(self.keys)

    def beside(self, chunk: pa.Table) -> pa.Table:
        """The chunk with a column `best_nll`, null at a sample's first visit."""
        at = places(chunk["key"].to_numpy(), self.keys, self.sorter)
        best = pa.array(self.nll, pa.float32()).take(pa.array(at, mask=at < 0))
        return chunk.append_column("best_nll", best)


def model_mark(spec: ProfilerSpec) -> str:
    """The column `model` of a profile: which model, with which adapter. One that no run made is known by its files."""
    adapter = None
    if spec.adapter is not None:
        note = Path(f"{spec.adapter}.made.json")
        adapter = str(read_json(note)["fingerprint"]) if note.is_file() else file_fingerprint(spec.adapter)
    return fingerprint(model_fingerprint(spec.model, spec.revision), adapter)


def _of(sketch: SketchSpec) -> str | tuple[int, ...]:
    return "projector" if sketch.parameters == "projector" else sketch.layers


def columns_of(spec: ProfilerSpec, table: pa.Table) -> dict[str, Any]:
    """What each vector is, for whoever reads the profile without the run."""
    kinds: dict[str, dict[str, Any]] = {
        "embedding": {"kind": "hidden state", "tokens": "response", "layers": spec.embedding_layers},
        "image": {"kind": "hidden state", "tokens": "image", "layers": "first"},
        "instruction": {"kind": "hidden state", "tokens": "instruction", "layers": "middle"},
        "coincide": {"kind": "attention output", "tokens": "image, then text", "depths": spec.coincide_depths},
        "projector": {"kind": "projector output", "tokens": "image"},
        **{
            name: {"kind": "gradient", **asdict(sketch), "layers": _of(sketch)}
            for name, sketch in spec.sketches.items()
        },
    }
    common = {"dtype": "float16", "normalisation": "l2", "seed": spec.seed}
    return {
        name: {**kinds[name], "dimension": table[name].type.byte_width // NUMBER.itemsize, **common}
        for name in spec.vectors
    }
