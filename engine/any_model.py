"""Any model on a configuration's evaluation sets: a folder or hub id, an adapter, experts; in a small folder of its own.

The folder is a store as a run's is: the same command goes on where it stopped, and a finished one answers at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liit.engine.data import stream
from liit.engine.examining import Examining
from liit.engine.models.experts import is_experts
from liit.engine.models.fingerprint import fingerprint
from liit.engine.models.loading import SHIPPED
from liit.engine.run.files import read_json
from liit.engine.run.fingerprints import fingerprint as fingerprint_of
from liit.engine.run.reading import Run
from liit.engine.run.store import Made, Store
from liit.engine.settings.config import Config, ConfigError
from liit.engine.settings.sections import Model
from liit.engine.settings.training import Experts, Tasks
from liit.engine.stages import Stages

ADAPTER, EXPERTS = "adapter_config.json", "experts.json"


@dataclass(frozen=True)
class Examined:
    """What is examined: a model, and the adapter on it."""

    name: str
    config: Config
    """The configuration with this model, and with experts where the adapter is some."""
    adapter: Path | None = None


def examined(model: str, config: Config, base: str | None = None) -> Examined:
    """The model of a folder or hub id, or the adapter or experts of a folder, under a configuration.

    base: where an adapter's base lies, when not where it says. What the model is loaded with (type, attention, context, what its
    template is told) is the configuration's. Raises ConfigError for a folder that holds none of them.
    """
    folder = Path(model).expanduser()
    name = folder.resolve().name
    plain = config.model_copy(update={"training": config.training.model_copy(update={"experts": None})})
    if (folder / ADAPTER).is_file():
        held = read_json(folder / ADAPTER)
        of = {"path": base or held["base_model_name_or_path"], "revision": None if base else held.get("revision")}
        return Examined(name, _with(plain, of), folder.resolve())
    if is_experts(folder):
        about = read_json(folder / EXPERTS)
        told = about["model"] | ({"path": base, "revision": None} if base else {})
        training = config.training.model_copy(update={"experts": config.training.experts or Experts()})
        routed = config.model_copy(update={"tasks": Tasks(**about["tasks"]), "training": training})
        return Examined(name, _with(routed, Model(**told).model_dump()), folder.resolve())
    if base is not None:
        raise ConfigError(f"--base is for adapters, and {model} is none: it has no {ADAPTER}")
    if folder.is_dir() and not (folder / "config.json").is_file():
        hint = f"; its adapters are {model}/tNN/adapter" if (folder / "config.yaml").is_file() else ""
        raise ConfigError(f"{model} is no model: it has neither config.json nor {ADAPTER}{hint}")
    local = folder.is_dir() and model not in SHIPPED
    return Examined(name, _with(plain, {"path": str(folder.resolve()) if local else model, "revision": None}))


def examine(what: Examined, store: Store) -> dict[str, Any]:
    """Evaluate it in the folder of the store, as a run's t0; returns evaluation.json. Raises ConfigError where there are no
    evaluation sets."""
    sets = stream.open_stream(what.config, store).asked
    if not sets:
        raise ConfigError("the configuration has no evaluation sets; give it some as stream.evaluations")
    examining = Examining(Stages(what.config, store))
    examining.read(sets)
    adapter = None if what.adapter is None else Made(what.adapter, fingerprint_of(_mark(what.adapter)))
    made = examining.examine(0, adapter)
    assert made is not None, "there are sets"
    summary: dict[str, Any] = read_json(made.path)
    return summary


def other_sets(summary: Mapping[str, Any], run: Run) -> list[str]:
    """Data sets of an evaluation.json that a run has not, or has by another metric or of another number of samples."""
    last = max(t for t in run.timesteps if (run.step(t) / "evaluation.json").is_file())
    theirs = _sets_of(read_json(run.step(last) / "evaluation.json"))
    return [name for name, told in _sets_of(summary).items() if theirs.get(name) != told]


def _sets_of(summary: Mapping[str, Any]) -> dict[str, tuple[str, str, int]]:
    return {
        name: (skill, one["metric"], one["n"])
        for skill, entry in summary.items()
        for name, one in entry["datasets"].items()
    }


def _with(config: Config, model: dict[str, Any]) -> Config:
    return config.model_copy(update={"model": config.model.model_copy(update=model)})


def _mark(adapter: Path) -> dict[str, str]:
    """Every file of an adapter folder that decides what it answers, by its content."""
    folders = [adapter, *sorted(one for one in adapter.iterdir() if (one / ADAPTER).is_file())]
    return {one.name: fingerprint(str(one)) for one in folders}
