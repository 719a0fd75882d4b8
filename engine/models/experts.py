"""Adapters side by side, of which every sample gets its own (model expansion, EProj of He et al., arXiv 2311.16206).

    adapter/experts.json          the model, what queries are made by, the tasks of each expert, which were taught last
    adapter/keys.safetensors      `<name>.<modality>`: the sum of the unit queries of the expert's samples
    adapter/<name>/               a plain PEFT adapter; the expert `base` has none, it is the model itself

Only experts that were trained, and the base, have a key. The folder is complete: `routed_model.RoutedModel(folder)` answers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from safetensors.numpy import load_file, save_file

from liit.engine.run.files import read_json, read_table, write_json
from liit.engine.run.profiles import unpacked
from liit.selectors.routing import route

BASE = "base"
QUERIES = ("image", "instruction")
"""What is known of a sample before it is answered."""


@dataclass(frozen=True)
class Experts:
    """Which experts there are and how samples find them."""

    folder: Path
    about: Mapping[str, Any]
    """`model` (settings.Model) and `tasks` (training_settings.Tasks), as plain values."""
    tasks: Mapping[str, tuple[str, ...]]
    """By expert, in the order they were made: the tasks that it was trained on."""
    keys: Mapping[str, Mapping[str, np.ndarray]]
    taught: tuple[str, ...] = ()
    """Those that the timestep of this folder trained."""

    @classmethod
    def load(cls, folder: Path) -> "Experts":
        """Raises FileNotFoundError for a folder without experts."""
        about = read_json(folder / "experts.json")
        tasks = {name: tuple(of) for name, of in about.pop("experts").items()}
        taught = tuple(about.pop("taught", ()))
        stored = load_file(folder / "keys.safetensors")
        keys = {name: {modality: stored[f"{name}.{modality}"] for modality in QUERIES} for name in tasks}
        return cls(folder, about, tasks, keys, taught)

    def save(self) -> None:
        """Write everything but the adapters themselves."""
        stored = {
            f"{name}.{modality}": np.asarray(self.keys[name][modality], np.float32)
            for name in self.tasks
            for modality in QUERIES
        }
        save_file(stored, self.folder / "keys.safetensors")
        experts = {name: list(of) for name, of in self.tasks.items()}
        write_json(self.folder / "experts.json", {**self.about, "experts": experts, "taught": self.taught})

    def adapters(self) -> dict[str, str]:
        """The folders of the experts that have an adapter."""
        return {name: str(self.folder / name) for name in self.tasks if name != BASE}

    def of_task(self, task: str) -> str | None:
        """The newest expert that was trained on a task; None where none was."""
        return next((name for name, tasks in reversed(list(self.tasks.items())) if task in tasks), None)

    def for_task(
        self, task: str, alike: Mapping[str, float], threshold: float, afresh: bool = False
    ) -> tuple[str, str]:
        """The expert that a task is taught to, and the one whose weights it starts from.

        alike: its similarity to every task before it. Its own expert goes on, or above the threshold the most alike one's; else
        there is a new one, `afresh` from the base. The base cannot go on, it has no weights of its own.
        """
        nearest = max(alike, key=lambda name: alike[name])
        own, start = self.of_task(task), self.of_task(nearest)
        if own not in (None, BASE):
            return str(own), str(own)
        assert start is not None, f"{nearest} was never taught"
        if start != BASE and alike[nearest] > threshold:
            return start, start
        return task, BASE if afresh else start

    def route(self, queries: Mapping[str, np.ndarray]) -> list[str]:
        """The expert of each sample, from (N, D) queries."""
        names = list(self.tasks)
        keys = {modality: np.stack([self.keys[name][modality] for name in names]) for modality in QUERIES}
        return [names[at] for at in route({modality: queries[modality] for modality in QUERIES}, keys)]


def is_experts(adapter: Path) -> bool:
    """Whether an adapter folder holds several, with keys."""
    return (adapter / "experts.json").is_file()


def adapter_of(expert: str) -> str | None:
    """The name of an expert's adapter; None for the model itself."""
    return None if expert == BASE else expert


def routed(samples: pa.Table, adapter: Path | None, queries: Sequence[Path]) -> pa.Table:
    """The samples with a column `expert`: whom each goes to, `base` where there are no experts.

    queries: tables of `task_features.describe` that together have all of the samples.
    """
    names = np.full(len(samples), BASE, dtype=object)
    if adapter is not None and is_experts(adapter):
        table = pa.concat_tables([read_table(path) for path in queries])
        at = pc.index_in(samples["key"], table["key"].combine_chunks()).combine_chunks()
        own = table.take(at)
        names[:] = Experts.load(adapter).route({name: unpacked(own[name]) for name in QUERIES})
    return samples.append_column("expert", pa.array(names, pa.string()))
