"""From a run to a folder that others load: written beside its name, looked at as they would, then renamed.

run, timestep ─▶ source ─▶ adapter ─▶ loaded by PEFT alone ─probe─▶ card ─▶ rename
                        └▶ merged  ─▶ loaded by transformers alone ─┘
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from liit.engine.evaluation.merging import CannotMerge, Cast, merge_into
from liit.engine.handing import adapter_folder, servers
from liit.engine.handing.base_files import write_base_files
from liit.engine.handing.card import Facts, write_card
from liit.engine.handing.merging import SHARD, save_merged
from liit.engine.handing.paths import is_path, refuse_paths, without_paths
from liit.engine.handing.probing import logits, probe, same
from liit.engine.handing.source import Source, source
from liit.engine.handing.tensors import read_whole
from liit.engine.models import loading
from liit.engine.models.experts import BASE, Experts
from liit.engine.run.files import read_json, remove


@dataclass
class Handed:
    """A folder that was written, and what is to be said about it."""

    folder: Path
    t: int
    cast: Cast | None = None
    """Of merged weights."""
    warnings: list[str] = field(default_factory=list)


def hand_on(
    run: Path, output: Path, timestep: int | None = None, merged: bool = False, base: str | None = None
) -> Handed:
    """Write the model of a run's timestep (by default the last that has an adapter) to the folder `output`.

    merged: as weights of its own, else as an adapter of `base`, the name that others know the base model by. Raises ValueError
    and OSError, one line, where that cannot be, or would not answer as the run did; nothing is left then.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"--output {output} is there already and not empty; name a new folder")
    of = source(run, timestep, base)
    _check(of, merged)
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.partial")
    remove(partial)
    try:
        handed = Handed(output, of.t)
        facts = (_merge if merged else _experts if of.several else _adapter)(of, partial, handed)
        write_card(of, facts, partial)
        refuse_paths(partial, [of.run.root, of.folder, partial.parent, Path.home(), Path.cwd()])
        partial.rename(output)
    finally:
        remove(partial)
    return handed


def _check(of: Source, merged: bool) -> None:
    """What cannot be handed on in this form, before anything is loaded."""
    if merged and of.several:
        raise ValueError(
            f"{of.adapter} holds experts, of which each sample finds its own: no single set of weights answers as they do; "
            "hand them on without --merged"
        )
    if merged and of.config.training.modules:
        raise ValueError(
            f"training.modules ({', '.join(of.config.training.modules)}) are trained beside the model: they have no place in "
            "its weights; hand the adapter on without --merged"
        )
    if not merged and of.named is None:
        raise ValueError(
            f"an adapter names its base, and {of.config.model.path} is a path of this machine; "
            "give the name that others load it by, such as a hub id, as --base"
        )


def _merge(of: Source, folder: Path, handed: Handed) -> Facts:
    model = of.config.model
    read_whole(of.adapter)
    base = loading.load_model(model.path, revision=model.revision, dtype="auto", attention=model.attention)
    prompt = probe(of.processor)
    before = logits(base, of.processor, prompt)
    try:
        merged, cast = merge_into(base, of.adapter)
    except CannotMerge as why:
        raise ValueError(f"{of.adapter} is not merged: {why}; hand it on without --merged") from why
    after = logits(merged, of.processor, prompt)
    if torch.equal(before, after):
        raise ValueError(
            f"merged in {cast.dtype}, the model answers as its base does: the cast loses {cast.lost_share:.1%} of the updates; "
            "hand it on as an adapter"
        )
    folder.mkdir(parents=True)
    save_merged(merged, folder, SHARD)
    write_base_files(of, merged, folder, adapter=False)
    del base, merged
    processor = loading.load_processor(str(folder.resolve()))
    again = loading.load_model(str(folder.resolve()), dtype="auto", attention=model.attention)
    if not same(probe(processor), prompt) or not torch.equal(logits(again, processor, prompt), after):
        raise ValueError("what was written does not answer as what was merged: a file of the base did not come along")
    handed.cast = cast
    return Facts(merged=True, cast=cast, vision=hasattr(of.processor, "image_processor"))


def _adapter(of: Source, folder: Path, handed: Handed) -> Facts:
    base = _base(of)
    adapter_folder.write_adapter(of.adapter, base, str(of.named), of.revision, folder)
    write_base_files(of, base, folder, adapter=True)
    if of.config.training.modules:
        handed.warnings.append(
            f"training.modules ({', '.join(of.config.training.modules)}) are no part of a PEFT adapter and stay behind"
        )
    served = _looked_at(of, base, folder)
    handed.warnings += served
    return Facts(served=tuple(served), vision=hasattr(of.processor, "image_processor"))


def _experts(of: Source, folder: Path, handed: Handed) -> Facts:
    """A folder in it for each expert, and their keys; the base among them has no weights of its own."""
    base, experts = _base(of), Experts.load(of.adapter)
    for name, path in experts.adapters().items():
        adapter_folder.write_adapter(Path(path), base, str(of.named), of.revision, folder / name)
        handed.warnings += [f"expert {name}: {line}" for line in _looked_at(of, base, folder / name)]
    served = tuple(handed.warnings)
    write_base_files(of, base, folder, adapter=True)
    for key in ("image_encoder", "text_encoder"):
        if is_path(str(experts.about["tasks"].get(key) or "")):
            handed.warnings.append(
                f"tasks.{key} is a folder of this machine: whoever routes needs it under its last name"
            )
    about = without_paths(dict(experts.about))
    about["model"] |= {"path": of.named, "revision": of.revision}
    Experts(folder, about, experts.tasks, experts.keys, experts.taught).save()
    tasks = {name: tasks for name, tasks in experts.tasks.items() if name != BASE}
    return Facts(served=served, vision=hasattr(of.processor, "image_processor"), experts=tasks)


def _base(of: Source) -> torch.nn.Module:
    """The base as the run loaded it."""
    model = of.config.model
    return loading.load_model(model.path, revision=model.revision, dtype=model.dtype, attention=model.attention)


def _looked_at(of: Source, base: torch.nn.Module, folder: Path) -> list[str]:
    """What servers would make of an adapter that was written; raises ValueError where it answers as its base does.

    The base is then as it was, but for a projector that was trained.
    """
    prompt = probe(of.processor)
    before = logits(base, of.processor, prompt)
    model = adapter_folder.loaded(base, folder)
    if torch.equal(before, logits(model, of.processor, prompt)):
        raise ValueError(
            f"{of.adapter}: with the adapter the model answers a prompt as its base does; it has learned nothing, or its "
            "modules are not those of the base"
        )
    model.unload()
    return servers.warnings(read_whole(folder), read_json(folder / adapter_folder.SETTINGS))
