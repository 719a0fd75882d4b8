"""Every sample of the pool profiled with the current model: Ray Data around `profiler.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.data.ingest import quarantine
from liit.engine.data.readers.checks import Bad
from liit.engine.fleet import planned
from liit.engine.fleet.fitting import fitting
from liit.engine.fleet.parts import Batches, tasks_of
from liit.engine.models import loading
from liit.engine.models.experts import routed
from liit.engine.models.fingerprint import fingerprint as model_fingerprint
from liit.engine.models.weights import light
from liit.engine.run.files import read_json, read_table, write_json
from liit.engine.run.fingerprints import file_fingerprint, fingerprint
from liit.engine.run.profiles import NUMBER, packed, read_profile
from liit.engine.run.store import Clock
from liit.engine.run.tables import found_at, sort_by_key
from liit.engine.scoring.profile_spec import ProfilerSpec, layer_indices
from liit.engine.scoring.profiler import Prepared, Profiler, Row
from liit.engine.settings.config import Config
from liit.engine.settings.specs import SketchSpec


class ProfileWorker:
    """The scoring actor: one model, one planned batch in, its profile rows out."""

    def __init__(self, spec: dict[str, Any], model: str) -> None:
        self.profiler = Profiler(ProfilerSpec.of(spec))
        self.model = model

    def prepare(self, samples: list[dict[str, Any]]) -> Prepared:
        return self.profiler.prepare(samples)

    def __call__(self, prepared: Prepared) -> pa.Table:
        rows = fitting(self.profiler.run, prepared, too_large)
        return profile_table(prepared.samples, rows, self.profiler.spec, self.model)


def too_large(prepared: Prepared) -> list[Row]:
    """Of one sample that finds no room on the device."""
    tokens = sum(len(one.input_ids) for one in prepared.encoded.values())
    return [Row(str(prepared.samples[0]["id"]), f"does not fit in the device's memory, alone with its {tokens} tokens")]


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
    if name in ("image", "instruction", "instruction-input", "prompt-last", "position-mean", "projector"):
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
) -> dict[str, Any]:
    """Write the profile of a pool as part files and `columns.json` below `partial`; its samples are in the releases. Returns how
    many samples were `scored`, for the record of the result.

    previous: the profile of the timestep before, where there is one; forgetting is measured against it. looks: what the
    samples of each release look like (`task_features.py`), where each is scored by the expert that it goes to. arrival: only
    what came at this timestep; None: the whole pool.

    A sample that cannot be profiled is quarantined with stage "score"; the others of its batch are not touched by that.
    """
    samples = samples_of(releases, pool, previous, spec, config, label, looks, arrival)
    return samples.finish(samples.score(partial, label, clock), partial, quarantined)


@dataclass(frozen=True)
class Samples:
    """What is to be scored, and how."""

    pool: Path
    known: pa.Table
    """Rows of it: N samples."""
    told: Mapping[str, pa.Array]
    """What goes with each of them."""
    releases: list[Path]
    """Where they are."""
    spec: ProfilerSpec
    config: Config

    def score(
        self, folder: Path, label: str, clock: Clock, rows_n: np.ndarray | None = None, part: str = ""
    ) -> list[Path]:
        """Profile rows of the samples at these positions (None: of all) as part files in `folder`, named after `part`."""
        mine = np.arange(len(self.known)) if rows_n is None else rows_n
        keys_n = self.known["key"].to_numpy()[mine]
        told = {name: values.take(pa.array(mine)) for name, values in self.told.items()}
        tasks = [replace(task, name=f"{part}{task.name}") for task in tasks_of(self.releases, keys_n, told)]
        scoring, by = self.config.scoring, ("expert",) if "expert" in told else ()
        batches = Batches(scoring.samples_per_batch, scoring.tokens_per_batch, by)
        arguments = {"spec": asdict(self.spec), "model": self.model}
        small = light(self.spec.model, self.spec.revision)
        job = planned.Job(label, ProfileWorker, arguments, tasks, batches, light=small)
        return planned.run(folder, job, self.config.resources, clock.tick)

    @cached_property
    def model(self) -> str:
        """By which model, as the column says."""
        return model_mark(self.spec)

    def finish(self, parts: Sequence[Path], partial: Path, quarantined: Path) -> dict[str, Any]:
        """When all rows are there: quarantine what failed of those in `parts`, and write `columns.json`. Returns how many these
        are, `scored`, for the record of the result."""
        quarantine(quarantined, {"score"}, _failed(parts, self.pool))
        write_json(partial / "columns.json", columns_of(self.spec, pq.read_schema(min(partial.glob("*.parquet")))))
        return {"scored": sum(pq.read_metadata(part).num_rows for part in parts)}


def samples_of(
    releases: list[Path],
    pool: Path,
    previous: Path | None,
    spec: ProfilerSpec,
    config: Config,
    label: str,
    looks: Sequence[Path] = (),
    arrival: int | None = None,
) -> Samples:
    """The samples that `score` scores, by its arguments."""
    known = sort_by_key(read_table(pool, ["key", "arrival"]))
    if arrival is not None:
        known = known.filter(pc.equal(known["arrival"], arrival))
    if not len(known):
        raise ValueError(
            f"{label}: {pool} holds nothing that came at this timestep; leave the release out of the stream"
        )
    told = {}
    if config.training.experts is not None:
        told["expert"] = _experts(known, spec, looks)
    if "forgetting" in spec.scores:
        told["best_nll"] = _best_nll(previous, known["key"].to_numpy())
    return Samples(pool, known, told, releases, spec, config)


def _failed(parts: Sequence[Path], pool: Path) -> list[Bad]:
    """What could not be scored, with the reason."""
    tables = (pq.read_table(part, columns=["key", "status"]) for part in parts)
    failed = pa.concat_tables([table.filter(pc.not_equal(table["status"], "ok")) for table in tables])
    if not len(failed):
        return []
    known = read_table(pool, ["id", "key", "dataset"])
    rows = known.take(pc.index_in(failed["key"], known["key"].combine_chunks()).combine_chunks())
    told = zip(rows["id"].to_pylist(), rows["dataset"].to_pylist(), failed["status"].to_pylist(), strict=True)
    return [Bad(name, of, reason, "score") for name, of, reason in told]


def _experts(known: pa.Table, spec: ProfilerSpec, looks: Sequence[Path]) -> pa.ChunkedArray:
    """(N,) names: whom each sample goes to, `base` where there are no experts yet."""
    return routed(known, Path(spec.adapter) if spec.adapter else None, looks)["expert"]


def _best_nll(previous: Path | None, keys_N: np.ndarray) -> pa.Array:
    """(N,) the lowest nll on record of every sample, null where it was never profiled."""
    there = set() if previous is None else set(pq.read_schema(min(previous.glob("*.parquet"))).names)
    if previous is None or "nll" not in there:
        return pa.nulls(len(keys_N), pa.float32())
    table = read_profile(previous, sorted(there & {"nll", "forgetting"}))
    above_n = np.maximum(table["forgetting"], 0) if "forgetting" in there else 0
    at_N = found_at(table["key"].to_numpy(), keys_N)
    best_n = pa.array(table["nll"].to_numpy() - above_n, pa.float32())
    return best_n.take(pa.array(at_N, mask=at_N < 0))


def model_mark(spec: ProfilerSpec) -> str:
    """The column `model` of a profile: which model, with which adapter. One that no run made is known by its files."""
    adapter = None
    if spec.adapter is not None:
        note = Path(f"{spec.adapter}.made.json")
        adapter = str(read_json(note)["fingerprint"]) if note.is_file() else file_fingerprint(spec.adapter)
    return fingerprint(model_fingerprint(spec.model, spec.revision), adapter)


def _of(sketch: SketchSpec) -> str | tuple[int, ...]:
    return "projector" if sketch.parameters == "projector" else sketch.layers


def columns_of(spec: ProfilerSpec, schema: pa.Schema) -> dict[str, Any]:
    """What each vector is, for whoever reads the profile without the run."""
    kinds: dict[str, dict[str, Any]] = {
        "embedding": {"kind": "hidden state", "tokens": "response", "layers": spec.embedding_layers},
        "image": {"kind": "hidden state", "tokens": "image", "layers": "first"},
        "instruction": {"kind": "hidden state", "tokens": "instruction", "layers": "middle"},
        "coincide": {"kind": "attention output", "tokens": "image, then text", "depths": spec.coincide_depths},
        "instruction-input": {"kind": "input embedding", "tokens": "instruction"},
        "prompt-last": {"kind": "hidden state", "layers": "middle", "tokens": "last of the prompt"},
        "position-mean": {"kind": "hidden state", "layers": "last", "tokens": "all, by position"},
        "projector": {"kind": "projector output", "tokens": "image"},
        **{
            name: {"kind": "gradient", **asdict(sketch), "layers": _of(sketch)}
            for name, sketch in spec.sketches.items()
        },
    }
    common = {"dtype": "float16", "normalisation": "l2", "seed": spec.seed}
    return {
        name: {**kinds[name], "dimension": schema.field(name).type.byte_width // NUMBER.itemsize, **common}
        for name in spec.vectors
    }
