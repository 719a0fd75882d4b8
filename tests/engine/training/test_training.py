"""Training through Ray Train and DeepSpeed equals a naive loop in plain torch, and is not disturbed by kills."""

import json
import math
import shutil
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import ray.train
import torch
from peft import PeftModel
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from liit.engine.data.readers.images import open_image
from liit.engine.data.rows import Rows, write_rows
from liit.engine.holding.anchoring import adapter_weights
from liit.engine.models import adapters, encoding, loading
from liit.engine.models.adapters import with_adapters
from liit.engine.run.tables import SAMPLE, key_of
from liit.engine.settings.sections import Model
from liit.engine.settings.training import Experts, Lora, Regulariser, Training
from liit.engine.training import ray_train
from liit.engine.training.job import TrainJob
from liit.engine.training.ray_train import train
from tests.engine.training.training_extras import add_bias, shrink

pytestmark = [
    pytest.mark.usefixtures("ray_cluster"),
    # 2026-11, Ray 2.60: copying its own DataContext warns of options that nobody has set
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\."),
    # 2026-11, peft 0.21 with transformers 5.23
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]
needs_float16 = pytest.mark.skipif(
    not torch.ops.mkldnn._is_mkldnn_fp16_supported(),
    reason="this processor has no float16 that DeepSpeed would train in",
)
EXTRAS = "tests.engine.training.training_extras"
RATES = (1e-2, 2e-3)


def write_samples(path: Path, n: int, *, images: bool) -> str:
    """n samples with answers of different lengths, some with an image; not in the order of their keys."""
    generator = np.random.default_rng(n)
    rows: list[dict[str, Any]] = []
    for number in range(n):
        drawn = []
        if images and number % 5 < 2:
            stream = BytesIO()
            Image.fromarray(generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(stream, "PNG")
            drawn = [{"path": None, "bytes": stream.getvalue()}]
        question = "<image>" * len(drawn) + "q" * int(generator.integers(1, 9))
        turns = [("user", question), ("assistant", "ab" * int(generator.integers(1, 7)))]
        rows.append(
            {
                "id": f"d/{number}",
                "key": key_of(f"d/{number}"),
                "dataset": "d",
                "arrival": 1,
                "conversation": [{"role": role, "text": text} for role, text in turns],
                "images": drawn,
                "length": len(question) + 30,
            }
        )
    write_rows(path, [pa.Table.from_pylist(rows, schema=SAMPLE)])
    return str(path)


def job_of(tmp_path: Path, model: str, **changes: Any) -> TrainJob:
    """21 samples in batches of 8: two epochs of three steps, the third of 5 samples."""
    parent = changes.pop("parent", None)
    name, importances = changes.pop("name", "run"), changes.pop("importances", ())
    images = changes.get("projector_learning_rate") is not None
    settings: dict[str, Any] = {
        "lora": Lora(r=4, alpha=8, dropout=changes.pop("dropout", 0.0)),
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": RATES[0],
        "weight_decay": 0.01,
        "warmup": 0.2,
        "checkpoint_every": 2,
    }
    return TrainJob(
        model=Model(path=model),
        training=Training(**(settings | changes)),
        seed=5,
        samples=write_samples(tmp_path / "samples.arrow", 21, images=images),
        parent=parent,
        output=str(tmp_path / f"adapter-{name}"),
        name=name,
        storage=str(tmp_path / "ray"),
        importances=importances,
    )


def naive(job: TrainJob) -> tuple[list[float], nn.Module]:
    """The same training in plain torch: one sample per forward, the sum over the batch, one AdamW step."""
    settings, lora = job.training, job.training.lora
    processor = loading.load_processor(job.model.path)
    samples = Rows(Path(job.samples))
    rows = [samples[at] for at in range(len(samples))]
    projector = settings.projector_learning_rate
    model = loading.load_model(job.model.path, adapter=job.parent, trainable=True)
    if job.parent is None:
        model = adapters.add_lora(
            model, r=lora.r, alpha=lora.alpha, dropout=0, targets=(), projector=projector is not None, seed=job.seed
        )
    biased = f"{EXTRAS}:add_bias" in settings.modules
    if biased:
        add_bias(model)
    if biased and job.parent:
        model.load_state_dict(load_file(Path(job.parent) / "modules.safetensors"), strict=False)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    held = Held(job, trained)
    groups: list[dict[str, Any]] = [
        {"params": [weight for name, weight in trained.items() if "modules_to_save" not in name], "peak": RATES[0]},
        {"params": [weight for name, weight in trained.items() if "modules_to_save" in name], "peak": projector},
    ]
    optimizer = torch.optim.AdamW(groups[: 1 if projector is None else 2], weight_decay=settings.weight_decay)
    losses: list[float] = []
    for epoch in range(settings.epochs):
        order = np.random.default_rng([job.seed, epoch]).permutation(len(rows))
        for start in range(0, len(rows), settings.batch_size):
            total, tokens = torch.zeros(()), 0
            for row in (rows[index] for index in order[start : start + settings.batch_size]):
                images = [open_image(image) for image in row["images"]]
                one = encoding.encode(processor, row["conversation"], images, 512)
                logits = model(input_ids=one.input_ids[None], **one.extras).logits[0]
                total = total + held.divergence(one, logits)
                for position in one.response.nonzero().flatten().tolist():
                    total = total - logits[position - 1].log_softmax(-1)[one.input_ids[position]]
                    tokens += 1
            loss = total / tokens
            losses.append(loss.item() - held.diverged / tokens)
            held.diverged = 0.0
            loss = loss + held.penalty()
            (loss + shrink(model) if f"{EXTRAS}:shrink" in settings.penalties else loss).backward()
            torch.nn.utils.clip_grad_norm_(trained.values(), settings.gradient_clip)
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * (0.5, 1, 1, 0.8535533906, 0.5, 0.1464466094)[len(losses) - 1]
            optimizer.step()
            optimizer.zero_grad()
    return losses, model


class Held:
    """EWC's penalty and LwF's divergence, written out: nothing where the job has no regulariser."""

    def __init__(self, job: TrainJob, trained: dict[str, torch.nn.Parameter]) -> None:
        rule = job.training.regulariser
        self.kind: str | None = rule.kind if rule else None
        self.strength = rule.strength if rule else 0.0
        self.trained, self.diverged = trained, 0.0
        self.before = {name: weight.detach().clone() for name, weight in trained.items()}
        self.teacher = loading.load_model(job.model.path, adapter=job.parent)
        tasks = [(load_file(file), weight) for file, weight in job.importances]
        means = [torch.cat([values.flatten() for values in one.values()]).mean() for one, _ in tasks]
        names = tasks[0][0] if tasks else ()
        scaled = {name: [one[name] / mean for (one, _), mean in zip(tasks, means, strict=True)] for name in names}
        whole = torch.cat([torch.stack(of).amax(0).flatten() for of in scaled.values()]).mean() if tasks else 1.0
        self.importance = {
            name: torch.stack([weight * values for (_, weight), values in zip(tasks, of, strict=True)]).amax(0) / whole
            for name, of in scaled.items()
        }

    def penalty(self) -> torch.Tensor:
        total = torch.zeros(())
        for name, weight in self.trained.items():
            if self.importance:
                importance = self.importance[name.removesuffix(".default.weight").partition("language_model.")[2]]
                total = total + 0.5 * self.strength * (importance * (weight - self.before[name]) ** 2).sum()
        return total

    def divergence(self, one: encoding.Encoded, logits: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(())
        if self.kind == "lwf":
            with torch.no_grad():
                teacher = self.teacher(input_ids=one.input_ids[None], **one.extras).logits[0].softmax(-1)
            for position in one.response.nonzero().flatten().tolist():
                p, q = teacher[position - 1], logits[position - 1].softmax(-1)
                total = total + self.strength * (p * (p / q).log()).sum()
        self.diverged += total.item()
        return total


def history(job: TrainJob) -> dict[str, Any]:
    return json.loads((Path(job.output) / "training.json").read_text())


def assert_same_training(job: TrainJob, tolerance: float = 1e-4) -> None:
    """Loss curve, adapter (as PeftModel loads it) and second moments equal those of the naive loop."""
    losses, expected = naive(job)
    np.testing.assert_allclose(history(job)["losses"], losses, rtol=1e-5)
    assert history(job)["side_by_side"]
    loaded = PeftModel.from_pretrained(loading.load_model(job.model.path), job.output)
    found = dict(loaded.named_parameters())
    trained = {name: weight for name, weight in expected.named_parameters() if weight.requires_grad}
    moments = load_file(Path(job.output) / "moments.safetensors")
    extra = [name for name in trained if name.endswith("norm.extra")]
    assert len(moments) == len(trained) - len(extra)
    assert moments.keys() == load_file(Path(job.output) / "adapter_model.safetensors").keys()
    for name, weight in trained.items():
        if name not in extra:
            torch.testing.assert_close(found[name].detach(), weight.detach(), rtol=tolerance, atol=tolerance)
    if extra:
        saved = load_file(Path(job.output) / "modules.safetensors")
        assert list(saved) == extra
        torch.testing.assert_close(saved[extra[0]], trained[extra[0]].detach(), rtol=tolerance, atol=tolerance)


def private_copy(model: str, tmp_path: Path, *files: str) -> str:
    folder = shutil.copytree(model, tmp_path / "model")
    for file in files:
        (folder / file).touch()
    return str(folder)


def test_zero_2_on_two_workers_dies_resumes_and_equals_the_naive_loop(
    tiny_llava: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_train, "MAX_FAILURES", 0)
    model = private_copy(tiny_llava, tmp_path)
    penalties = (f"{EXTRAS}:die_in_fifth_step",)
    job = job_of(tmp_path, model, workers=2, micro_batch_size=2, projector_learning_rate=RATES[1], penalties=penalties)
    seen: list[int] = []
    with pytest.raises(ray.train.TrainingFailedError):
        train(job, lambda step, steps, loss: seen.append(step))
    assert seen == [1, 2, 3, 4]
    assert not Path(job.output).exists()
    shards = list(job.folder.glob("checkpoint_*/*/*optim_states.pt"))
    assert shards
    for checkpoint in {file.parent for file in shards}:
        small, large = sorted(file.stat().st_size for file in shards if file.parent == checkpoint)  # one of each rank
        assert small > 0.9 * large, "the ranks must share the optimizer state evenly"

    (Path(model) / "survive").touch()
    train(job, lambda step, steps, loss: seen.append(step))
    assert seen[4:] in ([5, 6], [3, 4, 5, 6]), "it must continue from a checkpoint"
    assert not job.folder.exists()
    files = {"adapter_config.json", "adapter_model.safetensors", "moments.safetensors", "training.json"}
    assert {file.name for file in Path(job.output).iterdir()} == files
    assert_same_training(job)
    train(job, lambda step, steps, loss: pytest.fail("a finished training must not run again"))


@pytest.mark.long
def test_zero_3_on_two_workers_dies_resumes_and_equals_the_naive_loop(tiny_llava: str, tmp_path: Path) -> None:
    job = job_of(
        tmp_path,
        private_copy(tiny_llava, tmp_path, "once"),
        modules=(f"{EXTRAS}:die_in_fifth_forward",),
        checkpoint_every=1,
        workers=2,
        micro_batch_size=3,
        projector_learning_rate=RATES[1],
        zero_stage=3,
        gradient_checkpointing=True,
    )
    seen: list[int] = []
    train(job, lambda step, steps, loss: seen.append(step))
    assert (Path(job.model.path) / "survive").exists(), "no worker was killed"
    assert seen.count(1) == 1, "it must continue from a checkpoint"
    assert_same_training(job)


def test_penalties_and_modules_are_trained_and_continued_by_the_next_timestep(tiny_llama: str, tmp_path: Path) -> None:
    extras = {"penalties": (f"{EXTRAS}:shrink",), "modules": (f"{EXTRAS}:add_bias",), "zero_stage": 0}
    first = job_of(tmp_path, tiny_llama, micro_batch_size=8, name="first", **extras)
    train(first, lambda step, steps, loss: None)
    assert_same_training(first)
    second = job_of(tmp_path, tiny_llama, micro_batch_size=3, name="second", parent=first.output, **extras)
    train(second, lambda step, steps, loss: None)
    assert_same_training(second)
    assert history(second)["losses"][0] < history(first)["losses"][0]


def test_on_quantised_weights_it_is_the_naive_loop_on_what_they_stand_for(
    tiny_llava: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """QLoRA: the decoder's linears are NF4, all else is as it was; EWC finds its weights too."""
    functional = pytest.importorskip("bitsandbytes.functional")
    job = anchored_job(tmp_path, tiny_llava, "quantised", quantised=4)
    train(job, lambda step, steps, loss: None)
    whole = loading.load_model

    def rounded(path: str, **told: Any) -> nn.Module:
        model = whole(path, **told)
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and ".language_model.layers." in name and "lora_" not in name:
                packed, state = functional.quantize_4bit(module.weight.data, quant_type="nf4", compress_statistics=True)
                module.weight.data = functional.dequantize_4bit(packed, state)
        return model

    before = history(job)["losses"][0]
    monkeypatch.setattr(loading, "load_model", rounded)
    assert_same_training(job)
    monkeypatch.undo()
    assert abs(naive(job)[0][0] - before) > 1e-3, "weights were rounded"


def test_ray_train_starts_no_process_that_has_nothing_to_do(tiny_llama: str, tmp_path: Path) -> None:
    train(job_of(tmp_path, tiny_llama, name="one", epochs=1), lambda step, steps, loss: None)
    started = {actor["ActorClassName"] for actor in ray._private.state.actors().values()}
    assert "TrainController" in started
    assert not started & {"DatasetManager", "PlacementGroupCleaner"}


def write_importance(path: Path, model: str, seed: int) -> str:
    """Of every weight of a fresh LoRA, drawn at random."""
    chance = torch.Generator().manual_seed(seed)
    lora = adapters.add_lora(loading.load_model(model), r=4, alpha=8, dropout=0, targets=(), projector=False, seed=0)
    weights = adapter_weights(lora)
    save_file({name: torch.rand(weight.shape, generator=chance) ** 4 for name, (_, weight) in weights.items()}, path)
    return str(path)


def anchored_job(folder: Path, model: str, name: str, **changes: Any) -> TrainJob:
    """By EWC to two tasks, on two workers."""
    old = tuple((write_importance(folder / f"{seed}", model, seed), weight) for seed, weight in ((0, 1.0), (1, 0.4)))
    rule = Regulariser(kind="ewc", strength=0.3)
    return job_of(folder, model, workers=2, micro_batch_size=2, regulariser=rule, importances=old, name=name, **changes)


def test_held_to_what_was_learned_equals_the_naive_loop(tiny_llava: str, tmp_path: Path) -> None:
    """EWC at a first timestep, LwF at a later one; the penalty is told, and does hold the weights."""
    first = anchored_job(tmp_path, tiny_llava, "first")
    train(first, lambda step, steps, loss: None)
    assert_same_training(first)
    assert history(first)["penalties"][0] == 0
    assert min(history(first)["penalties"][1:]) > 0
    lwf = Regulariser(kind="lwf", strength=0.3)
    taught = job_of(tmp_path, tiny_llava, zero_stage=3, regulariser=lwf, parent=first.output, name="taught")
    train(taught, lambda step, steps, loss: None)
    assert_same_training(taught)
    assert {path.name for path in Path(taught.output).iterdir()} == {path.name for path in Path(first.output).iterdir()}
    assert max(history(taught)["penalties"]) > 0


@pytest.mark.long
def test_held_under_zero_3_with_recomputation_equals_the_naive_loop(tiny_llava: str, tmp_path: Path) -> None:
    first = anchored_job(tmp_path, tiny_llava, "first")
    train(first, lambda step, steps, loss: None)
    second = anchored_job(
        tmp_path, tiny_llava, "second", zero_stage=3, gradient_checkpointing=True, parent=first.output
    )
    train(second, lambda step, steps, loss: None)
    assert_same_training(second)


def test_an_expert_of_the_projector_is_trained_and_text_leaves_it_alone(tiny_llava: str, tmp_path: Path) -> None:
    experts = {"experts": Experts(of="projector"), "micro_batch_size": 1}
    text = job_of(tmp_path, tiny_llava, name="text", **experts)
    train(text, lambda step, steps, loss: None)
    weights = load_file(Path(text.output) / "adapter_model.safetensors")
    assert len(weights) == 4, "two linears, A and B of each"
    assert all("multi_modal_projector" in name for name in weights)
    assert not any(weight.any() for name, weight in weights.items() if "lora_B" in name)
    images = replace(
        text,
        samples=write_samples(tmp_path / "images.parquet", 21, images=True),
        name="images",
        output=f"{text.output}-images",
    )
    train(images, lambda step, steps, loss: None)
    trained = load_file(Path(images.output) / "adapter_model.safetensors")
    assert all(weight.any() for weight in trained.values())
    model = with_adapters(loading.load_model(tiny_llava), {"one": images.output})
    loaded = {name for name, _ in model.named_parameters() if ".one." in name}
    assert len(loaded) == 4


@pytest.mark.faults
def test_a_killed_worker_leaves_no_trace_in_the_adapter_even_with_dropout(tiny_llava: str, tmp_path: Path) -> None:
    adapters = []
    for name, files in {"undisturbed": ("survive",), "killed": ("once",)}.items():
        (tmp_path / name).mkdir()
        model = private_copy(tiny_llava, tmp_path / name, *files)
        penalties = (f"{EXTRAS}:die_in_fifth_step",)
        job = job_of(
            tmp_path / name, model, dropout=0.3, penalties=penalties, projector_learning_rate=RATES[1], name=name
        )
        seen: list[int] = []
        train(job, lambda step, steps, loss, seen=seen: seen.append(step))  # type: ignore[misc]
        assert seen.count(1) == 1, "it must continue from a checkpoint"
        assert all(math.isfinite(loss) for loss in history(job)["losses"])
        adapters.append((history(job)["losses"], load_file(Path(job.output) / "adapter_model.safetensors")))
    assert (tmp_path / "killed" / "model" / "survive").exists(), "no worker was killed"
    assert adapters[0][0] == adapters[1][0]
    for name, weight in adapters[0][1].items():
        assert torch.equal(weight, adapters[1][1][name]), name


def test_a_relative_path_is_refused(tiny_llama: str, tmp_path: Path) -> None:
    job = TrainJob(Model(path=tiny_llama), Training(), 0, "samples.arrow", None, "/o", "n", str(tmp_path))
    with pytest.raises(ValueError, match=r"TrainJob\.samples='samples\.arrow' must be absolute"):
        train(job, lambda step, steps, loss: None)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("bfloat16", 0.0), pytest.param("float16", 1e-4, marks=[pytest.mark.long, needs_float16])]
)
def test_half_precision_adds_gradients_in_float32(
    tiny_llava: str, tmp_path: Path, dtype: str, tolerance: float
) -> None:
    """32 copies of a sample, a micro-batch each, are one step of that sample alone: each gradient is a 32nd of its, exactly, and
    so is the sum, but where it is rounded to eight bits after every addition."""
    moments = []
    for count in (1, 32):
        job = job_of(tmp_path, tiny_llava, name=f"x{count}", batch_size=32, micro_batch_size=1, epochs=1, zero_stage=2)
        job = replace(job, model=Model(path=tiny_llava, dtype=dtype), samples=str(tmp_path / f"{count}.arrow"))
        row = Rows(tmp_path / "samples.arrow")[0]
        copies = [{**row, "id": f"d/{at}", "key": key_of(f"d/{at}")} for at in range(count)]
        write_rows(Path(job.samples), [pa.Table.from_pylist(copies, schema=SAMPLE)])
        train(job, lambda step, steps, loss: None)
        moments.append(load_file(Path(job.output) / "moments.safetensors"))
        assert np.isfinite(history(job)["losses"]).all()
    alone, together = moments
    assert max(float(value.max()) for value in alone.values()) > 0
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, rtol=tolerance, atol=tolerance * float(value.max()))
