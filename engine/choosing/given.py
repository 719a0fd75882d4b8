"""What another run selected, for a run that trains on it: the strategy `given`."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from liit.engine.choosing.missing import lacking, say_missing
from liit.engine.run.reading import open_run
from liit.engine.settings.config import Config


def selected(run: str | None, t: int) -> tuple[list[str], np.ndarray]:
    """Ids (n) and uint64 keys (n,) of what a run selected at timestep t, in the order of the keys.

    Raises ValueError, one line, where the folder is no run, or has no such selection.
    """
    try:
        rows = open_run(str(run)).selection(t)
    except ValueError as error:
        raise ValueError(f"strategy.run: {error}") from error
    return rows.index.tolist(), rows["key"].to_numpy(np.uint64)


def given(config: Config) -> dict[int, list[str]]:
    """Ids by timestep, for those that train on what another run selected.

    Raises ValueError as `selected` does, for the first timestep that the other run lacks.
    """
    phases = {t: config.at(t).strategy for t in range(1, config.stream.last + 1)}
    return {t: selected(strategy.run, t)[0] for t, strategy in phases.items() if strategy.run is not None}


def keys_given(config: Config, t: int, timestep: Path, releases: list[Path], ids: pa.ChunkedArray) -> np.ndarray:
    """(n,) uint64 keys of what the other run selected at t. What is not among the ids of the pool is said, and why.

    Raises ValueError where nothing is.
    """
    run = config.strategy.run
    names, keys_n = selected(run, t)
    missing = lacking(names, ids)
    if names and len(missing) == len(names):
        raise ValueError(
            f"t{t}: the pool has none of the {len(names)} samples that {run} selected, the first is {names[0]}; "
            "give this run the same stream"
        )
    say_missing(f"t{t}, strategy.run", missing, len(names), timestep, releases)
    return keys_n
