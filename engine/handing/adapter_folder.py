"""An adapter as a folder that plain PEFT and servers load: its tensors as they are, its modules by name, its base by name.

A run's own adapter names its modules by a pattern, which few others than PEFT read, and its base by where it lies.
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from torch import nn

from liit.engine.handing.source import WEIGHTS
from liit.engine.handing.tensors import adapted, read_whole
from liit.engine.run.files import read_json, write_json

SETTINGS = "adapter_config.json"


def write_adapter(adapter: Path, base: nn.Module, named: str, revision: str | None, folder: Path) -> None:
    """Write a run's adapter to `folder`, which is made.

    named: the base as others load it. revision: its commit. Raises ValueError for tensors that are not whole, and for modules
    that the base has not.
    """
    tensors = read_whole(adapter)
    targets, excluded = by_name(adapted(tensors), [name for name, _ in base.named_modules()])
    settings: dict[str, Any] = read_json(adapter / SETTINGS) | {
        "base_model_name_or_path": named,
        "revision": revision,
        "target_modules": targets,
        "exclude_modules": excluded,
        "inference_mode": True,
    }
    folder.mkdir(parents=True)
    shutil.copyfile(adapter / WEIGHTS, folder / WEIGHTS)
    write_json(folder / SETTINGS, settings)


def by_name(modules: set[str], every: Iterable[str]) -> tuple[list[str], str | None]:
    """`target_modules` and `exclude_modules` of PEFT that together mean exactly these modules of a model.

    The targets are last names. Where others have the same last name (a vision tower's `q_proj`), a pattern excludes the
    shortest parts of the model that hold none of these. Raises ValueError for a module that the model has not.
    """
    there = set(every)
    if unknown := sorted(modules - there):
        raise ValueError(f"the base has no module {unknown[0]}, which the adapter is of; is it another model by now?")
    names = {module.rpartition(".")[2] for module in modules}
    others = {module for module in there if module.rpartition(".")[2] in names} - modules
    patterns = {_around(module, modules) for module in others}
    return sorted(names), "|".join(sorted(patterns)) or None


def _around(module: str, modules: set[str]) -> str:
    """A pattern of the shortest part of the model with this module in it and none of `modules`; else of the module alone."""
    steps = module.split(".")
    for end in range(1, len(steps) + 1):
        part = ".".join(steps[:end])
        if not any(one == part or one.startswith(f"{part}.") for one in modules):
            return rf"{re.escape(part)}(\..*)?"
    return re.escape(module)


def loaded(base: nn.Module, folder: Path) -> PeftModel:
    """The base with the adapter of a folder, by PEFT alone.

    Raises ValueError where PEFT does not hold exactly the tensors of the file: one by a name that it does not know is left out
    without a word.
    """
    tensors, model = read_whole(folder), PeftModel.from_pretrained(base, str(folder)).eval()
    held = get_peft_model_state_dict(model, save_embedding_layers=False)
    wrong = sorted(tensors.keys() ^ held.keys())
    wrong += sorted(name for name in tensors.keys() & held.keys() if not tensors[name].to(held[name]).equal(held[name]))
    if wrong:
        raise ValueError(f"{folder / WEIGHTS}: PEFT does not load {wrong[0]} as it was trained")
    return model
