"""A run whose adapters are made up: the tables of a real one, an adapter of random weights, and what its model answers."""

import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

from liit.engine.data.digits.evaluation import SETS
from liit.engine.data.digits.samples import held_out
from liit.engine.data.digits.stream import write_samples
from liit.engine.evaluation.answering import Answerer
from liit.engine.models import adapters, loading
from liit.engine.run.files import read_json
from liit.engine.training.state import _write_adapter

RUN = Path(__file__).resolve().parents[1] / "run" / "rules_1"
NEW_TOKENS = 12


def made_up_run(folder: Path, model: str = "digits-base", scale: float = 0.03, **changes: Any) -> Path:
    """A finished run of three timesteps in `folder`, whose adapters t1 and t2 are of `model`.

    scale: of the weights of B, which a fresh adapter has at zero. changes: keys of the configuration, with `__` for the dot.
    """
    shutil.copytree(RUN, folder)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["output"] = str(folder)
    config["model"] |= {"path": model, "max_length": 400}
    config["training"]["lora"] |= {"r": 4, "alpha": 8.0, "targets": []}
    for key, value in changes.items():
        section, _, name = key.partition("__")
        config[section][name] = value
    first = (folder / "config.yaml").read_text().split("\n", 1)[0]
    (folder / "config.yaml").write_text(f"{first}\n{yaml.safe_dump(config, sort_keys=False)}")
    for t in (1, 2):
        shutil.rmtree(folder / f"t0{t}" / "adapter")
        rate = config["training"]["projector_learning_rate"]
        write_adapter(folder / f"t0{t}" / "adapter", model, scale, seed=t, projector=rate is not None)
    return folder


def write_adapter(
    folder: Path, model: str, scale: float, seed: int, projector: bool = False, of: str = "language"
) -> None:
    """An adapter as training saves it, its weights random; with `projector`, that is trained too."""
    made = adapters.add_lora(
        loading.load_model(model), r=4, alpha=8, dropout=0.0, targets=(), projector=projector, seed=seed, of=of
    )
    draw = torch.Generator().manual_seed(seed)
    weights = {
        name: parameter.detach() + scale * torch.randn(parameter.shape, generator=draw)
        for name, parameter in made.named_parameters()
        if parameter.requires_grad
    }
    folder.mkdir(parents=True)
    _write_adapter(made, weights, weights, folder)
    (folder / "training.json").write_text("{}")


def change(adapter: Path, **tensors: torch.Tensor) -> None:
    """Put other tensors into an adapter's file, by the ends of their names with `__` for dots."""
    file = adapter / "adapter_model.safetensors"
    held = load_file(file)
    for end, tensor in tensors.items():
        name = next(one for one in held if one.endswith(end.replace("__", ".")))
        held[name] = tensor
    save_file(held, file)


def naive(base: Any, adapter: Path) -> dict[str, torch.Tensor]:
    """The oracle of merging: by parameter name W + s B A, and trained copies, in float32, from the file alone."""
    settings, held = read_json(adapter / "adapter_config.json"), load_file(adapter / "adapter_model.safetensors")
    weights = {name: parameter.detach().float() for name, parameter in base.named_parameters()}
    for name, tensor in held.items():
        of = name.removeprefix("base_model.model.")
        if ".lora_A." in name:
            b = held[name.replace("lora_A", "lora_B")]
            of = of.replace("lora_A.", "")
            weights[of] = weights[of] + settings["lora_alpha"] / settings["r"] * (b @ tensor)
        elif ".lora_B." not in name:
            weights[of] = tensor
    return weights


def questions(folder: Path, of_each: int) -> list[dict[str, Any]]:
    """SAMPLE rows of the embedded stream's evaluation sets, their images drawn into `folder`."""
    rows = []
    for one in SETS:
        made = [held_out(one.tasks[at % len(one.tasks)], one.name, "evaluation", 0, at) for at in range(of_each)]
        write_samples(folder, folder / f"{one.name}.json", made)
        rows += [_sample(sample.row, folder) for sample in made]
    return rows


def _sample(row: dict[str, Any], folder: Path) -> dict[str, Any]:
    roles = {"human": "user", "gpt": "assistant"}
    turns = [{"role": roles[turn["from"]], "text": turn["value"]} for turn in row["conversations"]]
    images = row.get("image", [])
    images = [images] if isinstance(images, str) else images
    return {
        "id": row["id"],
        "conversation": turns,
        "images": [{"path": str(folder / image), "bytes": None} for image in images],
    }


def answers(run: Path, t: int, asked: list[dict[str, Any]]) -> list[str]:
    """What the model of the run's timestep answers, as evaluation has it; of t0 the base model."""
    model = yaml.safe_load((run / "config.yaml").read_text())["model"]
    told = {name: model[name] for name in ("path", "revision", "dtype", "attention")}
    adapter = str(run / f"t0{t}" / "adapter") if t else None
    one = Answerer(told, adapter, model["max_length"], {"": NEW_TOKENS})
    rows = [{**row, "dataset": ""} for row in asked]
    return [text for at in range(0, len(rows), 16) for text in one.answer(rows[at : at + 16])]
