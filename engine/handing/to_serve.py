"""What a server of others is given of a model, to answer as the built-in engine does: merged weights, or an adapter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liit.engine.evaluation.merging import CannotMerge, merged_to_answer
from liit.engine.handing import servers
from liit.engine.handing.adapter_folder import SETTINGS, write_adapter
from liit.engine.handing.base_files import write_base_files
from liit.engine.handing.merging import SHARD, save_merged
from liit.engine.handing.source import files_of
from liit.engine.handing.tensors import read_whole
from liit.engine.models import loading
from liit.engine.models.adapters import add_lora
from liit.engine.models.experts import is_experts
from liit.engine.models.processors import puts_images_first
from liit.engine.run.files import read_json, remove
from liit.engine.run.progress import log
from liit.engine.settings.config import Config


@dataclass(frozen=True)
class Base:
    """Where the base's files lie here, its processor with the run's chat template, and what others load it by: a folder, or a
    hub id."""

    folder: Path
    processor: Any
    named: str


def to_serve(command: str, adapter: Path | None, config: Config, folder: Path) -> dict[str, str]:
    """What {merged}, {model} and {adapter} in a command stand for, of those that are in it; made in `folder` where they lack.

    Where there is no adapter yet, the merged model is the base with the run's chat template, and the adapter one that changes
    nothing. Raises ValueError for experts, for a model whose pictures have no place in a chat, and for an adapter that cannot be
    merged where that is asked for.
    """
    if adapter is not None and is_experts(adapter):
        raise ValueError(f"{adapter} holds experts, of which each sample finds its own: no server answers as they do")
    base = _base(command, config)
    found = {"model": base.named}
    for name, write in (("merged", _merged), ("adapter", _adapter)):
        if f"{{{name}}}" in command:
            found[name] = str(folder.absolute() / name)
            if not (folder / name).is_dir():
                partial = folder / f"{name}.partial"
                remove(partial)
                folder.mkdir(parents=True, exist_ok=True)
                write(base, adapter, config, partial)
                partial.rename(folder / name)
    return found


def _base(command: str, config: Config) -> Base:
    model = config.model
    here = Path(loading.locate(model.path)).expanduser()
    if not here.is_dir() and "{model}" in command and model.revision and model.revision not in command:
        raise ValueError(
            f"model.revision is {model.revision}, which a server of {{model}} is not told: add it to evaluation.server.command"
        )
    processor = loading.load_processor(model.path, model.revision, model.template())
    if puts_images_first(processor):
        raise ValueError(
            f"model {model.path} has its picture before the text, where chat messages have none; leave out evaluation.server"
        )
    named = str(here.resolve()) if here.is_dir() else model.path
    return Base(files_of(model.path, model.revision), processor, named)


def _loaded(config: Config) -> Any:
    model = config.model
    return loading.load_model(model.path, revision=model.revision, dtype=model.dtype, attention=model.attention)


def _merged(base: Base, adapter: Path | None, config: Config, folder: Path) -> None:
    model = _loaded(config)
    if adapter is not None:
        try:
            model = merged_to_answer(model, adapter)
        except CannotMerge as why:
            raise ValueError(
                f"{adapter} is not merged: {why}; use {{model}} and {{adapter}} in evaluation.server.command"
            ) from why
    folder.mkdir()
    save_merged(model, folder, SHARD)
    write_base_files(base, model, folder, adapter=False)


def _adapter(base: Base, adapter: Path | None, config: Config, folder: Path) -> None:
    model = _loaded(config)
    if adapter is None:
        adapter = folder.with_name(f"{folder.name}.fresh")
        training = config.training
        lora, projector = training.lora, training.projector_learning_rate is not None
        shape: dict[str, Any] = {"r": lora.r, "alpha": lora.alpha, "dropout": 0.0, "targets": lora.targets}
        fresh = add_lora(model, **shape, projector=projector, seed=0)  # its B is zero
        fresh.save_pretrained(adapter, save_embedding_layers=False)
        model = fresh.unload()
    write_adapter(adapter, model, base.named, config.model.revision, folder)
    for line in servers.warnings(read_whole(folder), read_json(folder / SETTINGS)):
        log.warning("evaluation.server: %s", line)
    write_base_files(base, model, folder, adapter=True)
