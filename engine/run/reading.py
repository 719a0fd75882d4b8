"""A run read back from its folder alone, finished or not: pandas frames and plain values; no Ray, no torch.

Nothing is locked or written, so a run that is going on can be read at any time: what appears in its folder is whole.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from liit.engine.run.files import read_json, read_table
from liit.engine.run.kinds import asked_in, kinds
from liit.engine.run.profiles import arrivals, column_names, unpacked
from liit.engine.run.tables import QUARANTINE, REMOVED, sort_by_key

AGAIN = "the same command goes on where it stopped"


class RunError(ValueError):
    """What was asked for is not in the run folder; one line that says what is missing, of which timestep, and what to do."""


@dataclass(frozen=True)
class Run:
    """The tables of a run folder as pandas frames, read anew whenever they are asked for.

    Tables of samples are indexed by id, so they can be joined. Every method and property raises RunError where the folder does
    not have what it gives.
    """

    root: Path

    def __repr__(self) -> str:
        strategy, steps = self.config["strategy"]["name"], len(self.timesteps)
        state = "finished" if self.finished else "not finished"
        return f"<run {self.root}: {strategy}, {steps} of {len(self.releases) or '?'} timesteps, {state}>"

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration that replays the run."""
        config: dict[str, Any] = yaml.safe_load((self.root / "config.yaml").read_text(encoding="utf-8"))
        return config

    @property
    def finished(self) -> bool:
        """Whether `results` are there. In a run that goes on with other settings than before, tables of timesteps which it has
        not come to are still of those before."""
        return (self.root / "results.json").is_file()

    @property
    def results(self) -> dict[str, Any]:
        """results.json: figures over the stream, samples of each timestep, seconds of each stage; with `training.gate` also
        `gate`: the timestep whose adapter `stands` after each, and the `falls` of skills that were too deep."""
        if not self.finished:
            raise RunError(f"{self.root} has no results.json: the run has not finished; {AGAIN}")
        results: dict[str, Any] = read_json(self.root / "results.json")
        return results

    @property
    def releases(self) -> list[str]:
        """Names of the data sets of the stream, in the order of their timesteps; none before the embedded stream is composed."""
        if self.finished:
            return list(self.results["releases"])
        composed = self.root / "data" / "stream.json"
        stream = self.config["stream"]
        if "releases" not in stream:
            stream = read_json(composed) if composed.is_file() else {"releases": []}
        return [release["name"] for release in stream["releases"]]

    @property
    def timesteps(self) -> list[int]:
        """Those that have begun; 0 is the base model. What a longer stream left in the folder earlier is none."""
        pools = self.root.glob("t[0-9][0-9]*/pool.parquet")
        begun = sorted(int(path.parent.name[1:]) for path in pools if re.fullmatch(r"t\d+", path.parent.name))
        return [t for t in begun if t < len(self.releases)] if self.releases else begun

    @property
    def accuracy(self) -> pd.DataFrame:
        """Value of each skill (columns) after each timestep that was evaluated (rows), in percent."""
        paths = {t: self.step(t) / "evaluation.json" for t in self.timesteps}
        values = {t: skill_values(path) for t, path in paths.items() if path.is_file()}
        if not values:
            raise RunError(f"{self.root} has no evaluation.json of any timestep: {self._why_not_evaluated()}")
        skills = next(iter(values.values())).keys()
        for t, other in values.items():
            if other.keys() != skills:
                raise RunError(
                    f"{self.root}: t{t} was evaluated on {', '.join(other)}, t{min(values)} on {', '.join(skills)}; "
                    f"the evaluation sets were changed and the run has not come to t{t} since; {AGAIN}"
                )
        rows = pd.Index(values, name="timestep")
        return pd.DataFrame(list(values.values()), index=rows, columns=pd.Index(skills, name="skill"))

    def selection(self, t: int) -> pd.DataFrame:
        """The samples that timestep t trained on, by id: key, cluster, scorer (the score that chose), score, percentile (of the
        score among its cluster's, 0 to 100), stratum; what does not apply is missing."""
        return by_id(self._table(t, "selection"))

    def clusters(self, t: int) -> pd.DataFrame:
        """The pseudo-task of every usable sample of the pool at t, by id: key, cluster, distance to its centroid."""
        self._refuse_left_over(t, "clusters.parquet")
        return by_id(self._table(t, "clusters"))

    def answers(self, t: int) -> pd.DataFrame:
        """What the model of t answered to each evaluation sample, by id: skill, dataset, answer, value in percent, and loss of
        the reference in nats a token where the run measured it."""
        return by_id(self._table(t, "answers"))

    def profile(self, t: int, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The profile of every sample of the pool at t, by id, in the order of the keys: key, arrival, status, and `columns`.

        columns: names of scores, of counts (n_tokens, n_response_tokens) and of vectors; None: all but the vectors. A cell of a
        vector is a float16 array of unit length, read-only; `numpy.stack(frame["sketch"])` is the matrix. A sample that
        could not be profiled has its reason as status, NaN for scores and None for vectors.
        """
        self._refuse_left_over(t, "profile")
        folder = self.step(t) / "profile"
        if not (folder / "columns.json").is_file():
            raise self._lacking(t, "profile", folder)
        vectors = column_names(folder)[1]
        there = [name for name in pq.read_schema(min(folder.glob("*.parquet"))).names if name not in FIRST]
        wanted = [name for name in there if name not in vectors] if columns is None else list(dict.fromkeys(columns))
        if unknown := sorted(set(wanted) - set(there) - set(FIRST)):
            raise RunError(f"{folder} has no column {', '.join(unknown)}; it has {', '.join(there)}")
        table = sort_by_key(read_table(folder, ["id", "key", "status", *(n for n in wanted if n not in FIRST)]))
        return profile_frame(table.add_column(2, "arrival", pa.array(arrivals(folder, table["key"].to_numpy()))))

    @property
    def refreshed(self) -> pd.DataFrame:
        """How many samples of the pool were scored, and why, by timestep: samples, scored; of these new, sampled, too old, moved;
        and kept. Only of timesteps that could keep rows; empty without `scoring.refresh`."""
        told = {t: found for t in self.timesteps if (found := refreshed(self.step(t)))}
        counts = [{"samples": one["samples"], "scored": one["scored"], **one["why"]} for one in told.values()]
        return pd.DataFrame(counts, index=pd.Index(told, name="timestep"))

    def drift(self, t: int) -> pd.DataFrame:
        """How far each pseudo-task of t - 1 (or data set) had gone at t, by group: samples, sampled, whether it moved, and the
        drift of every score (in its standard deviations within the group) and vector (1 - cosine); infinite where unknown."""
        found = refreshed(self.step(t))
        if found is None:
            raise RunError(f"{self.step(t)} has no refresh.json: all of its pool was scored, or nothing")
        rows = []
        for one in found["groups"]:
            drift = {name: np.inf if far is None else far for name, far in one["drift"].items()}
            rows.append({**{key: one[key] for key in ("group", "samples", "sampled", "moved")}, **drift})
        return pd.DataFrame(rows).set_index("group")

    @property
    def kinds(self) -> pd.DataFrame:
        """How even each selection is over known tasks and skills, as `kinds.py` says; empty where no sample names a task."""
        return kinds(self.root, self.timesteps, asked_in(self.root, self.config))

    @property
    def quarantine(self) -> pd.DataFrame:
        """Samples of all releases that could not be used: timestep, id, dataset, stage (read, check or score), reason.

        Those of the evaluation sets are in `exam/<set>.quarantine.parquet`.
        """
        return self._of_all("quarantine", QUARANTINE)

    @property
    def removed(self) -> pd.DataFrame:
        """Samples that left the pool for good, or never entered it, by the timesteps that have ended: timestep, id, reason
        (duplicate, contamination, pruned), kept_id (the sample that stays in its place)."""
        return self._of_all("removed", REMOVED)

    def step(self, t: int) -> Path:
        """The folder of a timestep that has begun."""
        t, begun = index(t), self.timesteps
        if t in begun:
            return self.root / f"t{t:02d}"
        known = f"it has {_range(begun)}" if begun else "it has none yet"
        if 0 <= t < len(self.releases):
            raise RunError(f"{self.root} has no timestep {t} yet, {known}; {AGAIN}")
        raise RunError(f"{self.root} has no timestep {t}, {known}; pass one of them")

    def chose_by(self, t: int, name: str) -> bool:
        """Whether the selection of t was made from `name` (profile, clusters.parquet), beside which it lies."""
        note = self.step(t) / "selection.parquet.made.json"
        return note.is_file() and f"t{t:02d}/{name}" in read_json(note)["parents"]

    def _table(self, t: int, name: str) -> pa.Table:
        path = self.step(t) / f"{name}.parquet"
        if not path.is_file():
            raise self._lacking(t, name, path)
        return read_table(path)

    def _of_all(self, name: str, schema: pa.Schema) -> pd.DataFrame:
        """A table of every timestep, those to come as well: releases are read before the first one begins."""
        paths = {t: self.root / f"t{t:02d}" / f"{name}.parquet" for t in range(len(self.releases)) or self.timesteps}
        tables = {t: read_table(path) for t, path in paths.items() if path.is_file()}
        rows = [pa.array([t] * len(table), pa.int64()) for t, table in tables.items()]
        parts = [table.add_column(0, "timestep", t) for table, t in zip(tables.values(), rows, strict=True)]
        nothing = schema.empty_table().add_column(0, "timestep", pa.array([], pa.int64()))
        return pa.concat_tables([nothing, *parts]).to_pandas()

    def left_over(self, t: int, name: str) -> bool:
        """Whether `name` is what another strategy left in the folder: nothing that this run chose by."""
        step = self.step(t)
        settled = (step / "selection.parquet").is_file() or (step / "removed.parquet").is_file()
        return (step / name).exists() and settled and not self.chose_by(t, name)

    def _refuse_left_over(self, t: int, name: str) -> None:
        if self.left_over(t, name):
            raise RunError(
                f"{self.step(t) / name} was left by an earlier run: nothing at timestep {t} was chosen by it"
            )

    def _lacking(self, t: int, name: str, path: Path) -> RunError:
        note = path.with_name(f"{path.name}.made.json")
        if note.is_file() and read_json(note).get("forgotten"):
            kept = self.config["keep_profiles"]
            return RunError(f"{path} was not kept, as keep_profiles={kept} says; a run with a larger one keeps it")
        if name == "answers":
            return RunError(f"{path} does not exist: {self._why_not_evaluated()}")
        if t == 0:
            return RunError(f"{path} does not exist: timestep 0 is the base model, learning begins at timestep 1")
        if (path.parent / "removed.parquet").is_file():
            return RunError(f"{path} does not exist: the strategy of timestep {t} makes none")
        return RunError(f"{path} does not exist: the run has not come so far; {AGAIN}")

    def _why_not_evaluated(self) -> str:
        if self.finished:
            return "the run has no evaluation sets; give it some as stream.evaluations"
        return f"the run has not come so far, or has no evaluation sets (stream.evaluations); {AGAIN}"


def refreshed(step: Path) -> dict[str, Any] | None:
    """What of a timestep's pool was scored again (`refresh.json`); None where nothing was kept."""
    path = step / "refresh.json"
    found: dict[str, Any] | None = read_json(path) if path.is_file() else None
    return found


FIRST = ("id", "key", "arrival", "status")
"""Columns of a profile that are always read."""


def open_run(path: str | Path) -> Run:
    """The run in a folder, `runs/<name>`, to be looked at; finished or not. Raises RunError where there is none."""
    root = Path(path).expanduser()
    if not root.is_dir():
        raise RunError(f"{path} is no folder; pass a run's, such as runs/digits")
    if not (root / "config.yaml").is_file():
        raise RunError(f"{path} is no run: it has no config.yaml; pass the folder that was given as --output")
    return Run(root)


def skill_values(evaluation: Path) -> dict[str, float]:
    """The value of each skill in an evaluation.json, in percent; skills whose answers are only stored have none."""
    entries = read_json(evaluation).items()
    return {skill: entry["value"] for skill, entry in entries if entry["value"] is not None}


def by_id(table: pa.Table) -> pd.DataFrame:
    """A table of samples indexed by id; whole numbers stay whole where some are missing."""
    frame = table.to_pandas().set_index("id")
    return frame.astype({name: "Int32" for name in ("cluster", "stratum") if name in frame})


def profile_frame(table: pa.Table) -> pd.DataFrame:
    """Rows of a profile indexed by id, a cell of a vector an array; of a failed sample None."""
    vectors = [field.name for field in table.schema if pa.types.is_fixed_size_binary(field.type)]
    frame = by_id(table.drop_columns(vectors))
    usable_N = (frame["status"] == "ok").to_numpy()
    for name in vectors:
        cells_N = np.full(len(frame), None, object)
        rows_ND = unpacked(table[name])
        for row in np.flatnonzero(usable_N):
            cells_N[row] = rows_ND[row]
        frame[name] = cells_N
    return frame[[name for name in table.column_names if name != "id"]]


def _range(timesteps: list[int]) -> str:
    return str(timesteps[0]) if len(timesteps) == 1 else f"{timesteps[0]} to {timesteps[-1]}"
