"""A score and a penalty that fail as a file says: for as long as it is there, by an error or by the end of their process."""

import os
import signal
from pathlib import Path
from typing import Any

import torch

from liit.engine.models import anatomy


def _fail(model: Any) -> None:
    """The file lies beside the model, or is named in the environment where a score has no model."""
    told = Path(anatomy.unwrapped(model).name_or_path) / "failing"
    how = told.read_text() if told.exists() else "not"
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raised":
        raise TypeError("this penalty is of another age")


def penalty(model: Any) -> torch.Tensor:
    """Adds nothing to the loss."""
    _fail(model)
    return torch.zeros(())


def score(logits: torch.Tensor, targets: torch.Tensor) -> float:
    """Of any sample the same; it kills its process where the file that is named in the environment is there."""
    if Path(os.environ.get("FAILING_SCORE", "nowhere")).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return 1.0
