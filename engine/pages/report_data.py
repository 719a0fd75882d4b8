"""What the report of a run shows, read from its folder: everything optional, since a strategy may need none of it."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from liit.engine.data.readers.images import open_image
from liit.engine.fleet.parts import read_chunks
from liit.engine.pages.page import Example
from liit.engine.run.files import files_of, read_json, read_table
from liit.engine.run.profiles import column_names, read_vectors_of, sampled_scores
from liit.engine.run.reading import Run
from liit.engine.run.tables import among
from liit.selectors.priority import smallest

THUMBNAIL = 96
"""Pixels of a picture's longer side."""
TEXT = 300
"""Characters of a question or answer."""
SHOWN, SALT = 100_000, "report"
"""Samples that pictures of scores are of, drawn by hash."""
GROUPS = 30
"""Clusters or tasks that are shown, the largest ones."""


@dataclass(frozen=True)
class RunFolder:
    """A run's tables by timestep."""

    root: Path
    bounds: dict[str, float]
    """Upper bounds of the skills, where the configuration gives them."""

    @cached_property
    def tables(self) -> Run:
        """The run as anybody reads it."""
        return Run(self.root)

    @cached_property
    def steps(self) -> list[Path]:
        return [self.tables.step(t) for t in self.tables.timesteps]

    @cached_property
    def profiled(self) -> Path | None:
        """The newest timestep whose profile is still there."""
        there = [step for step in self.steps if (step / "profile" / "columns.json").is_file()]
        found = [step for step in there if self.used(step, "profile")]
        return found[-1] if found else None

    def _releases(self) -> list[Path]:
        """Of the timesteps; another stream may have had more in the same folder."""
        return [path for step in self.steps for path in self.root.glob(f"releases/{step.name[1:]}-*.parquet")]

    def used(self, step: Path, name: str) -> bool:
        """Whether the selection of a timestep was made from it; what another strategy left in the folder is not."""
        return self.tables.chose_by(int(step.name[1:]), name)

    def table(self, step: Path, name: str) -> pd.DataFrame | None:
        path = step / f"{name}.parquet"
        return read_table(path).to_pandas() if path.is_file() else None

    def curves(self) -> dict[str, pd.Series]:
        """WSS by k, for every timestep that was clustered."""
        clustered = [step for step in self.steps if self.used(step, "clusters.parquet")]
        found = {step.name: read_json(step / "wss.json") for step in clustered}
        return {
            f"{name} (k = {curve['k']})": pd.Series({int(k): wss for k, wss in curve["wss"].items()})
            for name, curve in found.items()
        }

    @cached_property
    def newest(self) -> pd.DataFrame | None:
        """Scores, task, release and cluster (where it has them) of samples of the profiled timestep by key, ascending: of all,
        or of SHOWN by hash."""
        if self.profiled is None:
            return None
        keys_n, scores = sampled_scores(self.profiled / "profile", self.scores, SHOWN, SALT)
        frame = pd.DataFrame(scores, index=pd.Index(keys_n, name="key"))
        frame["arrival"] = _told([self.profiled / "pool.parquet"], keys_n, "arrival")
        frame["task"] = pd.Categorical(_told(self._releases(), keys_n, "task", "dataset"))
        if self.used(self.profiled, "clusters.parquet"):
            frame["cluster"] = _told([self.profiled / "clusters.parquet"], keys_n, "cluster")
        return frame

    @cached_property
    def chosen(self) -> pd.DataFrame | None:
        """Cluster (where they have one) of the samples that the profiled timestep chose, and score by which, none where chance
        chose; by key, ascending."""
        path = None if self.profiled is None else self.profiled / "selection.parquet"
        if path is None or not path.is_file():
            return None
        return read_table(path, ["key", "cluster", "scorer", "score"]).to_pandas().set_index("key").sort_index()

    @property
    def sizes(self) -> "pd.Series[int]":
        """Samples of each cluster of the profiled timestep."""
        assert self.profiled is not None
        counted = self.table(self.profiled, "summary")
        if counted is None:  # as in a run that was stopped
            return self.newest["cluster"].value_counts() if self.newest is not None else pd.Series(dtype=int)
        sizes: pd.Series[int] = counted.dropna(subset="cluster").groupby("cluster")["samples"].sum()
        return sizes.set_axis(sizes.index.astype(int))

    @property
    def scores(self) -> list[str]:
        """Names of the scores that `newest` has."""
        if self.profiled is None:
            return []
        return column_names(self.profiled / "profile")[0]

    def sampled(self, count: int) -> np.ndarray:
        """Positions of `count` rows of `newest`, by hash."""
        assert self.newest is not None
        return smallest(self.newest.index.to_numpy(), count, SALT)

    @property
    def gradients(self) -> dict[str, str]:
        """The gradient sketches of the profiled timestep, and of which layers each is."""
        assert self.profiled is not None
        columns = read_json(self.profiled / "profile" / "columns.json")
        return {name: str(about["layers"]) for name, about in columns.items() if about["kind"] == "gradient"}

    def vectors(self, name: str, positions: np.ndarray) -> np.ndarray | None:
        """Unit rows of a vector of the profiled timestep; None where it was not profiled."""
        assert self.profiled is not None
        assert self.newest is not None
        if name not in read_json(self.profiled / "profile" / "columns.json"):
            return None
        keys = self.newest.index[positions].to_numpy()
        rows = read_vectors_of(self.profiled / "profile", name, keys).astype(np.float32)
        norm = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)

    def examples(self, notes: dict[int, str], tables: str = "releases/*.parquet") -> dict[int, Example]:
        """The samples with these keys that there are, by key, each with its note. tables: what holds them. What a section shows
        is asked for at once, since every call reads every key."""
        rows: dict[int, dict[str, Any]] = {}
        keys, columns = pa.array(list(notes), pa.uint64()), ["key", "id", "conversation", "images"]
        for path in (file for table in sorted(self.root.glob(tables)) for file in files_of(table)):
            if pc.any(pc.is_in(pq.read_table(path, columns=["key"])["key"], keys)).as_py():
                table = pq.read_table(path, columns=columns, filters=pc.field("key").isin(keys))
                rows |= {row["key"]: row for row in table.to_pylist()}
        return {key: _example(rows[key], note) for key, note in notes.items() if key in rows}


def _told(tables: Sequence[Path], keys_n: np.ndarray, *columns: str) -> list[Any]:
    """(n,) what tables say of these samples, the first of the columns that says something; keys ascending."""
    found = np.full(len(keys_n), None, object)
    for chunk in read_chunks(tables, ["key", *columns]):
        at_n, mine = among(chunk, keys_n)
        found[at_n] = pc.coalesce(*(mine[name] for name in columns)).to_pylist()
    return found.tolist()


def _example(row: dict[str, Any], note: str) -> Example:
    turns = row["conversation"]
    question = next((turn["text"] for turn in turns if turn["role"] == "user"), "")
    answer = next((turn["text"] for turn in turns if turn["role"] == "assistant"), "")
    shown = question.replace("<image>", "").strip()
    images = tuple(_thumbnail(image) for image in (row["images"] or [])[:4])
    return Example(row["id"], _cut(shown), _cut(answer), tuple(one for one in images if one), note)


def _thumbnail(image: dict[str, Any]) -> str:
    """A small PNG for the `src` of an HTML image; empty where the file is no longer what it was."""
    try:
        picture = open_image(image)
    except (ValueError, OSError):
        return ""
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    out = BytesIO()
    picture.save(out, format="PNG", optimize=True)
    return "data:image/png;base64," + b64encode(out.getvalue()).decode()


def _cut(text: str) -> str:
    return text if len(text) <= TEXT else f"{text[:TEXT]} …"
