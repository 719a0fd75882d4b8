"""The DeepSpeed engine of one worker: the model with what is trained in it, its parameter groups, its ZeRO stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.accelerator import get_accelerator
from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn

from liit.engine.holding.anchoring import Anchor, combined
from liit.engine.holding.distilling import Teacher
from liit.engine.models import adapters, anatomy, loading
from liit.engine.settings.extensions import function_at
from liit.engine.training.job import MODULES_FILE, TrainJob
from liit.engine.training.step import Built

MAX_BUCKET = 200_000_000
"""Elements of gradients that are reduced at a time."""


def build(job: TrainJob) -> Built:
    """The engine, its learning rates, and what holds it to what was learned before.

    Parameter groups: LoRA and extra modules at `learning_rate`, then the projector at its own rate where it is trained.
    Raises ValueError for a configuration that cannot be trained.
    """
    _check(job)
    if not job.gpus:
        # On CPUs DeepSpeed would compile a shared-memory all-reduce; gloo does without a compiler and its minute.
        deepspeed.ops.__compatible_ops__ = {}
    model = _model(job)
    rule = job.training.regulariser
    anchor = Anchor(model, combined(job.importances), rule.strength) if rule and rule.kind != "lwf" else None
    teacher = Teacher(model, job.parent) if rule and rule.kind == "lwf" else None
    groups, rates = _groups(job, model)
    optimizer = torch.optim.AdamW(groups, weight_decay=job.training.weight_decay, fused=True)
    trainable = sum(parameter.numel() for group in groups for parameter in group["params"])
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=_settings(job, trainable), dist_init_required=False
    )
    engine.train()
    return Built(engine, rates, step, anchor, teacher, rule.strength if rule else 0.0)


def step(engine: Any) -> float:
    """One optimizer step; the norm of its gradient, the same on every rank, which is not finite where the step was passed over.

    In float16 a gradient may overflow by its scale alone. That is how DeepSpeed finds the scale, so the norm is then told as 0,
    unless the scale cannot get lower. Without ZeRO it is told whether the norm is finite: the sum of the ranks' norms.
    """
    scaler = getattr(engine.optimizer, "loss_scaler", None)
    scaled = isinstance(scaler, DynamicLossScaler) and scaler.cur_scale > scaler.min_scale
    if isinstance(scaler, DynamicLossScaler):
        scaler.raise_error_at_min_scale = False  # what is said instead names the samples
    if engine.zero_optimization():
        engine.step()
        norm = engine.get_global_grad_norm()
        return 0.0 if scaled and engine.optimizer.overflow else float(norm)
    gradients = [weight.grad for weight in engine.module.parameters() if weight.grad is not None]
    norms = torch.stack([gradient.float().norm() for gradient in gradients]).norm()
    torch.distributed.all_reduce(norms)
    engine.step()
    return float(norms)


def named(names: tuple[str, ...]) -> list[Callable[[nn.Module], Any]]:
    """The functions that `module:function` names stand for. Raises ValueError with the name that has none."""
    return [function_at(name, f"training.penalties/modules: {name!r}") for name in names]


def _check(job: TrainJob) -> None:
    stage, dtype = job.training.zero_stage, job.model.dtype
    if stage == 3 and job.training.penalties:
        raise ValueError(
            "training.penalties need training.zero_stage <= 2: outside a forward, ZeRO-3 parameters are empty"
        )
    if stage == 0 and dtype != "float32":
        raise ValueError(f"model.dtype={dtype} needs training.zero_stage >= 1: stage 0 keeps no float32 master weights")
    if dtype == "float16" and not get_accelerator().is_fp16_supported():
        raise ValueError("model.dtype=float16: this machine cannot train in it; use bfloat16 or float32")


def _model(job: TrainJob) -> PeftModel:
    training, lora = job.training, job.training.lora
    model = loading.load_model(
        job.model.path,
        revision=job.model.revision,
        dtype=job.model.dtype,
        attention=job.model.attention,
        adapter=job.parent,
        trainable=True,
        quantised=training.quantised,
    )
    if job.parent is None:
        projector = training.projector_learning_rate is not None
        model = adapters.add_lora(
            model,
            r=lora.r,
            alpha=lora.alpha,
            dropout=lora.dropout,
            targets=lora.targets,
            projector=projector,
            seed=job.seed,
            of=training.experts.of if training.experts else "language",
        )
    torch.manual_seed(job.seed)  # initial weights of extra modules, the same on every rank
    for register in named(training.modules):
        register(model)
    if job.parent is not None and training.modules:
        _load_modules(model, Path(job.parent) / MODULES_FILE)
    if training.zero_stage < 3:  # there a weight is whole within its own module's forward alone
        adapters.lean(model)
    if training.gradient_checkpointing:
        anatomy.unwrapped(model).gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def _load_modules(model: PeftModel, file: Path) -> None:
    saved = load_file(file)
    parameters = dict(model.named_parameters())
    unknown = sorted(saved.keys() - parameters.keys())
    if unknown:
        raise ValueError(f"{file}: training.modules does not make {unknown}, which the previous timestep trained")
    with torch.no_grad():
        for name, value in saved.items():
            parameters[name].copy_(value)


def _groups(job: TrainJob, model: PeftModel) -> tuple[list[dict[str, Any]], list[float]]:
    trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    projector = [parameter for name, parameter in trainable if ".modules_to_save." in name]
    others = [parameter for name, parameter in trainable if ".modules_to_save." not in name]
    rate = job.training.projector_learning_rate
    if (rate is None) == bool(projector):
        has, wants = ("trains", "null") if projector else ("does not train", rate)
        raise ValueError(f"{job.parent}: this adapter {has} the projector, training.projector_learning_rate is {wants}")
    rates = [job.training.learning_rate] + ([rate] if rate is not None else [])
    parts = [others, projector] if projector else [others]
    return [{"params": part, "lr": peak} for part, peak in zip(parts, rates, strict=True)], rates


def _settings(job: TrainJob, trainable: int) -> dict[str, Any]:
    training = job.training
    bucket = min(trainable, MAX_BUCKET)
    return {
        "train_micro_batch_size_per_gpu": training.micro_batch_size,
        "gradient_accumulation_steps": 1,  # the loop says which micro-batch ends a step: they differ at an epoch's end
        "gradient_clipping": training.gradient_clip,
        "zero_allow_untested_optimizer": True,  # torch's AdamW: DeepSpeed's own needs a compiler
        "zero_optimization": {
            "stage": training.zero_stage,
            "reduce_bucket_size": bucket,
            "allgather_bucket_size": bucket,
        },
        "bf16": {"enabled": job.model.dtype == "bfloat16"},
        "fp16": {"enabled": job.model.dtype == "float16"},
        "data_types": {"grad_accum_dtype": "fp32"},  # in bfloat16 the sum over 32 micro-batches is off by 0.65 %
        "steps_per_print": None,
    }
