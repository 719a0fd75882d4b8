"""The model card, README.md: from what, on what, how well, with what, and how to load it; all of it read from the run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from liit.engine.evaluation.merging import Cast
from liit.engine.handing import card_tables
from liit.engine.handing.licence import licence_of
from liit.engine.handing.paths import without_paths
from liit.engine.handing.source import Source

SETTINGS = ("seed", "strategy", "scoring", "clustering", "pool", "training", "tasks")
"""Sections of the configuration that a model depends on; `model` comes without its path."""

WITHDRAWN = {"withdrawn", "withdrawals"}
"""Settings of `pool` that name samples which may be used no more, and why: nobody else's business."""


@dataclass(frozen=True)
class Facts:
    """What the folder is, beside what the run says."""

    vision: bool
    """Whether the model reads images."""
    merged: bool = False
    cast: Cast | None = None
    served: tuple[str, ...] = ()
    """What servers would make of an adapter."""
    experts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The tasks of each expert that has an adapter."""


def write_card(of: Source, facts: Facts, folder: Path) -> None:
    """Write README.md to `folder`."""
    licence = licence_of(of)
    parts = [
        _head(of, facts, licence),
        f"# {of.config.name}, timestep {of.t}\n",
        _opening(of, facts, licence),
        "## Loading it\n",
        _loading(of, facts),
        "## What it was taught\n",
        card_tables.releases(of.run, of.t),
        _budget(of),
        "## How well it does\n",
        card_tables.accuracy(of.run, of.t),
        *(["## In a server\n", _served(facts)] if not facts.merged else ["## What merging did\n", _cast(facts.cast)]),
        "## Settings and versions\n",
        _settings(of),
        card_tables.versions(of.run, of.t),
    ]
    (folder / "README.md").write_text("\n".join(parts), encoding="utf-8")


def _head(of: Source, facts: Facts, licence: str | None) -> str:
    """What the hub reads."""
    said: dict[str, Any] = {
        **(
            {"base_model": of.named, "base_model_relation": "finetune" if facts.merged else "adapter"}
            if of.named
            else {}
        ),
        "library_name": "transformers" if facts.merged else "peft",
        "pipeline_tag": "image-text-to-text" if facts.vision else "text-generation",
        **({"license": licence} if licence else {}),
        "tags": ["liit", "lifelong-instruction-tuning", *([] if facts.merged else ["lora"])],
    }
    return f"---\n{yaml.safe_dump(said, sort_keys=False)}---\n"


def _opening(of: Source, facts: Facts, licence: str | None) -> str:
    what = "Weights" if facts.merged else f"{len(facts.experts)} LoRA adapters" if facts.experts else "A LoRA adapter"
    known = f"its licence is {licence}" if licence else "its licence is not known here: ask whoever published it"
    return (
        f"{what} of `{of.called}` ({known}), taught with [LiIT](https://arxiv.org/abs/2410.10636) what it selected of "
        f"{of.t} release{'s' if of.t > 1 else ''} of instruction data.\n"
    )


def _loading(of: Source, facts: Facts) -> str:
    auto = "AutoModelForImageTextToText" if facts.vision else "AutoModelForCausalLM"
    reader = "AutoProcessor" if facts.vision else "AutoTokenizer"
    lines = [f"from transformers import {auto}, {reader}{'' if facts.merged else ', GenerationConfig'}"]
    if facts.merged:
        lines += [f'model = {auto}.from_pretrained(FOLDER, dtype="auto")']
    else:
        revision = f', revision="{of.revision}"' if of.revision else ""
        lines += [
            "from peft import PeftModel",
            "",
            f'base = {auto}.from_pretrained("{of.named}"{revision}, dtype="{of.config.model.dtype}")',
        ]
        names = list(facts.experts)
        if names:
            lines += [f'model = PeftModel.from_pretrained(base, FOLDER, "{names[0]}", subfolder="{names[0]}")']
            lines += [f'model.load_adapter(FOLDER, "{name}", subfolder="{name}")' for name in names[1:]]
            lines += [f'model.set_adapter("{names[0]}")  # or another; without one it is the base']
        else:
            lines += ["model = PeftModel.from_pretrained(base, FOLDER)"]
        lines += ["model.generation_config = GenerationConfig.from_pretrained(FOLDER)"]
    lines += [f"processor = {reader}.from_pretrained(FOLDER)  # with the chat template that it was taught with"]
    text = "```python\n" + "\n".join(lines) + "\n```\n"
    if facts.experts:
        rows = "\n".join(f"- `{name}`: {', '.join(tasks)}" for name, tasks in facts.experts.items())
        text += (
            f"\nEach sample has its own expert, by what it looks like: `keys.safetensors` and `experts.json` say which, and "
            f"LiIT's `RoutedModel(FOLDER)` reads them. They were taught:\n\n{rows}\n"
        )
    return text


def _budget(of: Source) -> str:
    said = of.config.at(of.t).strategy
    limit = (
        f"{said.budget:,} {said.unit} a timestep" if said.lifetime is None else f"{said.lifetime:,} {said.unit} in all"
    )
    pool = f", pool pruned to {said.pool_budget:,} samples" if said.pool_budget else ""
    epochs = of.config.at(of.t).training.epochs
    passes = "once" if epochs == 1 else f"{epochs} times"
    since = ", ".join(f"t{step}" for step in _changes(of))
    before = f" So it is at t{of.t}: other settings hold since {since}, which are listed below." if since else ""
    return f"Strategy `{said.name}`, budget {limit}{pool}; what was selected was trained on {passes}.{before}\n"


def _changes(of: Source) -> dict[int, dict[str, Any]]:
    """Settings that hold from a timestep on, which is not after this one."""
    return {step: told for step, told in of.config.from_.items() if step <= of.t}


def _served(facts: Facts) -> str:
    if not facts.served:
        return "By its names and settings vLLM and SGLang serve the adapter as it is.\n"
    return (
        "What vLLM and SGLang have to be told, or leave out:\n\n" + "\n".join(f"- {one}" for one in facts.served) + "\n"
    )


def _cast(cast: Cast | None) -> str:
    if cast is None or cast.dtype == "float32":
        return "The adapter was added to the weights in float32, which they are stored in.\n"
    return (
        f"The adapter was added in float32 and the sum cast to {cast.dtype}, which the base is stored in. Of {cast.updated:,} "
        f"updated weights the cast brings {cast.lost_share:.1%} back to what they were; in the tensor that it does most to, "
        f"`{cast.where}`, it adds {cast.error:.1%} of the update's norm.\n"
    )


def _settings(of: Source) -> str:
    model = of.config.model.model_dump(mode="json", exclude={"path"})
    said = {"model": model} | of.config.model_dump(mode="json", include=set(SETTINGS), exclude={"pool": WITHDRAWN})
    if changes := _changes(of):
        said |= {"from": changes}
    text = yaml.safe_dump(without_paths(said), sort_keys=False, allow_unicode=True)
    return f"<details><summary>All settings</summary>\n\n```yaml\n{text}```\n\n</details>\n"
