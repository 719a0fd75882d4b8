"""What trackers show of a run: TensorBoard files always, MLflow on request (`tracking.mlflow`).

    <run>/tensorboard/   an event file for each timestep, replaced when the timestep is made anew
    <run>/mlflow.json    which MLflow run this is, and which of its timesteps are logged

Every value at its timestep as step: `skill/<name>`, `stream/<figure>`, `samples/<table>`, `seconds/<stage>`; and
`training/loss_tNN`, `training/rate_tNN` by optimizer step (`_<expert>` where a timestep trains several). All of it is read
from the run folder, which stays the record.
"""

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from liit.engine.answers.accuracy import accuracy_table, average_accuracy, forgetting_rate
from liit.engine.evaluation.results import counts, values
from liit.engine.models.experts import Experts, is_experts
from liit.engine.run.files import read_json, write_json
from liit.engine.run.fingerprints import fingerprint
from liit.engine.run.progress import log
from liit.engine.run.store import Store
from liit.engine.settings.config import Config

BATCH = 500
"""Values of one request to MLflow, which takes at most 1,000."""
PARAMETER = 6000
"""Characters of a parameter that MLflow takes."""


def track(store: Store, config: Config, t: int) -> None:
    """Show the finished timestep t. A tracking server that fails costs a line in the log, not the run."""
    figures, curves = measured(store, t), training_curves(store, t)
    _to_tensorboard(store.root, t, figures, curves)
    if config.tracking.mlflow is not None:
        try:
            _to_mlflow(store, config, t, figures, curves)
        except Exception as error:  # connection, permission, quota: MLflow's errors share no narrower type
            log.warning("t%d is not in MLflow (%s): %s", t, config.tracking.mlflow, error)


def measured(store: Store, t: int) -> dict[str, float]:
    """The values of timestep t, by name."""
    step = store.root / f"t{t:02d}"
    figures: dict[str, float] = {f"samples/{name}": rows for name, rows in counts(step).items()}
    for name, seconds in store.seconds().items():
        folder, _, stage = name.partition("/")
        if folder == step.name:
            figures[f"seconds/{stage.partition('.')[0]}"] = seconds
    answered = [store.root / f"t{at:02d}" / "evaluation.json" for at in range(t + 1)]
    if all(path.is_file() for path in answered) and values(answered[0]):
        accuracy = accuracy_table([values(path) for path in answered])
        figures |= {f"skill/{skill}": float(accuracy[skill].iloc[-1]) for skill in accuracy}
        figures["stream/average_accuracy"] = average_accuracy(accuracy.to_numpy(float))
        figures["stream/forgetting_rate"] = forgetting_rate(accuracy.to_numpy(float))
    return figures


def training_curves(store: Store, t: int) -> dict[str, list[float]]:
    """Loss and learning rate by optimizer step; nothing where nothing was trained."""
    adapter = store.root / f"t{t:02d}" / "adapter"
    curves: dict[str, list[float]] = {}
    taught = Experts.load(adapter).taught if is_experts(adapter) else ("",)
    for expert in taught:
        path, name = adapter / expert / "training.json", f"t{t:02d}" if len(taught) == 1 else f"t{t:02d}_{expert}"
        if path.is_file():
            history = read_json(path)
            curves |= {f"training/loss_{name}": history["losses"], f"training/rate_{name}": history["rates"]}
    return curves


def _to_tensorboard(root: Path, t: int, figures: dict[str, float], curves: dict[str, list[float]]) -> None:
    folder = root / "tensorboard"
    before = list(folder.glob(f"*.t{t:02d}")) + list(folder.glob(f"*.t{t:02d}.live"))
    for path in before:
        path.unlink()
    with SummaryWriter(str(folder), filename_suffix=f".t{t:02d}") as board:
        for name, value in figures.items():
            board.add_scalar(name, value, t)
        for name, curve in curves.items():
            for step, value in enumerate(curve, start=1):
                board.add_scalar(name, value, step)


def _to_mlflow(store: Store, config: Config, t: int, figures: dict[str, float], curves: dict[str, list[float]]) -> None:
    from mlflow.entities import Metric

    note = store.root / "mlflow.json"
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
