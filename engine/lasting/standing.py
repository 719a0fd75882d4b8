"""How a sample was scored at a timestep, and where its scores stand among those of its cluster and of the pool.

Legend: N rows of a profile. Of a profile the scores are read and no vectors; ids stay on disk, keys stand for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.run.deciding import finished
from liit.engine.run.files import read_table
from liit.engine.run.profiles import column_names
from liit.engine.run.reading import Run

COUNTS = ("n_tokens", "n_response_tokens")


@dataclass(frozen=True)
class Score:
    """A score and how many percent of the usable samples of its cluster, and of the pool, score no more, as
    `choosing/selection.py` counts them; None where that is not known."""

    value: float
    in_cluster: float | None = None
    in_pool: float | None = None


@dataclass(frozen=True)
class Standing:
    """A sample at a timestep. scores: by name; unscored: why there are none, in words; empty where there is nothing to explain.
    cluster, distance: its pseudo-task, and how far from its centroid it lies."""

    scores: Mapping[str, Score] = field(default_factory=dict)
    unscored: str = ""
    n_tokens: int | None = None
    n_response_tokens: int | None = None
    cluster: int | None = None
    distance: float | None = None


def standing(run: Run, t: int, key: int, chosen: Mapping[str, Any] | None) -> Standing:
    """The standing of a sample of the pool of t, by its key. chosen: its SELECTION row; None where it was not chosen.

    Of a profile that was not kept the score that chose the sample is left, as the selection has it.
    """
    folder, group = run.step(t) / "profile", _cluster(run, t, key)
    told = {name: group[name] for name in ("cluster", "distance")} if group else {}
    if not (folder / "columns.json").is_file() or run.left_over(t, "profile"):
        return Standing(_left(chosen, bool(group)), _why_not_scored(run, t), **told)
    names = column_names(folder)[0]
    table = read_table(folder, ["key", "status", *COUNTS, *names])
    keys_N, usable_N = table["key"].to_numpy(), np.asarray(table["status"]) == "ok"
    mine = np.flatnonzero(keys_N == np.uint64(key))
    if not len(mine):
        return Standing(unscored="the strategy looks at the newest release alone", **told)
    row = table.slice(int(mine[0]), 1).to_pylist()[0]
    told |= {name: row[name] for name in COUNTS}
    if row["status"] != "ok":
        return Standing(unscored=row["status"], **told)
    alike_N = usable_N & np.isin(keys_N, _members(run, t, group["cluster"])) if group else None
    scores = {name: _score(table[name].to_numpy(), int(mine[0]), alike_N, usable_N) for name in names}
    return Standing(scores, **told)


def only(table: Path, key: int, columns: list[str] | None = None) -> dict[str, Any] | None:
    """The row with this key of a Parquet file; of row groups that cannot hold it nothing is read. None where there is none."""
    if not table.is_file():
        return None
    rows = pq.read_table(table, columns=columns, filters=pc.field("key") == pa.scalar(key, pa.uint64()))
    found: list[dict[str, Any]] = rows.to_pylist()
    return found[0] if found else None


def _cluster(run: Run, t: int, key: int) -> dict[str, Any] | None:
    """The CLUSTERS row of a sample."""
    if run.left_over(t, "clusters.parquet"):
        return None
    return only(run.step(t) / "clusters.parquet", key)


def _members(run: Run, t: int, cluster: int) -> npt.NDArray[np.uint64]:
    """Keys of the samples of a cluster."""
    mine = pc.field("cluster") == cluster
    keys: npt.NDArray[np.uint64] = pq.read_table(run.step(t) / "clusters.parquet", columns=["key"], filters=mine)[
        "key"
    ].to_numpy()
    return keys


def _score(values_N: np.ndarray, row: int, alike_N: np.ndarray | None, usable_N: np.ndarray) -> Score:
    value = float(values_N[row])

    def percentile(among_N: np.ndarray | None) -> float | None:
        if among_N is None or not np.isfinite(value):
            return None
        among = values_N[among_N & np.isfinite(values_N)]
        return float(100 * np.count_nonzero(among <= values_N[row]) / len(among))

    return Score(value, percentile(alike_N), percentile(usable_N))


def _left(chosen: Mapping[str, Any] | None, clustered: bool) -> dict[str, Score]:
    if chosen is None or chosen["score"] is None:
        return {}
    percentile = chosen["percentile"]
    return {chosen["scorer"]: Score(chosen["score"], *((percentile, None) if clustered else (None, percentile)))}


def _why_not_scored(run: Run, t: int) -> str:
    if t == 0:
        return ""
    step = run.step(t)
    if (finished(step / "profile") or {}).get("forgotten"):
        return "its profile was not kept (keep_profiles, or `liit clean`)"
    if (step / "selection.parquet").is_file() or (step / "removed.parquet").is_file():
        return "the strategy scores nothing"
    return "not scored yet"
