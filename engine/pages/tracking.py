"""What trackers show of a run: TensorBoard files always, MLflow and Weights & Biases on request (`tracking`).

    <run>/tensorboard/   an event file for each timestep, replaced when the timestep is made anew
    <run>/mlflow.json    which MLflow run this is, and which of its timesteps are logged
    <run>/wandb.json     the same of Weights & Biases, whose own files are in <run>/wandb/

Every value at its timestep as step: `skill/<name>`, `stream/<figure>`, `samples/<table>`, `seconds/<stage>`; and
`training/loss_tNN`, `training/rate_tNN` by optimizer step (`_<expert>` where a timestep trains several). All of it is read
from the run folder, which stays the record.
"""

from liit.engine.answers.accuracy import accuracy_table, average_accuracy, forgetting_rate
from liit.engine.evaluation.results import counts
from liit.engine.models.experts import Experts, is_experts
from liit.engine.pages.tracking_mlflow import to_mlflow
from liit.engine.pages.tracking_tensorboard import to_tensorboard
from liit.engine.pages.tracking_wandb import to_wandb
from liit.engine.run.files import read_json
from liit.engine.run.progress import log
from liit.engine.run.reading import skill_values
from liit.engine.run.store import Store
from liit.engine.settings.config import Config


def track(store: Store, config: Config, t: int) -> None:
    """Show the finished timestep t. Files that cannot be written and servers that fail cost a line in the log, not the run."""
    try:
        figures, curves = measured(store, t), training_curves(store, t)
    except Exception as error:  # whatever reads the run's tables raises; looking at a run must not end it
        log.warning("t%d is not tracked: %s", t, " ".join(str(error).split()))
        return
    asked = (
        ("TensorBoard's files", str(store.root), to_tensorboard),
        ("MLflow", config.tracking.mlflow, to_mlflow),
        ("W&B", config.tracking.wandb, to_wandb),
    )
    for name, place, show in asked:
        if place is None:
            continue
        try:
            show(store.root, config, t, figures, curves)
        except Exception as error:  # disk, connection, permission, quota: the trackers' errors share no narrower type
            log.warning("t%d is not in %s (%s): %s", t, name, place, " ".join(str(error).split()))


def measured(store: Store, t: int) -> dict[str, float]:
    """The values of timestep t, by name."""
    step = store.root / f"t{t:02d}"
    figures: dict[str, float] = {f"samples/{name}": rows for name, rows in counts(step).items()}
    for name, seconds in store.seconds().items():
        folder, _, stage = name.partition("/")
        if folder == step.name:
            figures[f"seconds/{stage.partition('.')[0]}"] = seconds
    answered = [store.root / f"t{at:02d}" / "evaluation.json" for at in range(t + 1)]
    if all(path.is_file() for path in answered) and skill_values(answered[0]):
        accuracy = accuracy_table([skill_values(path) for path in answered])
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
