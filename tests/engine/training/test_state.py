"""What a checkpoint may hold is loaded whatever Python wrote it, and nothing else is."""

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytest
import torch
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from ray.train.v2._internal.constants import CHECKPOINT_MANAGER_SNAPSHOT_FILENAME

from liit.engine.settings.sections import Model
from liit.engine.settings.training import Training
from liit.engine.training.job import TrainJob
from liit.engine.training.ray_train import _drop_torn
from liit.engine.training.state import STATE_CLASSES, _load_safely


class AsGetattr:
    """Pickled as Python 3.11.2 pickles a member of an enum."""

    def __init__(self, of: Any, name: str) -> None:
        self.how = (of, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, self.how


@pytest.mark.parametrize(
    "written", [*ZeroStageEnum, *(AsGetattr(ZeroStageEnum, stage.name) for stage in ZeroStageEnum)]
)
def test_a_stage_is_read_whichever_python_wrote_it(written: Any, tmp_path: Path) -> None:
    torch.save({"zero_stage": written, "step": torch.ones(2)}, tmp_path / "state.pt")
    with torch.serialization.safe_globals(STATE_CLASSES):
        loaded = _load_safely(str(tmp_path / "state.pt"))
    assert isinstance(loaded["zero_stage"], ZeroStageEnum)
    assert loaded["zero_stage"].name == (written.how[1] if isinstance(written, AsGetattr) else written.name)


@pytest.mark.parametrize(
    "written",
    [
        AsGetattr(ZeroStageEnum, "__class__"),
        AsGetattr(ZeroStageEnum.weights, "name"),
        AsGetattr(LossScaler, "__init__"),
        os.getcwd,
    ],
)
def test_nothing_else_is_loaded(written: Any, tmp_path: Path) -> None:
    torch.save({"zero_stage": written}, tmp_path / "state.pt")
    with torch.serialization.safe_globals(STATE_CLASSES), pytest.raises(UnpicklingError):
        _load_safely(str(tmp_path / "state.pt"))


@pytest.mark.parametrize(("snapshot", "left"), [("", []), ('{"checkpoint_results": [', []), ("{}", 3), (None, 2)])
def test_a_list_of_checkpoints_that_was_torn_is_no_list(
    snapshot: str | None, left: int | list[str], tmp_path: Path
) -> None:
    """A full disk leaves it empty, and Ray Train refuses to start on it for good."""
    job = TrainJob(Model(path="m"), Training(), 0, "samples", None, str(tmp_path / "adapter"), "name", str(tmp_path))
    (job.folder / "checkpoint_1").mkdir(parents=True)
    job.progress.touch()
    if snapshot is not None:
        (job.folder / CHECKPOINT_MANAGER_SNAPSHOT_FILENAME).write_text(snapshot)
    _drop_torn(job)
    found = list(job.folder.iterdir())
    assert found == left or len(found) == left
