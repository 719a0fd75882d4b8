"""A subset chosen from a finished profile: the arrays of a strategy read from disk; no model, no training, no Ray.

A run's own selection comes out again for the same strategy, budget, seed and timestep: clusters are made anew, and k-means is
deterministic.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from liit.engine.choosing.insisted import NOTHING, Insisted
from liit.engine.choosing.selection import of_releases, target_vectors
from liit.engine.choosing.subset import Chosen, choose_from
from liit.engine.data.pool import tasks
from liit.engine.run.kinds import skills_of
from liit.engine.run.profiles import arrivals, column_names, read_profile, read_vectors, taken
from liit.engine.settings.config import read as read_config
from liit.engine.settings.streams import FileStream
from liit.selectors.opened import Opened
from liit.selectors.protocol import Pool, Strategy


def choose(
    profile: Path,
    name: str,
    budget: int,
    *,
    k_grid: Sequence[int],
    seed: int = 0,
    timestep: int | None = None,
    options: Mapping[str, Any] | None = None,
    vector: str | None = None,
    insisted: Insisted = NOTHING,
) -> Chosen:
    """Choose `budget` of the usable samples of a profile by the strategy `name`.

    Args:
        k_grid: candidate numbers of clusters, where the strategy needs clusters.
        timestep: the t of the choice; by default that of the folder `tNN` which the profile lies in, and elsewhere the
            newest arrival.
        vector: what clusters are of, in place of the strategy's own.
        insisted: what is chosen always or never, and quotas.

    Raises:
        ValueError: no finished profile, a strategy or option that is not known, a column or target split that is not
            there, a budget below 1, or values that no strategy can choose by.
    """
    told: dict[str, Any] = {"seed": seed, "timestep": timestep, "options": options, "vector": vector}
    told["insisted"] = insisted
    return choose_from(ProfileFolder(profile), name, budget, k_grid=k_grid, **told)


@dataclass(frozen=True)
class ProfileFolder:
    """The profile of a run (`subset.Profile`), with the pool and the profiled target split beside it."""

    folder: Path

    @property
    def name(self) -> str:
        return str(self.folder)

    def columns(self) -> tuple[list[str], list[str]]:
        if not (self.folder / "columns.json").is_file() or not any(self.folder.glob("*.parquet")):
            raise ValueError(
                f"{self.folder} is no finished profile; pass a run's tNN/profile, a folder with columns.json"
            )
        return column_names(self.folder)

    def pool(self, scores: Sequence[str], vectors: Sequence[str]) -> tuple[pa.ChunkedArray, Pool]:
        table = read_profile(self.folder, scores)
        pool = Pool(
            keys_N=table["key"].to_numpy(),
            arrival_N=arrivals(self.folder, table["key"].to_numpy()),
            scores={name: table[name].to_numpy() for name in scores},
            vectors=Opened({name: partial(read_vectors, self.folder, name) for name in vectors}),
        )
        return table["id"], pool

    def check_targets(self, strategy: Strategy) -> None:
        targets = self._targets
        if not targets.is_dir():
            raise ValueError(
                f"strategy {strategy.name} needs a profiled target split, but there is no {targets}; "
                "a run with this strategy makes one"
            )
        if strategy.vectors[0] not in pq.read_schema(min(targets.glob("*.parquet"))).names:
            raise ValueError(
                f"strategy {strategy.name} compares {strategy.vectors[0]}, which {targets} lacks; "
                "a run with this strategy profiles the target split so"
            )

    def targets(self, strategy: Strategy) -> dict[str, np.ndarray]:
        return target_vectors(
            self._targets, strategy.vectors[0], {one.name: one.skill for one in _stream(self._run).targets}
        )

    def known(self, pool: Pool, ids: pa.ChunkedArray, strategy: Strategy, t: int) -> Pool:
        def skills() -> dict[str, str]:
            sets = [one for one in _stream(self._run).evaluations if one.holds(t)]
            return skills_of(self._run, {one.key: one.skill for one in sets})

        return of_releases(pool, strategy, self._releases("choose by another strategy"), skills)

    def tasks(self, ids: pa.ChunkedArray) -> pa.ChunkedArray:
        return tasks(self._releases("bound data sets"), ids)

    def taken(self, vectors_ND: np.ndarray, rows_n: np.ndarray) -> np.ndarray:
        return taken(self.folder, vectors_ND, rows_n)

    def timestep(self, arrival_N: np.ndarray) -> int:
        step = re.fullmatch(r"t(\d+)", self.folder.resolve().parent.name)
        return int(step[1]) if step else int(arrival_N.max(initial=0))

    @property
    def _run(self) -> Path:
        return self.folder.resolve().parents[1]

    def _releases(self, instead: str) -> list[Path]:
        releases = sorted(self._run.glob("releases/*.parquet"))
        if not releases:
            raise ValueError(f"{self.folder} does not lie in a run with releases, so tasks are unknown; {instead}")
        return releases

    @property
    def _targets(self) -> Path:
        return self.folder.with_name("targets")


def _stream(run: Path) -> FileStream:
    """The stream of a run: as configured, or as written down where it is the embedded one."""
    written = run / "data" / "stream.json"
    if written.is_file():
        return FileStream.model_validate_json(written.read_text(encoding="utf-8"))
    configured = read_config(run / "config.yaml", []).stream
    if not isinstance(configured, FileStream):
        raise ValueError(f"{written} does not exist; without it the skills of the run's sets are unknown")
    return configured
