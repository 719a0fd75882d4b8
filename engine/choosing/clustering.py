"""Pseudo-tasks: the pool's gradient sketches grouped by k-means (Adapt-∞, section 4.1)."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from liit.engine.fleet.in_key_order import merged, written
from liit.engine.run.files import write_json
from liit.engine.run.profiles import read_scores, read_vectors
from liit.engine.run.progress import log
from liit.engine.run.tables import CLUSTERS, among
from liit.selectors.clustering import Clustering, cluster


def cluster_pool(profile: Path, name: str, k_grid: tuple[int, ...], seed: int, partial: Path) -> None:
    """Write CLUSTERS rows for every usable sample of a profile, and `wss.json` (the curve over k, the chosen k) beside.

    name: the vector to cluster by.
    """
    keys_N, _ = read_scores(profile, [])
    if not len(keys_N):
        raise ValueError(f"{profile}: no sample could be profiled; see the quarantine table beside it")
    found = cluster(read_vectors(profile, name), keys_N, k_grid=k_grid, seed=seed)
    curve = {
        "wss": {str(k): wss for k, wss in found.wss_by_k.items()},
        "k": found.k,
        "margin": found.margin,
        "found": found.wss,
    }
    write_json(partial.with_name("wss.json"), curve)
    pool = merged([profile.with_name("pool.parquet")], ["id", "key"])
    written(partial, (_clustered(chunk, keys_N, found) for chunk in pool), keys_N, CLUSTERS)
    sizes = np.bincount(found.labels_N)
    log.info("clusters: k=%d of %d samples, sizes %d to %d", found.k, len(keys_N), sizes.min(), sizes.max())


def _clustered(chunk: pa.Table, keys_N: np.ndarray, found: Clustering) -> pa.Table:
    """Rows of a pool with their clusters; those that have none are left out."""
    at_n, chunk = among(chunk, keys_N)
    columns = [chunk["id"], chunk["key"], pa.array(found.labels_N[at_n]), pa.array(found.distance_N[at_n])]
    return pa.table(columns, schema=CLUSTERS)
