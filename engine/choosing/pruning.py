"""Lite: the pool cut to a budget at the end of a timestep, the most redundant first (Adapt-∞, section 4.4)."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from liit.engine.choosing.selection import pool_arrays
from liit.engine.choosing.summary import summarise
from liit.engine.data.pool import ids_of
from liit.engine.run.files import read_table, write_table
from liit.engine.run.progress import log
from liit.engine.run.tables import REMOVED
from liit.selectors.redundancy import prune


def prune_pool(timestep: Path, pool_budget: int | None, partial: Path) -> None:
    """Write REMOVED rows: the exact copies that never entered the pool, and what leaves it for good, each with the kept
    sample that is most like it.

    pool_budget: samples that stay; None removes nothing. Within a cluster the samples far from the centroid are kept first.
    """
    copies = read_table(timestep / "copies.parquet")
    if pool_budget is None:
        _write(timestep, copies, partial)
        return
    pool = pool_arrays(timestep, (), ("embedding",), clusters=True)
    assert pool.distance_N is not None
    order_N = -pool.distance_N
    kept_N, like_N = prune(pool.vector("embedding"), pool.labels(), pool.keys_N, pool_budget, order_N=order_N)
    gone = np.flatnonzero(~kept_N)
    twins = like_N[gone]
    ids = ids_of([timestep / "pool.parquet"], pool.keys_N[np.concatenate([gone, twins[twins >= 0]])])
    like = np.full(len(gone), -1)
    like[twins >= 0] = len(gone) + np.arange((twins >= 0).sum())
    reason = pa.array(["pruned"] * len(gone), pa.string())
    columns = [ids[: len(gone)], reason, ids.take(pa.array(like, mask=like < 0))]
    _write(timestep, pa.concat_tables([copies, pa.table(columns, schema=REMOVED)]), partial)
    log.info("pruning: %d samples leave the pool, %d stay", len(gone), len(pool) - len(gone))


def _write(timestep: Path, removed: pa.Table, partial: Path) -> None:
    summarise(timestep, removed, partial.with_name("summary.parquet"))
    write_table(partial, removed)
