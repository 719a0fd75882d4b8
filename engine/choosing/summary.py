"""What became of every sample of a timestep, counted by release, cluster and reason.

N samples of the pool, of which each is a few numbers here.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.choosing.insisted import data_sets
from liit.engine.fleet.parts import read_chunks
from liit.engine.run.files import read_table, write_table
from liit.engine.run.tables import QUARANTINE, SUMMARY, among, found_at, keys_of, sort_by_key

Counts = Counter[tuple[str, int | None, str, str | None, bool]]
"""By data set, cluster, outcome, reason, and whether they were pruned."""


def summarise(timestep: Path, removed: pa.Table, path: Path) -> None:
    """Write SUMMARY rows for a timestep whose tables are all there; their samples add up to everything that came to it.

    removed: its REMOVED rows.
    """
    known = sort_by_key(
        pq.read_table(timestep / "pool.parquet", columns=["key", "dataset"], read_dictionary=["dataset"])
    )
    keys_N, gone_m = known["key"].to_numpy(), keys_of(removed["id"])
    at_m = found_at(keys_N, gone_m)
    pruned_N = np.zeros(len(keys_N), bool)
    pruned_N[at_m[at_m >= 0]] = True
    counts = _of_the_pool(timestep, keys_N, known["dataset"], pruned_N)
    out = removed.filter(pa.array(at_m < 0))
    sets = data_sets(out["id"])
    pairs = zip(sets.to_pylist(), out["reason"].to_pylist(), strict=True)
    counts.update((name, None, "left out", reason, False) for name, reason in pairs)
    counts.update((name, None, "quarantined", reason, False) for name, reason in _quarantined(timestep))
    write_table(path, _table(counts))


def _of_the_pool(timestep: Path, keys_N: np.ndarray, datasets: pa.ChunkedArray, pruned_N: np.ndarray) -> Counts:
    cluster_N = np.full(len(keys_N), -1, np.int32)
    if (timestep / "clusters.parquet").is_file():
        for chunk in read_chunks([timestep / "clusters.parquet"], ["key", "cluster"]):
            at_n, mine = among(chunk, keys_N)
            cluster_N[at_n] = mine["cluster"].to_numpy()
    reasons, reason_N = ["chance"], np.full(len(keys_N), -1, np.int32)
    if (timestep / "selection.parquet").is_file():
        table = read_table(timestep / "selection.parquet", ["key", "scorer"])
        scorers = pc.fill_null(table["scorer"], "chance").combine_chunks().dictionary_encode()
        reasons = scorers.dictionary.to_pylist()
        reason_N[found_at(keys_N, table["key"].to_numpy())] = scorers.indices.to_numpy()
    sets = datasets.unify_dictionaries().combine_chunks()
    names = sets.dictionary.to_pylist()
    counts: Counts = Counter()
    columns = (sets.indices.to_numpy(), cluster_N, reason_N, pruned_N.view(np.int8))
    for count, (name, cluster, reason, pruned) in _tallied(columns):
        label, outcome = None if cluster < 0 else cluster, "not selected" if reason < 0 else "selected"
        counts[names[name], label, outcome, None if reason < 0 else reasons[reason], bool(pruned)] += count
    return counts


def _tallied(columns: Sequence[np.ndarray]) -> Iterable[tuple[int, tuple[int, ...]]]:
    """How often each row of small whole numbers, -1 and up, occurs."""
    shape = tuple(int(column.max(initial=-1)) + 2 for column in columns)
    place_N = np.zeros(len(columns[0]), np.int64)
    for column, size in zip(columns, shape, strict=True):
        place_N *= size
        place_N += column
        place_N += 1
    counts = np.bincount(place_N)
    for place in np.flatnonzero(counts):
        yield int(counts[place]), tuple(int(at) - 1 for at in np.unravel_index(place, shape))


def _quarantined(timestep: Path) -> Iterable[tuple[str, str]]:
    """Data set and kind of reason of what never came to the pool: what scoring found is counted there already."""
    path = timestep / "quarantine.parquet"
    table = read_table(path, ["dataset", "stage", "reason"]) if path.is_file() else QUARANTINE.empty_table()
    for row in table.to_pylist():
        if row["stage"] != "score":
            yield row["dataset"], row["reason"].partition(":")[0]


def _table(counts: Counts) -> pa.Table:
    """SUMMARY rows: samples, and those of them that were pruned."""
    rows: dict[tuple[str, int | None, str, str | None], list[int]] = {}
    for (name, cluster, outcome, reason, pruned), count in counts.items():
        both = rows.setdefault((name, cluster, outcome, reason), [0, 0])
        both[0] += count
        both[1] += count * pruned
    ordered = sorted(rows.items(), key=lambda row: tuple((one is None, one) for one in row[0]))
    found = [dict(zip(SUMMARY.names, (*group, *both), strict=True)) for group, both in ordered]
    return pa.Table.from_pylist(found, schema=SUMMARY)
