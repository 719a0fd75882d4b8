"""LwF: what the model of before would answer is taught beside the samples (Li & Hoiem, arXiv 1606.09282).

The teacher is the same model with the adapter as the timestep found it, or without one at the first: KL(teacher ‖ student)
over the vocabulary, at the positions that predict response tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft import PeftModel
from torch.nn import functional as F

from liit.engine.models.adapters import speaking_as
from liit.engine.models.anatomy import without_dropout

TEACHER = "teacher"


class Teacher:
    """Answers with the weights of before. Made before DeepSpeed takes the model, which then holds both."""

    def __init__(self, model: PeftModel, parent: str | None) -> None:
        self.name = TEACHER if parent is not None else None
        if parent is not None:
            model.load_adapter(parent, TEACHER, is_trainable=False)

    @contextmanager
    def speaking(self, model: torch.nn.Module) -> Iterator[None]:
        """The model is the teacher: no dropout, no gradients, the adapter of before."""
        with without_dropout(model), speaking_as(model, self.name), torch.no_grad():
            yield


def divergence(teacher_MV: torch.Tensor, student_MV: torch.Tensor) -> torch.Tensor:
    """Σ over M tokens of KL(teacher ‖ student) in nats, from logits; a scalar."""
    student, teacher = (logits.float().log_softmax(-1) for logits in (student_MV, teacher_MV))
    return F.kl_div(student, teacher, reduction="sum", log_target=True)
