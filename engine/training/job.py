"""What one training is: a plain description that travels to every worker."""

from dataclasses import dataclass
from pathlib import Path

from liit.engine.settings.sections import Model
from liit.engine.settings.training import Training

MODULES_FILE = "modules.safetensors"
"""Extra trainable modules, beside the PEFT files of an adapter."""


@dataclass(frozen=True)
class TrainJob:
    """One training, complete: nothing else decides its result. Paths are absolute and seen by every node.

    samples: what `data.rows` writes, exactly the samples to train on. parent: the previous timestep's adapter folder,
    or None for a fresh LoRA. output: where the finished adapter appears. name: unique for what is trained (a
    fingerprint): a run of the same name and storage continues. cpus, gpus: of one worker. importances: of ewc and mas, the
    importance file of every old task and how much it counts.
    """

    model: Model
    training: Training
    seed: int
    samples: str
    parent: str | None
    output: str
    name: str
    storage: str
    cpus: float = 1
    gpus: float = 0
    importances: tuple[tuple[str, float], ...] = ()

    @property
    def folder(self) -> Path:
        """What Ray Train keeps of this run until its adapter is complete."""
        return Path(self.storage) / self.name

    @property
    def progress(self) -> Path:
        """One JSON line per step done."""
        return self.folder / "progress.jsonl"

    @property
    def stopped(self) -> Path:
        """The note that workers leave who stop, since a figure is not finite."""
        return self.folder / "stopped.json"

    @property
    def partial(self) -> Path:
        """Where the adapter is written before it is whole."""
        output = Path(self.output)
        return output.with_name(f".{output.name}.{self.name}.partial")
