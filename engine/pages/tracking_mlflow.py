"""A timestep in MLflow: one MLflow run for each run folder, with the configuration as its parameters."""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from liit.engine.run.files import read_json, write_json
from liit.engine.run.fingerprints import fingerprint
from liit.engine.settings.config import Config

BATCH = 500
"""Values of one request to MLflow, which takes at most 1,000."""
PARAMETER = 6000
"""Characters of a parameter that MLflow takes."""


def to_mlflow(root: Path, config: Config, t: int, figures: dict[str, float], curves: dict[str, list[float]]) -> None:
    """Log timestep t, unless these values of it are there. Raises what MLflow raises where its server fails."""
    from mlflow.entities import Metric

    note = root / "mlflow.json"
    client = mlflow_client(str(config.tracking.mlflow))
    known = read_json(note) if note.is_file() else {}
    if known.get("uri") != config.tracking.mlflow:
        known = {"uri": config.tracking.mlflow, "run": _begun(client, config), "logged": {}}
        write_json(note, known)
    mark = fingerprint(figures, curves)
    if known["logged"].get(f"t{t:02d}") == mark:
        return
    now = int(1000 * time.time())
    points = [Metric(re.sub(r"[^\w\-. :/]", "_", name), value, now, t) for name, value in figures.items()]
    points += [
        Metric(name, value, now, step) for name, curve in curves.items() for step, value in enumerate(curve, start=1)
    ]
    for first in range(0, len(points), BATCH):
        client.log_batch(known["run"], metrics=points[first : first + BATCH])
    known["logged"][f"t{t:02d}"] = mark
    write_json(note, known)


def mlflow_client(uri: str) -> Any:
    """A client of the tracking server, or of the folder, at `uri`. Raises ImportError where MLflow is not installed."""
    from mlflow import MlflowClient

    if "://" not in uri or uri.startswith("file:"):
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow keeps plain folders in maintenance, and asks
    return MlflowClient(tracking_uri=uri)


def _begun(client: Any, config: Config) -> str:
    """The id of a new MLflow run in the experiment `tracking.experiment`, with the configuration as its parameters."""
    from mlflow.entities import Param

    name = config.tracking.experiment
    found = client.get_experiment_by_name(name)
    experiment = found.experiment_id if found else client.create_experiment(name)
    run = client.create_run(experiment, run_name=config.name).info.run_id
    settings = [Param(key, str(value)[:PARAMETER]) for key, value in _flat("", config.model_dump(mode="json"))]
    for first in range(0, len(settings), 100):
        client.log_batch(run, params=settings[first : first + 100])
    return str(run)


def _flat(prefix: str, values: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Leaves of a nested mapping by dotted key."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield prefix + key, value
