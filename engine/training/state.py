"""What a killed training continues from, and what a finished one leaves: checkpoints, adapter, second moments, history.

Every function here is collective: all ranks call it.
"""

import json
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import ray.train
import torch
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state
from deepspeed.utils.tensor_fragment import fragment_address
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from liit.engine.training.job import MODULES_FILE, TrainJob

TAG = "state"


def _stage(of: Any, name: str) -> ZeroStageEnum:
    """What stands in a checkpoint for a ZeRO stage where Python (3.11.2 does) pickles a member of an enum as `getattr(of, name)`.

    Raises:
        UnpicklingError: it is a `getattr` of something else.
    """
    if of is not ZeroStageEnum or name not in ZeroStageEnum.__members__:
        raise UnpicklingError(f"getattr({of!r}, {name!r}) in a checkpoint is no ZeRO stage; nothing else is loaded")
    return ZeroStageEnum[name]


STATE_CLASSES = [LossScaler, DynamicLossScaler, ZeroStageEnum, fragment_address, (_stage, "builtins.getattr")]
"""All that a DeepSpeed checkpoint holds beside tensors and plain values."""


@dataclass
class History:
    """One entry per optimizer step. losses: mean nats per response token of the global batch; tokens: how many these are;
    rates: learning rate of the first parameter group; penalties: what was added to the loss. seconds: time in steps, over
    all resumes."""

    losses: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    penalties: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        return len(self.losses)


def save_checkpoint(engine: Any, history: History) -> None:
    """Report to Ray Train a checkpoint that holds every rank's optimizer shard; frozen weights stay out."""
    with tempfile.TemporaryDirectory() as folder:
        engine.save_checkpoint(
            folder, tag=TAG, client_state={"history": asdict(history)}, exclude_frozen_parameters=True
        )
        torch.distributed.barrier()
        ray.train.report({"step": history.steps}, checkpoint=ray.train.Checkpoint.from_directory(folder))


def restore_checkpoint(engine: Any) -> History:
    """Bring the engine to the last checkpoint of this run and return its history; a new run starts with an empty one."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return History()
    engine.checkpoint_engine.load = _load_safely
    with checkpoint.as_directory() as folder, torch.serialization.safe_globals(STATE_CLASSES):
        loaded, state = engine.load_checkpoint(folder, tag=TAG, load_module_strict=False)
    if loaded is None:
        raise ValueError(f"{checkpoint.path} holds no training state")
    return History(**state["history"])


def _load_safely(path: str, map_location: Any = None) -> Any:
    """In place of DeepSpeed's own `torch.load`, which would run whatever code a checkpoint holds."""
    return torch.load(path, map_location=map_location, weights_only=True)


def export(job: TrainJob, engine: Any, history: History, about: dict[str, Any]) -> None:
    """Write the adapter as plain PEFT files, Adam's second moments by the adapter's tensor names, and the history."""
    _link_moments(engine.optimizer)
    trainable = [(name, parameter) for name, parameter in engine.module.named_parameters() if parameter.requires_grad]
    weights = {name: _weight(parameter) for name, parameter in trainable}
    moments = {name: _second_moment(engine, parameter) for name, parameter in trainable}
    if torch.distributed.get_rank() == 0:
        shutil.rmtree(job.partial, ignore_errors=True)
        job.partial.mkdir(parents=True)
        _write_adapter(engine.module, weights, moments, job.partial)
        (job.partial / "training.json").write_text(
            json.dumps(about | asdict(history), indent=1) + "\n", encoding="utf-8"
        )
    torch.distributed.barrier()


def _write_adapter(
    model: Any, weights: dict[str, torch.Tensor], moments: dict[str, torch.Tensor], folder: Path
) -> None:
    model.save_pretrained(
        folder, state_dict=weights, selected_adapters=["default"], safe_serialization=True, save_embedding_layers=False
    )
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's model card, a form that nobody has filled in
    save_file(
        get_peft_model_state_dict(model, state_dict=moments, save_embedding_layers=False),
        folder / "moments.safetensors",
    )
    extra = {name: value for name, value in weights.items() if "lora_" not in name and ".modules_to_save." not in name}
    if extra:
        save_file(extra, folder / MODULES_FILE)


def _weight(parameter: torch.nn.Parameter) -> torch.Tensor:
    """The float32 master weight, gathered from the ranks; without ZeRO the parameter itself."""
    full = safe_get_full_fp32_param(parameter)
    return (parameter.data if full is None else full).detach().float().cpu().clone().reshape(_shape(parameter))


def _link_moments(optimizer: Any) -> None:
    """ZeRO-1 and 2 tie each parameter to its optimizer state in a step only, and once: not after a restore that leaves
    no step to do, and before the state of the later parameter groups exists."""
    if hasattr(optimizer, "_hp_optimizer_states_linked"):
        optimizer._hp_optimizer_states_linked = False
        optimizer._lazy_init_hp_params_optimizer_state()


def _second_moment(engine: Any, parameter: torch.nn.Parameter) -> torch.Tensor:
    full = safe_get_full_optimizer_state(parameter, "exp_avg_sq")
    if full is None:
        state = engine.optimizer.state[parameter]  # without ZeRO, torch's own AdamW; no entry: it never had a gradient
        full = state.get("exp_avg_sq", torch.zeros_like(parameter))
    return full.detach().float().cpu().clone().reshape(_shape(parameter))


def _shape(parameter: Any) -> torch.Size:
    return getattr(parameter, "ds_shape", parameter.shape)
