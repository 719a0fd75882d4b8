"""A subset chosen in this process from a frame of profiled samples, or from a run's profile: for people in a notebook.

Legend: N usable samples, D dimensions of a vector.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from liit.engine.choosing import from_profile
from liit.engine.choosing.insisted import Insisted, data_sets, quotas_of
from liit.engine.choosing.selection import with_known
from liit.engine.choosing.subset import choose_from
from liit.engine.run.reading import by_id
from liit.engine.run.tables import key_of
from liit.selectors import catalog
from liit.selectors.protocol import Pool, Strategy

BESIDE = ("key", "arrival")
"""Numbers of a profile that are no scores."""


def choose(
    profile: pd.DataFrame | str | Path,
    *,
    strategy: str,
    budget: int,
    seed: int = 0,
    k_grid: Sequence[int] = range(5, 51),
    options: Mapping[str, Any] | None = None,
    timestep: int | None = None,
    vector: str | None = None,
    targets: Mapping[str, pd.DataFrame] | None = None,
    always: Collection[str] = (),
    never: Collection[str] = (),
    quotas: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Choose `budget` of the usable samples of a profile, as a run does; the order of its rows changes nothing.

    Args:
        profile: a frame of `liit.profile` or of a run's `profile(t, columns)`, with ids as its index or in a column `id`, and
            the scores and vectors that the strategy needs; numbers and arrays of your own count as such too. Rows with another
            status than "ok" are passed over. Or the path of a run's `tNN/profile`.
        strategy: a name from `selectors/catalog.py`.
        seed: of clusters and of chance.
        k_grid: candidate numbers of clusters, where the strategy clusters; one fixes it.
        options: of the strategy, as in `strategy.options` of a configuration.
        timestep: the t of the choice; by default the newest `arrival` of the frame (0 where it has none), or the NN of `tNN`.
        vector: what clusters are of, in place of the strategy's own.
        targets: for strategies that select for a target split, the profile of some samples of each skill, by skill. Those of a
            run's folder lie beside its profile.
        always, never: ids of samples that are chosen, and that are not, whatever the strategy.
        quotas: as `strategy.quotas` of a configuration. Tasks are a run's, or a frame's column `task`, as for the oracles.

    Returns:
        A row for each chosen sample by id, in the order of the keys: key, cluster, scorer (the score that chose, or `always`),
        score, percentile (of the score among its cluster's, 0 to 100), stratum; what does not apply is missing.

    Raises:
        ValueError: a strategy or option that is not known, a column or target split that is not there, a budget below 1, an id
            that is there twice, values that no strategy can choose by, or what is insisted on that cannot be.
    """
    told: dict[str, Any] = {"seed": seed, "timestep": timestep, "options": options, "vector": vector}
    told["insisted"] = Insisted(frozenset(always), frozenset(never), quotas_of(quotas))
    if isinstance(profile, pd.DataFrame):
        wanted = {skill: ProfileFrame(of, f"the targets of {skill}") for skill, of in (targets or {}).items()}
        if wanted and not catalog.get(strategy).targets:
            raise ValueError(f"strategy {strategy} selects for no target split; leave targets out")
        frame = ProfileFrame(profile, wanted=wanted)
        return by_id(choose_from(frame, strategy, budget, k_grid=tuple(k_grid), **told).rows)
    if targets is not None:
        raise ValueError(f"the target split of {profile} lies beside it; leave targets out, or pass a frame")
    return by_id(from_profile.choose(Path(profile), strategy, budget, k_grid=tuple(k_grid), **told).rows)


@dataclass(frozen=True)
class ProfileFrame:
    """Profiled samples in a frame (`subset.Profile`)."""

    frame: pd.DataFrame
    name: str = "the profile"
    wanted: Mapping[str, "ProfileFrame"] = field(default_factory=dict)
    """Profiles of target samples by skill."""

    @cached_property
    def usable(self) -> pd.DataFrame:
        """The rows with status "ok", indexed by id, in the order of their keys."""
        frame = self.frame.set_index("id") if "id" in self.frame else self.frame
        if "status" in frame:
            frame = frame[frame["status"] == "ok"]
        if not len(frame):
            raise ValueError(f"{self.name} has no usable sample; its column status says why, if there is one")
        strange = next((name for name in frame.index if not isinstance(name, str)), None)
        if strange is not None:
            raise ValueError(f"{self.name} has {strange!r} for an id; index it by ids, which are text")
        if (twice := frame.index.duplicated()).any():
            raise ValueError(f"{self.name} has {frame.index[twice][0]} twice; pass every sample once")
        keys_N = np.array([key_of(name) for name in frame.index], np.uint64)
        frame = frame.assign(key=keys_N)
        return frame.iloc[np.argsort(keys_N)]

    def columns(self) -> tuple[list[str], list[str]]:
        columns = {str(name): self.usable[name] for name in self.usable}
        vectors = [name for name, column in columns.items() if isinstance(column.iloc[0], np.ndarray | list)]
        numbers = [name for name, column in columns.items() if pd.api.types.is_numeric_dtype(column)]
        return [name for name in numbers if name not in BESIDE], vectors

    def pool(self, scores: Sequence[str], vectors: Sequence[str]) -> tuple[pa.ChunkedArray, Pool]:
        frame = self.usable
        pool = Pool(
            keys_N=frame["key"].to_numpy(),
            arrival_N=frame["arrival"].to_numpy(np.int32) if "arrival" in frame else np.zeros(len(frame), np.int32),
            scores={name: frame[name].to_numpy(np.float32, na_value=np.nan) for name in scores},
            vectors={name: self.vectors(name) for name in vectors},
        )
        return pa.chunked_array([pa.array(frame.index.tolist(), pa.string())]), pool

    def vectors(self, name: str) -> np.ndarray:
        """(N, D), float16 or float32. Raises ValueError naming a sample whose vector is missing or of another length."""
        cells = self.usable[name]
        width = len(cells.iloc[0])
        for sample, cell in cells.items():
            if np.shape(cell) != (width,):
                raise ValueError(
                    f"{self.name}: {name} of {sample} is no vector of {width} numbers, as that of {cells.index[0]}"
                )
        rows_ND = np.stack(cells.tolist())
        return rows_ND if rows_ND.dtype in (np.float16, np.float32) else rows_ND.astype(np.float32)

    def check_targets(self, strategy: Strategy) -> None:
        if not self.wanted:
            raise ValueError(
                f"strategy {strategy.name} selects for a target split; pass targets, the profile of some samples by skill"
            )
        for profile in self.wanted.values():
            if strategy.vectors[0] not in profile.columns()[1]:
                raise ValueError(f"strategy {strategy.name} compares {strategy.vectors[0]}, which {profile.name} lack")

    def targets(self, strategy: Strategy) -> dict[str, np.ndarray]:
        return {skill: self.wanted[skill].vectors(strategy.vectors[0]) for skill in sorted(self.wanted)}

    def known(self, pool: Pool, ids: pa.ChunkedArray, strategy: Strategy, t: int) -> Pool:
        if strategy.skills:
            raise ValueError(
                f"strategy {strategy.name} asks a run's evaluation sets for the skill of each task; pass the path of its profile"
            )

        def coded(column: str) -> tuple[np.ndarray, list[str]]:
            found = (self.tasks(ids) if column == "task" else data_sets(ids)).combine_chunks().dictionary_encode()
            return found.indices.fill_null(-1).to_numpy(), found.dictionary.to_pylist()

        return with_known(pool, strategy, coded, dict)

    def tasks(self, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        if "task" not in self.usable:
            raise ValueError(f"{self.name} has no column task, which quotas by task and oracles go by")
        named = [task if isinstance(task, str) else None for task in self.usable["task"]]
        return pa.chunked_array([pa.array(named, pa.string())])

    def taken(self, vectors_ND: np.ndarray, rows_n: np.ndarray) -> np.ndarray:
        return vectors_ND[rows_n]

    def timestep(self, arrival_N: np.ndarray) -> int:
        return int(arrival_N.max())
