"""What of a pool is scored again and what keeps the rows that it has: a sample is scored once, not at every timestep.

Two passes of the model: over what is new, too old, or of the sample of its group; then over the rest of the groups that this
sample shows to have moved (`selectors/refreshing.py`). All others' rows are copied from the profile of the timestep before: so a
profile has every sample once, as if all had been scored, whoever reads it, and needs no older one beside it.

Legend: N samples of a pool that the timestep before has rows of, G groups of them, n rows of a part.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.choosing.refreshed import say, written
from liit.engine.fleet import planned
from liit.engine.fleet.parts import marked, tasks_of
from liit.engine.run.files import files_of, read_json, read_table, write_json
from liit.engine.run.profiles import ROWS, unpacked
from liit.engine.run.store import Clock
from liit.engine.run.tables import found_at, sort_by_key
from liit.engine.scoring.scoring import Samples
from liit.engine.settings.sections import Resources
from liit.selectors.priority import Indices
from liit.selectors.refreshing import Drift, Rules, group_sums, sampled, score_drift, stale, vector_drift

TOLD_FROM_NLL = "forgetting"
"""A score whose drift is that of another."""


@dataclass(frozen=True)
class Before:
    """What the timestep before has of the samples of a pool, N of them, in the order of their keys."""

    profile: Path
    at_N: Indices
    """Where each is in the pool."""
    keys_N: np.ndarray
    age_N: np.ndarray
    """Timesteps since the row was what the model of its time says; 0 where that is the model of now."""
    scores: dict[str, np.ndarray]
    group_N: np.ndarray
    by: str
    """What groups are: `cluster` or `dataset`."""
    names: list[str]
    """Of the groups."""
    models: dict[str, int]
    """By the column `model`: the last timestep that had this one."""

    def among(self, keys_n: np.ndarray, wanted: Indices) -> tuple[Indices, Indices]:
        """Of rows with these keys, those that are wanted of the N: where each stands among the N, and among the rows."""
        at_n = found_at(self.keys_N[wanted], keys_n)
        mine = np.flatnonzero(at_n >= 0)
        return wanted[at_n[mine]], mine


def refresh(
    samples: Samples,
    previous: Path,
    clusters: Path | None,
    t: int,
    partial: Path,
    quarantined: Path,
    label: str,
    clock: Clock,
) -> dict[str, Any]:
    """Write the profile of a pool as `score` does, and `refresh.json` beside it: how many were scored, and why.

    previous: the profile of the timestep before, made by the same settings. clusters: its CLUSTERS rows; None: groups are data
    sets.
    """
    told, seed = samples.config.scoring.refresh, samples.config.seed
    assert told is not None
    rules = Rules(**told.model_dump())
    before = _before(samples, previous, clusters, t)
    old_N = before.age_N > rules.max_age
    asked_N = np.zeros(len(old_N), bool)
    other = np.flatnonzero(before.age_N)
    asked_N[other] = sampled(before.keys_N[other], before.group_N[other], rules, seed, t)
    new = np.setdiff1d(np.arange(len(samples.known)), before.at_N)
    first = np.union1d(new, before.at_N[asked_N | old_N])
    parts = samples.score(partial, label, clock, first, "first-")

    scores, vectors = _drifts(before, asked_N, parts, samples.spec.vectors)
    stale_G = stale(scores, vectors, rules) & (np.bincount(before.group_N[other], minlength=len(before.names)) > 0)
    rest_N = (before.age_N > 0) & stale_G[before.group_N] & ~asked_N & ~old_N
    if rest_N.any():
        parts += samples.score(partial, f"{label}, what moved", clock, before.at_N[rest_N], "moved-")
    kept_N = ~(asked_N | old_N | rest_N)
    keep(previous, before.keys_N[kept_N], partial, label, samples.config.resources, clock)
    record = samples.finish(parts, partial, quarantined)
    why = {
        "new": len(new),
        "sampled": int(asked_N.sum()),
        "too old": int((old_N & ~asked_N).sum()),
        "moved": int(rest_N.sum()),
        "kept": int(kept_N.sum()),
    }
    counts = [np.bincount(before.group_N[mine], minlength=len(stale_G)) for mine in (slice(None), asked_N, rest_N)]
    found = written(t, why, before.by, before.names, counts, scores | vectors, stale_G, before.models)
    write_json(partial.with_name("refresh.json"), found)
    say(found)
    return record


def _before(samples: Samples, previous: Path, clusters: Path | None, t: int) -> Before:
    """Usable rows of the profile before of what is still in the pool."""
    scores = [name for name in samples.spec.scores if name != TOLD_FROM_NLL]
    note = previous.with_name("refresh.json")
    known = {str(mark): int(at) for mark, at in read_json(note)["models"].items()} if note.is_file() else {}
    parts = []
    for file in files_of(previous):
        rows = pq.read_table(file, columns=["key", "status", "model", *scores])
        rows = rows.filter(pc.equal(rows["status"], "ok"))
        known = dict.fromkeys(rows["model"].unique().to_pylist(), t - 1) | known | {samples.model: t}
        since = pc.index_in(rows["model"], pa.array(list(known))).to_numpy()
        age = t - np.array(list(known.values()))[since]
        parts.append(rows.drop_columns(["status", "model"]).append_column("age", pa.array(age)))
    table = pa.concat_tables(parts).sort_by("key")
    keys_M = samples.known["key"].to_numpy()
    at = found_at(keys_M, table["key"].to_numpy())
    table, at_N = table.filter(pa.array(at >= 0)), at[at >= 0]
    group_N, names, by = _groups(samples, table["key"], at_N, clusters)
    return Before(
        previous,
        at_N,
        table["key"].to_numpy(),
        table["age"].to_numpy(),
        {name: table[name].to_numpy() for name in scores},
        group_N,
        by,
        names,
        known,
    )


def _groups(
    samples: Samples, keys: pa.ChunkedArray, at_N: Indices, clusters: Path | None
) -> tuple[np.ndarray, list[str], str]:
    """(N,) which group each is of, the groups' names, and what groups are."""
    if clusters is None:
        of = sort_by_key(read_table(samples.pool, ["key", "dataset"]))["dataset"].take(pa.array(at_N))
        names = of.unique().sort()
        return pc.index_in(of, names).to_numpy(), names.to_pylist(), "dataset"
    table = sort_by_key(read_table(clusters, ["key", "cluster"]))
    rows = found_at(table["key"].to_numpy(), keys.to_numpy())
    if (rows < 0).any():
        raise ValueError(
            f"{clusters} lacks {(rows < 0).sum()} samples of the profile beside it; run it again from there"
        )
    labels, group_N = np.unique(table["cluster"].to_numpy()[rows], return_inverse=True)
    return group_N, [str(label) for label in labels], "cluster"


def _drifts(
    before: Before, asked_N: np.ndarray, parts: Sequence[Path], vectors: Sequence[str]
) -> tuple[dict[str, Drift], dict[str, Drift]]:
    """(G,) of every score and of every vector, by what of the sample could be scored."""
    now = {name: np.full(len(asked_N), np.nan, np.float32) for name in before.scores}
    usable_N, asked = np.zeros(len(asked_N), bool), np.flatnonzero(asked_N)
    for part in parts:
        rows = pq.read_table(part, columns=["key", "status", *now])
        rows = rows.filter(pc.equal(rows["status"], "ok"))
        at, mine = before.among(rows["key"].to_numpy(), asked)
        usable_N[at] = True
        for name, now_N in now.items():
            now_N[at] = rows[name].to_numpy()[mine]
    known = before.keys_N, before.group_N
    scores = {name: score_drift(*known, before.scores[name], now_N, usable_N) for name, now_N in now.items()}
    usable = np.flatnonzero(usable_N)
    count_G = np.bincount(before.group_N[usable], minlength=len(before.names))
    turned = {}
    for name in vectors:
        then_GP, now_GP = (_sums(before, usable, files, name) for files in (files_of(before.profile), parts))
        turned[name] = vector_drift(then_GP, now_GP, count_G)
    return scores, turned


def _sums(before: Before, usable: Indices, files: Sequence[Path], name: str) -> np.ndarray:
    """(G, P) sums of a vector over the usable samples of each group that these files hold, a file at a time."""
    total: np.ndarray | float = 0.0
    for file in files:
        rows = pq.read_table(file, columns=["key", name])
        at, mine = before.among(rows["key"].to_numpy(), usable)
        total = total + group_sums(unpacked(rows[name])[mine], before.group_N[at], len(before.names))
    return np.asarray(total)


def keep(profile: Path, keys_n: np.ndarray, folder: Path, label: str, resources: Resources, clock: Clock) -> None:
    """Copy the rows with these keys from a profile to another as part files, on whatever nodes there are."""
    tasks: list[planned.Task] = []
    gathered: list[planned.Task] = []
    found = tasks_of([profile], keys_n)
    for task in found:
        gathered.append(task)
        if sum(one.rows for one in gathered) >= ROWS or task is found[-1]:
            what: dict[str, Any] = {name: pa.array([one.what[name] for one in gathered]) for name in task.what}
            tasks.append(planned.Task(f"kept-{len(tasks):06d}", sum(one.rows for one in gathered), what))
            gathered = []
    job = planned.Job(f"{label}, what stays", Kept, {}, tasks, kept_rows, pooled=False)
    planned.run(folder, job, resources, clock.tick)


def kept_rows(file: list[str], group: list[int], mask: list[bytes]) -> Iterator[pa.Table]:
    """The rows of parts of a profile that their masks say."""
    for one, number, bits in zip(file, group, mask, strict=True):
        with pq.ParquetFile(one) as opened:
            rows = opened.read_row_group(number)
        yield rows.filter(pa.array(marked(bits, len(rows))))


class Kept:
    """Hands rows on as they are."""

    def __call__(self, rows: pa.Table) -> pa.Table:
        return rows
