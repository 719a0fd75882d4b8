"""What is handed on: a run's adapter of one timestep, its base, and the name that others know the base by."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from liit.engine.evaluation.gate import verdicts_of
from liit.engine.models.experts import is_experts
from liit.engine.models.loading import SHIPPED, load_processor, locate
from liit.engine.run.progress import log
from liit.engine.run.reading import Run, open_run
from liit.engine.settings.config import Config

WEIGHTS = "adapter_model.safetensors"
SMALL = ("*.json", "*.jinja", "*.model", "*.txt", "*.tiktoken", "*.md", "LICENSE*", "NOTICE*", "USE_POLICY*")
"""Files of a hub repository that are not weights."""


@dataclass(frozen=True)
class Source:
    """An adapter and where it comes from."""

    run: Run
    config: Config
    t: int
    named: str | None
    """The base as others load it: a hub id, a shipped model, or what the caller calls it; None where nobody has said."""

    @property
    def adapter(self) -> Path:
        return self.run.step(self.t) / "adapter"

    @property
    def several(self) -> bool:
        """Whether these are experts, of which each sample finds its own."""
        return is_experts(self.adapter)

    @property
    def called(self) -> str:
        """The base in words, without a path."""
        return self.named or Path(self.config.model.path).name

    @property
    def revision(self) -> str | None:
        """The commit of the base, where it is named by its hub id."""
        model = self.config.model
        if self.named != model.path or model.path in SHIPPED:
            return None
        return model.revision or (self.folder.name if self.folder.parent.name == "snapshots" else None)

    @cached_property
    def folder(self) -> Path:
        """Where the base's files lie here. Raises OSError for a hub id that is neither cached nor reachable."""
        return files_of(self.config.model.path, self.config.model.revision)

    @cached_property
    def processor(self) -> Any:
        """As the run used it: its chat template with arguments and date written in."""
        model = self.config.model
        return load_processor(model.path, model.revision, model.template())


def files_of(path: str, revision: str | None) -> Path:
    """Where the small files of a model lie here. Raises OSError for a hub id that is neither cached nor reachable."""
    local = Path(locate(path)).expanduser()
    return local if local.is_dir() else Path(snapshot_download(path, revision=revision, allow_patterns=list(SMALL)))


def source(run: Path, timestep: int | None, base: str | None) -> Source:
    """The adapter of a timestep of the run in a folder, by default the last one that has one.

    base: the name that others know the base model by. Raises RunError and ValueError, one line, where there is no such adapter,
    and for a base that is a path.
    """
    found = open_run(run)
    taught = [t for t in found.timesteps if (found.step(t) / "adapter").is_dir()]
    if not taught:
        raise ValueError(f"{run} has no adapter yet: timestep 0 is the base model, and no later one is trained")
    if timestep is not None and timestep not in taught:
        known = ", ".join(f"t{t}" for t in taught)
        raise ValueError(f"{run} has no adapter of timestep {timestep}; those that have one are {known}")
    config = Config.model_validate(found.config)
    return Source(found, config, _standing(found, config, taught, timestep), _known_as(config.model.path, base))


def _standing(run: Run, config: Config, taught: list[int], timestep: int | None) -> int:
    """The timestep whose adapter is handed on: the one that is asked for, or that `training.gate` let stand last."""
    gated = any(phase.training.gate for phase in config.phases())
    verdicts = {one.timestep: one for one in verdicts_of(run)} if gated else {}
    if timestep is not None:
        if timestep in verdicts and verdicts[timestep].falls:
            log.warning("%s; it is handed on because --timestep says so", verdicts[timestep])
        return timestep
    standing = [t for t in taught if not (t in verdicts and verdicts[t].falls)]
    if not standing:
        raise ValueError(f"{run.root}: training.gate let no adapter stand; pass --timestep to hand one on all the same")
    return standing[-1]


def _known_as(path: str, base: str | None) -> str | None:
    if base is not None:
        if not base or base.startswith(("/", ".", "~")) or "\\" in base:
            raise ValueError(f"--base {base!r} is a path of this machine; give the name that others load the model by")
        return base
    return path if path in SHIPPED or not (path.startswith(("/", ".", "~")) or Path(path).is_dir()) else None
