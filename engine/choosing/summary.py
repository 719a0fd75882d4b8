"""What became of every sample of a timestep, counted by release, cluster and reason."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from liit.engine.run.files import read_table, write_table
from liit.engine.run.tables import QUARANTINE, SUMMARY

GROUP = ["dataset", "cluster", "outcome", "reason"]


def summarise(timestep: Path, removed: pa.Table, path: Path) -> None:
    """Write SUMMARY rows for a timestep whose tables are all there; their samples add up to everything that came to it.

    removed: its REMOVED rows.
    """
    pool = read_table(timestep / "pool.parquet", ["id", "dataset"]).to_pandas().set_index("id")
    pool["cluster"] = _column(timestep / "clusters.parquet", "cluster").reindex(pool.index).astype("Int32")
    scorer = _column(timestep / "selection.parquet", "scorer", absent="chance")
    pool["reason"] = scorer.reindex(pool.index)
    pool["outcome"] = np.where(pool["reason"].notna(), "selected", "not selected")
    gone = removed.to_pandas().set_index("id")["reason"]
    pool["pruned"] = pool.index.isin(gone.index)
    out = gone[~gone.index.isin(pool.index)].rename("reason").reset_index()
    out["dataset"], out["outcome"] = out["id"].str.split("/", n=1).str[0], "left out"
    bad = _quarantined(timestep)
    bad["outcome"] = "quarantined"
    everything = pd.concat([pool.reset_index(), out, bad])
    everything["pruned"] = everything["pruned"].eq(True)
    counted = everything.groupby(GROUP, dropna=False)["pruned"].agg(["size", "sum"]).reset_index()
    table = pa.Table.from_pandas(counted.rename(columns={"size": "samples", "sum": "pruned"}), preserve_index=False)
    write_table(path, table.select(SUMMARY.names).cast(SUMMARY))


def _column(path: Path, name: str, absent: str | None = None) -> "pd.Series[str]":
    """A column by id, empty where there is no such table; `absent` in place of null."""
    if not path.is_file():
        return pd.Series(dtype=object)
    column = read_table(path, ["id", name]).to_pandas().set_index("id")[name]
    return column if absent is None else column.fillna(absent)


def _quarantined(timestep: Path) -> pd.DataFrame:
    path = timestep / "quarantine.parquet"
    table = read_table(path) if path.is_file() else QUARANTINE.empty_table()
    rows = table.to_pandas()[["id", "dataset", "stage", "reason"]]
    rows["reason"] = rows["reason"].str.split(":", n=1).str[0]
    in_pool = rows["stage"] == "score"  # these are counted as members of the pool already
    return rows[~in_pool]
