"""A study as Ray Tune trials: first in, first out, a few at a time, continued after a kill."""

import os
from pathlib import Path
from typing import Any

from ray import tune

from liit.engine.run.files import read_json, write_json
from liit.engine.run.fingerprints import fingerprint
from liit.engine.run.progress import log
from liit.engine.settings.config import ConfigError
from liit.tune.objective import Selection, train
from liit.tune.spaces import Study

DRIVER_CPUS = 0.25
"""Of a trial that trains: it waits for Ray Data and Ray Train, whose workers ask for their own."""


class Said(tune.Callback):
    """A line for every trial that ends."""

    def __init__(self, total: int, metric: str) -> None:
        self.total, self.metric, self.done = total, metric, 0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.done += 1
        log.info(
            "trial %d of %d: %s %s", self.done, self.total, trial.config["trial"], trial.last_result.get(self.metric)
        )

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        log.error("trial failed: %s; see %s", trial.config["trial"], trial.local_path)


def run_trials(
    study: Study, source: Path | None, budget: int, folder: Path, at_once: int, known: Path | None = None
) -> list[dict[str, Any]]:
    """`{"trial": settings, "figures": ...}` of every trial that ended well.

    known: cells of a comparison, that a training study takes in place of runs of the same settings.

    Raises ConfigError where the folder holds another study.
    """
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # relative paths in a configuration stay what they are
    trials = study.trials()
    mark = fingerprint(study.model_dump(), str(source), budget)
    note = folder / "study.json"
    if note.is_file() and read_json(note)["settings"] != mark:
        raise ConfigError(f"{folder} holds another study; remove it, or choose another --output")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(note, {"settings": mark, "study": study.model_dump(mode="json"), "profile": str(source)})
    selecting = study.kind == "selection"
    trainable = tune.with_resources(Selection if selecting else train, {"CPU": 1 if selecting else DRIVER_CPUS})
    space = {"trial": tune.grid_search(trials)}
    if selecting:
        space |= {"first": trials[0], "profile": str(source), "budget": budget}
    else:
        config = Path(study.config)
        space |= {
            "config": str(config.resolve()) if config.exists() else study.config,
            "runs": str(folder / "runs"),
            "results": str(folder / "cells"),
            "known": None if known is None else str(known.resolve()),
        }
    settings = tune.TuneConfig(
        metric=study.metric, mode=study.mode, max_concurrent_trials=at_once, reuse_actors=selecting
    )
    run = tune.RunConfig(
        name="trials", storage_path=str(folder), verbose=0, callbacks=[Said(len(trials), study.metric)]
    )
    path = str(folder / "trials")
    if tune.Tuner.can_restore(path):
        log.info("continuing the trials in %s", folder)
        tuner = tune.Tuner.restore(path, trainable, restart_errored=True, param_space=space)
    else:
        tuner = tune.Tuner(trainable, param_space=space, tune_config=settings, run_config=run)
    grid = tuner.fit()
    return [
        {"trial": result.config["trial"], "figures": _figures(result.metrics)}
        for result in grid
        if result.error is None and study.metric in (result.metrics or {})
    ]


def _figures(metrics: dict[str, Any]) -> dict[str, float]:
    """What the trial reported, without what Ray Tune adds."""
    added = ("time_", "timestamp", "pid", "iterations", "training_iteration", "done", "node_ip", "date", "config")
    return {
        name: float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and not name.startswith(added)
    }
