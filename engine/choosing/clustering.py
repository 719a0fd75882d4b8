"""Pseudo-tasks: the pool's gradient sketches grouped by k-means (Adapt-∞, section 4.1)."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from liit.engine.run.files import write_json, write_table
from liit.engine.run.profiles import read_profile, read_vectors
from liit.engine.run.progress import log
from liit.engine.run.tables import CLUSTERS
from liit.selectors.clustering import cluster


def cluster_pool(profile: Path, name: str, k_grid: tuple[int, ...], seed: int, partial: Path) -> None:
    """Write CLUSTERS rows for every usable sample of a profile, and `wss.json` (the curve over k, the chosen k) beside.

    name: the vector to cluster by.
    """
    table = read_profile(profile, [])
    if not len(table):
        raise ValueError(f"{profile}: no sample could be profiled; see the quarantine table beside it")
    found = cluster(read_vectors(profile, name), table["key"].to_numpy(), k_grid=k_grid, seed=seed)
    curve = {
        "wss": {str(k): wss for k, wss in found.wss_by_k.items()},
        "k": found.k,
        "margin": found.margin,
        "found": found.wss,
    }
    write_json(partial.with_name("wss.json"), curve)
    columns = [
        table["id"],
        table["key"],
        pa.array(found.labels_N, pa.int32()),
        pa.array(found.distance_N, pa.float32()),
    ]
    write_table(partial, pa.table(columns, schema=CLUSTERS))
    sizes = np.bincount(found.labels_N)
    log.info("clusters: k=%d of %d samples, sizes %d to %d", found.k, len(table), sizes.min(), sizes.max())
