"""Lite: the pool cut to a budget at the end of a timestep, the most redundant first (Adapt-∞, section 4.4).

Or by `strategy.prune` to the shares that selection has, so that what it balances is there to be balanced at later timesteps too.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from liit.engine.choosing.selection import pool_arrays
from liit.engine.choosing.summary import summarise
from liit.engine.data.pool import ids_of
from liit.engine.run.files import read_table, write_table
from liit.engine.run.progress import log
from liit.engine.run.tables import REMOVED
from liit.engine.settings.config import Config
from liit.engine.settings.refresh import Pruning
from liit.selectors import catalog
from liit.selectors.protocol import Strategy
from liit.selectors.redundancy import prune, remoteness


def prune_pool(timestep: Path, pool_budget: int | None, partial: Path, t: int, config: Config) -> None:
    """Write REMOVED rows: the exact copies that never entered the pool, and what leaves it for good, each with the kept
    sample that is most like it.

    pool_budget: samples that stay; None removes nothing. config: of timestep t.
    """
    copies = read_table(timestep / "copies.parquet")
    if pool_budget is None:
        _write(timestep, copies, partial)
        return
    keys_N, kept_N, like_N = _pruned(timestep, pool_budget, t, config)
    gone = np.flatnonzero(~kept_N)
    twins = like_N[gone]
    ids = ids_of([timestep / "pool.parquet"], keys_N[np.concatenate([gone, twins[twins >= 0]])])
    like = np.full(len(gone), -1)
    like[twins >= 0] = len(gone) + np.arange((twins >= 0).sum())
    reason = pa.array(["pruned"] * len(gone), pa.string())
    columns = [ids[: len(gone)], reason, ids.take(pa.array(like, mask=like < 0))]
    _write(timestep, pa.concat_tables([copies, pa.table(columns, schema=REMOVED)]), partial)
    log.info("pruning: %d samples leave the pool, %d stay", len(gone), len(keys_N) - len(gone))


def pruned_by(config: Config, strategy: Strategy, t: int) -> dict[str, Any]:
    """What a pruning depends on beside the budget, for its record; nothing where clusters shrink as in the paper."""
    rule = {} if config.strategy.prune == Pruning() else {"prune": config.strategy.prune.model_dump()}
    if not _by_strata(config, strategy):
        return rule
    strata = {"name": strategy.name, "options": config.strategy.options, "vector": strategy.vectors[0]}
    return {**rule, "strategy": strata, "seed": config.seed, "timestep": t}


def _by_strata(config: Config, strategy: Strategy) -> bool:
    """Whether the strategy has to be asked which strata it has, or what they give."""
    return not strategy.clusters or config.strategy.prune.shares == "selection"


def _pruned(timestep: Path, pool_budget: int, t: int, config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N,) keys, which samples stay, and which kept one each of the others is like."""
    strategy, rule = catalog.get(config.strategy.name, config.clustering.vector), config.strategy.prune
    options, share_K = config.strategy.options, None
    if strategy.strata is not None and _by_strata(config, strategy):
        pool = pool_arrays(timestep, strategy.scores_for(options), strategy.vectors, strategy.clusters)
        labels_N, share_K = strategy.strata(pool, pool_budget, config.seed, t, options)
    else:
        pool = pool_arrays(timestep, (), ("embedding",), clusters=True)
        labels_N = pool.labels()
    embeddings_ND = pool.vector("embedding")
    far_N = remoteness(embeddings_ND, labels_N, pool.keys_N) if pool.distance_N is None else pool.distance_N
    kept_N, like_N = prune(
        embeddings_ND,
        labels_N,
        pool.keys_N,
        pool_budget,
        order_N=far_N if rule.keep == "representative" else -far_N,
        share_K=share_K if rule.shares == "selection" else None,
        diverse=rule.keep == "diverse",
    )
    return pool.keys_N, kept_N, like_N


def _write(timestep: Path, removed: pa.Table, partial: Path) -> None:
    summarise(timestep, removed, partial.with_name("summary.parquet"))
    write_table(partial, removed)
