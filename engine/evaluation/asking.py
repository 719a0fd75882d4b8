"""Questions to whoever answers them: planned batches for actors with the model, or for servers of others."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from liit.engine.evaluation.alike import first_alike
from liit.engine.evaluation.served import Served
from liit.engine.evaluation.serving import nobody_left
from liit.engine.fleet import planned
from liit.engine.fleet.parts import Batches, tasks_of
from liit.engine.fleet.running import Worker
from liit.engine.models.experts import routed
from liit.engine.models.weights import light
from liit.engine.run.files import read_table
from liit.engine.run.store import Clock
from liit.engine.settings.config import Config
from liit.engine.settings.sections import Resources
from liit.engine.settings.streams import Server

ROOM = "room"
"""A planned sample's tokens beside its own: those of its answer, at most."""


def answered(
    worker: Callable[..., Worker],
    samples: pa.Table,
    files: Sequence[Path],
    new_tokens: Mapping[str, int],
    adapter: Path | None,
    config: Config,
    folder: Path,
    label: str,
    clock: Clock,
    queries: Sequence[Path] = (),
    whole: bool = True,
    places: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """What a worker's actors say of each of these samples, by id; part files lie in `folder` until the caller removes it.

    Equal prompts are answered once. Batches are of one data set, by length, and filled by tokens; what is said of a sample
    depends neither on what else is asked, but for equal prompts, nor on who answers or where a run was stopped.

    Args:
        samples: id, key, length and dataset of each; `files` hold their SAMPLE rows, among others maybe.
        new_tokens: of an answer at most, by data set.
        queries: what the samples look like (`task_features.py`), by which each finds its expert.
        whole: what the worker makes of a sample depends on its references too, not on its prompt alone.
        places: what the words in the command of `evaluation.server` stand for; it then answers, in place of the worker.
    """
    samples, limits = routed(samples, adapter, queries), config.evaluation
    first_N = first_alike(files, samples, new_tokens, whole)
    asked = samples.take(pa.array(np.unique(first_N)))
    told = {"new_tokens": new_tokens, "template": config.model.template()}
    arguments, resources = told | _speaking(adapter, config), config.resources
    if places is not None and limits.server is not None:
        worker, resources = Served, _keeping(limits.server, resources)
        model = config.model.model_dump(include={"path", "revision"})
        arguments = told | {
            "server": limits.server.model_dump(),
            "places": places,
            "folder": str(folder),
            "model": model,
        }
    room = pa.array([new_tokens[name] for name in asked["dataset"].to_pylist()], pa.int32())
    tasks = tasks_of(files, asked["key"].to_numpy(), {"expert": asked["expert"], ROOM: room})
    batches = Batches(limits.samples_per_batch, limits.tokens_per_batch, ("dataset", "expert"), ROOM)
    small = light(config.model.path, config.model.revision)
    job = planned.Job(label, worker, arguments, tasks, batches, light=small)
    with nobody_left(folder):
        given = pa.concat_tables([read_table(part) for part in planned.run(folder, job, resources, clock.tick)])
    answers = dict(zip(given["id"].to_pylist(), given["answer"].to_pylist(), strict=True))
    ids = samples["id"].to_pylist()
    return {name: answers[ids[first]] for name, first in zip(ids, first_N.tolist(), strict=True)}


def _speaking(adapter: Path | None, config: Config) -> dict[str, Any]:
    """What a `Speaker` is told of the model."""
    return {
        "model": config.model.model_dump(include={"path", "revision", "dtype", "attention"}),
        "adapter": None if adapter is None else str(adapter),
        "max_length": config.model.max_length,
    }


def _keeping(server: Server, resources: Resources) -> Resources:
    """With what each server needs in place of each actor."""
    own = {"actors": server.actors, "cpus_per_actor": server.cpus, "gpus_per_actor": server.gpus}
    return resources.model_copy(update={**own, "warm": False, "loaders_per_actor": 0})
