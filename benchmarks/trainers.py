"""Who trains a LoRA on the same samples: LiIT's own loop, `transformers.Trainer` with PEFT, and TRL's `SFTTrainer`.

All start from the same weights and take the same samples in each step, so that their losses are the same. Everyone's samples are
encoded before. Packing alone changes which samples make a step.
"""

import os
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from peft.tuners.lora import Linear as LoraLinear
from plain_engine import PlainEngine
from torch import nn
from transformers import PrinterCallback, Trainer, TrainingArguments

from liit.engine.data.readers.images import open_image
from liit.engine.data.rows import Rows
from liit.engine.models import adapters, anatomy, encoding, loading
from liit.engine.models.anatomy import unwrapped
from liit.engine.training.plan import Plan, dropout_seed
from liit.engine.training.samples import TrainingSamples, read_ahead
from liit.engine.training.side_by_side import layout
from liit.engine.training.step import Built, Step

SEED = 0
RATE = 2e-4
CONTEXT = 4096


@dataclass(frozen=True)
class Task:
    """What everyone trains: a model's folder, the file of its rows, and how."""

    model: Path
    rows: Path
    rank: int
    batch: int
    """Samples of an optimizer step."""
    dropout: float = 0.05
    device: str = "cpu"
    dtype: str = "float32"
    checkpointing: bool = False

    def processor(self) -> Any:
        return loading.load_processor(str(self.model))

    def plan(self, **sizes: int) -> Plan:
        rows = Rows(self.rows)
        return Plan(rows.lengths_N, rows.pictured_N, SEED, 1, self.batch, **sizes)

    def in_order(self) -> list[encoding.Encoded]:
        """All samples, encoded, as the steps take them."""
        rows, processor, plan = Rows(self.rows), self.processor(), self.plan(micro_batch_size=1)
        order = np.concatenate([plan.batch(step) for step in range(plan.steps)])
        made = []
        for row in (rows[int(at)] for at in order):
            images = [open_image(image) for image in row["images"] or []]
            made.append(encoding.encode(processor, row["conversation"], images, CONTEXT))
        return made

    def adapted(self) -> Any:
        """The model with a fresh LoRA on every linear of its decoder, the same every time."""
        model = adapters.add_lora(
            loading.load_model(str(self.model), dtype=self.dtype),
            r=self.rank,
            alpha=2 * self.rank,
            dropout=self.dropout,
            targets=(),
            projector=False,
            seed=SEED,
        )
        return model.to(self.device)


def drop(model: nn.Module, share: float) -> None:
    """Set the dropout of all LoRA linears."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout) and ".lora_dropout." in name:
            module.p = share


class Ours:
    """LiIT's loop around a DeepSpeed engine in this process, or around a plain one where DeepSpeed is not."""

    def __init__(self, task: Task, deepspeed: bool, zero_stage: int = 2, **sizes: int) -> None:
        self.samples = TrainingSamples(str(task.rows), task.processor(), CONTEXT)
        self.plan = task.plan(**sizes)
        built = self._deepspeed(task, zero_stage, sizes) if deepspeed else self._plain(task)
        self.model, self.step = built.engine.module, Step(built, [])
        self.laid = layout(self.model, self.samples)

    def run(self) -> list[float]:
        losses = []
        for number, batches in enumerate(read_ahead(self.samples, self.plan, 0, self.laid)):
            torch.manual_seed(dropout_seed(SEED, number, 0))
            losses.append(self.step(batches, [RATE]).loss)
        return losses

    def _deepspeed(self, task: Task, zero_stage: int, sizes: dict[str, int]) -> Built:
        os.environ["DS_ACCELERATOR"] = "cpu" if task.device == "cpu" else "cuda"
        from liit.engine.settings.sections import Model
        from liit.engine.settings.training import Lora, Training
        from liit.engine.training import zero
        from liit.engine.training.job import TrainJob

        training = Training(
            lora=Lora(r=task.rank, alpha=2 * task.rank, dropout=task.dropout),
            batch_size=task.batch,
            learning_rate=RATE,
            gradient_checkpointing=task.checkpointing,
            zero_stage=zero_stage,
            **sizes,
        )
        model = Model(path=str(task.model), dtype=task.dtype, max_length=CONTEXT)
        gpus = 0 if task.device == "cpu" else 1
        os.environ["LOCAL_RANK"] = "0"
        try:
            return zero.build(TrainJob(model, training, SEED, str(task.rows), None, "/", "one", "/", gpus=gpus))
        finally:
            del os.environ["LOCAL_RANK"]  # or both peers wrap their models for several processes

    def _plain(self, task: Task) -> Built:
        model = task.adapted()
        adapters.lean(model)
        if task.checkpointing:
            model.get_base_model().gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return Built(PlainEngine(model.train(), RATE, task.device), [RATE], PlainEngine.finish)


class Without(Ours):
    """LiIT's loop with one of its measures left out."""

    MEASURES = ("side by side", "lean LoRA", "few rows")

    def __init__(self, measure: str, task: Task, deepspeed: bool, **sizes: int) -> None:
        super().__init__(task, deepspeed, **sizes)
        self.measure = measure
        if measure == "side by side":
            self.laid = dict
            unwrapped(self.model).get_decoder().config._attn_implementation = "sdpa"
        elif measure == "lean LoRA":
            for module in self.model.modules():
                if isinstance(module, LoraLinear):
                    vars(module).pop("forward", None)

    def run(self) -> list[float]:
        if self.measure != "few rows":
            return super().run()
        with patch.object(anatomy, "mlp_at", lambda *_: nullcontext()):
            return super().run()


class Listed(torch.utils.data.Dataset[encoding.Encoded]):
    def __init__(self, samples: Sequence[encoding.Encoded]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, at: int) -> encoding.Encoded:
        return self.samples[at]


class Theirs:
    """`transformers.Trainer`, `micro` samples per forward."""

    def __init__(self, task: Task, micro: int) -> None:
        self.model, self.pad = task.adapted(), encoding.pad_id_of(task.processor())
        self.model.enable_input_require_grads() if task.checkpointing else None
        for weight in self.model.parameters():
            weight.data = weight.data.float() if weight.requires_grad else weight.data
        self.trainer = self.made(task, micro)
        self.trainer.remove_callback(PrinterCallback)

    def made(self, task: Task, micro: int) -> Trainer:
        arguments = TrainingArguments(**settings(task, micro), remove_unused_columns=False)
        data = Listed(task.in_order())
        return Trainer(self.model, arguments, train_dataset=data, data_collator=self.collate)

    def collate(self, samples: Sequence[encoding.Encoded]) -> dict[str, torch.Tensor]:
        batch = dict(encoding.collate(samples, self.pad))
        return batch | {"labels": batch["input_ids"].masked_fill(~batch.pop("response"), -100)}

    def run(self) -> list[float]:
        self.trainer.train()
        return [float(line["loss"]) for line in self.trainer.state.log_history if "loss" in line]


class TheirSft(Theirs):
    """TRL's `SFTTrainer`: with its own collator for a language model, whose samples it packs into rows of `packed` tokens."""

    def __init__(self, task: Task, micro: int, packed: int = 0) -> None:
        self.packed = packed
        super().__init__(task, micro)

    def made(self, task: Task, micro: int) -> Trainer:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        processor, encoded = task.processor(), task.in_order()
        self.encoded = encoded
        if hasattr(processor, "image_processor"):
            options = {"remove_unused_columns": False, "dataset_kwargs": {"skip_prepare_dataset": True}}
            arguments = SFTConfig(**settings(task, micro), **options, max_length=None)  # type: ignore[arg-type]
            data = Dataset.from_dict({"row": list(range(len(encoded)))})
            return SFTTrainer(
                self.model, arguments, train_dataset=data, processing_class=processor, data_collator=self.by_row
            )
        ids = [one.input_ids.tolist() for one in encoded]
        labels = [one.input_ids.masked_fill(~one.response, -100).tolist() for one in encoded]
        sizes = settings(task, micro)
        if self.packed:
            tokens = task.batch * sum(map(len, ids)) / len(ids)
            sizes |= {
                "per_device_train_batch_size": 1,
                "gradient_accumulation_steps": max(1, round(tokens / self.packed)),
            }
        arguments = SFTConfig(
            **sizes, packing=self.packed > 0, max_length=self.packed or CONTEXT, dataset_num_proc=None
        )
        data = Dataset.from_dict({"input_ids": ids, "labels": labels})
        return SFTTrainer(self.model, arguments, train_dataset=data, processing_class=processor)

    def by_row(self, rows: Sequence[dict[str, int]]) -> dict[str, torch.Tensor]:
        return self.collate([self.encoded[row["row"]] for row in rows])


def settings(task: Task, micro: int) -> dict[str, Any]:
    """What both trainers are told: AdamW at a constant rate, the global batch by accumulation, samples in the order given."""
    return {
        "output_dir": tempfile.mkdtemp(prefix="trainer-"),
        "per_device_train_batch_size": micro,
        "gradient_accumulation_steps": task.batch // micro,
        "num_train_epochs": 1,
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": task.dtype == "bfloat16",
        "gradient_checkpointing": task.checkpointing,
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        "train_sampling_strategy": "sequential",
        "use_cpu": task.device == "cpu",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
