"""What a server of others is given of a model, to answer as the built-in engine does: merged weights, or an adapter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liit.engine.evaluation.merging import CannotMerge, merge_into
from liit.engine.handing.adapter_folder import write_adapter
from liit.engine.handing.base_files import write_base_files
from liit.engine.handing.merging import SHARD, save_merged
from liit.engine.handing.source import files_of
from liit.engine.models import loading
from liit.engine.models.adapters import add_lora
from liit.engine.models.experts import is_experts
from liit.engine.run.files import remove
from liit.engine.settings.config import Config


@dataclass(frozen=True)
class Base:
    """Where the base's files lie here, and its processor with the run's chat template."""

    folder: Path
    processor: Any


def to_serve(command: str, adapter: Path | None, config: Config, folder: Path) -> dict[str, str]:
    """What {merged}, {model} and {adapter} in a command stand for, of those that are in it; made in `folder` where they lack.

    Where there is no adapter yet, the merged model is the base with the run's chat template, and the adapter one that changes
    nothing. Raises ValueError for experts, and for an adapter that cannot be merged where that is asked for.
    """
    if adapter is not None and is_experts(adapter):
        raise ValueError(f"{adapter} holds experts, of which each sample finds its own: no server answers as they do")
    model = config.model
    base = Base(
        files_of(model.path, model.revision), loading.load_processor(model.path, model.revision, model.template())
    )
    shipped = loading.locate(model.path)
    found = {"model": str(Path(shipped).expanduser().resolve()) if Path(shipped).expanduser().is_dir() else shipped}
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


def _loaded(config: Config) -> Any:
    model = config.model
    return loading.load_model(model.path, revision=model.revision, dtype=model.dtype, attention=model.attention)


def _merged(base: Base, adapter: Path | None, config: Config, folder: Path) -> None:
    model = _loaded(config)
    if adapter is not None:
        try:
            model, _ = merge_into(model, adapter)
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
        fresh = add_lora(_loaded(config), **shape, projector=projector, seed=0)  # its B is zero
        fresh.save_pretrained(adapter, save_embedding_layers=False)
    write_adapter(adapter, model, config.model.path, config.model.revision, folder)
    write_base_files(base, model, folder, adapter=True)
