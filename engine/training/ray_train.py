"""Training of one timestep: Ray Train runs the DeepSpeed loop on the selected samples and leaves a plain PEFT adapter."""

import json
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from liit.engine.run.files import remove
from liit.engine.run.progress import log
from liit.engine.training.finite import refuse_noted
from liit.engine.training.job import TrainJob

MAX_FAILURES = 2
"""Worker groups that may die before the run fails; each is started again from the last checkpoint."""
POLL_SECONDS = 0.25

OnProgress = Callable[[int, int, float], None]


def train(job: TrainJob, on_progress: OnProgress) -> None:
    """Train the job and put its adapter at `job.output` by one rename; nothing to do where it is there already.

    on_progress gets (steps done, steps, loss of the step) from another thread. The same call after a kill continues from
    the last checkpoint. Raises ValueError for a path that is not absolute, NotFinite for a training that was stopped, and Ray
    Train's TrainingFailedError with the worker's traceback when the loop keeps failing.
    """
    for name in ("samples", "parent", "output", "storage"):
        path = getattr(job, name)
        if path is not None and not os.path.isabs(path):
            raise ValueError(f"TrainJob.{name}={path!r} must be absolute: workers run in another folder")
    if Path(job.output).exists():
        return
    job.folder.mkdir(parents=True, exist_ok=True)
    _drop_torn(job)
    with _followed(job.progress, on_progress):
        _trainer(job).fit()
    refuse_noted(job.stopped)
    os.rename(job.partial, job.output)
    shutil.rmtree(job.folder)


def _drop_torn(job: TrainJob) -> None:
    """Ray Train writes its list of checkpoints in place, so a full disk or a kill leaves it torn, and it refuses to start on
    that: the training begins again then."""
    snapshot = job.folder / "checkpoint_manager_snapshot.json"
    try:
        json.loads(snapshot.read_bytes())
    except FileNotFoundError:
        return
    except ValueError:
        log.warning("%s was not written to its end: this training begins again", snapshot)
        for path in job.folder.iterdir():
            remove(path)


def _trainer(job: TrainJob) -> Any:
    # The controller looks at its workers this often; the default of 2 s is added to every checkpoint and to the end.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
    import ray

    alone = len(ray.nodes()) == 1
    if alone:  # a node that is taken away takes all of this with it: nothing to watch for
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig

    resources = {"CPU": job.cpus} | ({"GPU": job.gpus} if job.gpus else {})
    return _trainer_class(alone)(
        _on_worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if job.gpus else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=job.training.workers, use_gpu=job.gpus > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            name=job.name,
            storage_path=job.storage,
            failure_config=FailureConfig(max_failures=MAX_FAILURES),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    )


def _trainer_class(alone: bool) -> type:
    """TorchTrainer without processes, three seconds of CPU each at every training, that would have nothing to do: for Ray
    Data's sets, of which it gets none, and, alone on a node, for what a controller leaves there that dies before its job."""
    from ray.train.torch import TorchTrainer

    idle = {"DatasetsCallback", *(["PlacementGroupCleanerCallback"] if alone else [])}

    class Trainer(TorchTrainer):
        def _create_default_callbacks(self) -> list[Any]:
            return [each for each in super()._create_default_callbacks() if type(each).__name__ not in idle]

    return Trainer


def _on_worker(config: dict[str, TrainJob]) -> None:
    job = config["job"]
    if not job.gpus:
        os.environ["DS_ACCELERATOR"] = "cpu"  # before DeepSpeed is imported, or it looks for CUDA
    sys.modules.setdefault("mlflow", None)  # type: ignore[arg-type]  # DeepSpeed's tuner would import it, for three seconds
    from liit.engine.training import loop

    try:
        loop.run(job)
    except Exception as error:
        import ray

        error.add_note(f"on node {ray.util.get_node_ip_address()}")  # Ray Train hands the error on, and not from where
        error.add_note(traceback.format_exc())
        raise


@contextmanager
def _followed(progress: Path, on_progress: OnProgress) -> Iterator[None]:
    """Calls on_progress for every line that is appended to a file meanwhile: cheaper than a report per step.

    What it raises is raised at the end."""
    progress.touch()
    done = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="training-progress") as pool:
        following = pool.submit(_follow, progress, on_progress, done)
        try:
            yield
        finally:
            done.set()
        following.result()


def _follow(progress: Path, on_progress: OnProgress, done: threading.Event) -> None:
    with progress.open(encoding="utf-8") as stream:
        stream.seek(0, os.SEEK_END)
        rest = ""
        while True:
            last = done.wait(POLL_SECONDS)
            *lines, rest = (rest + stream.read()).split("\n")
            for line in map(json.loads, lines):
                on_progress(line["step"], line["steps"], line["loss"])
            if last:
                return
