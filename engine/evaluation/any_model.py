"""Any model on a configuration's evaluation sets: a folder or hub id, an adapter, experts; in a small folder of its own.

    evaluation sets ─ingest─▶ exam ─(experts: what samples look like)─▶ answers ─▶ evaluation.json

The folder is a store as a run's is: the same command goes on where it stopped, and a finished one answers at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from liit.engine.data import stream
from liit.engine.data.ingest import ingest
from liit.engine.evaluation.evaluation import evaluate, keep_first_of_each
from liit.engine.holding.looking import Looking
from liit.engine.holding.task_features import feature_spec
from liit.engine.models.experts import is_experts
from liit.engine.models.fingerprint import fingerprint
from liit.engine.models.loading import SHIPPED
from liit.engine.run.files import read_json
from liit.engine.run.reading import Run
from liit.engine.run.store import Clock, Made, Store, path_of, there
from liit.engine.scoring.specification import made_by, mark
from liit.engine.settings.config import Config, ConfigError
from liit.engine.settings.sections import Model
from liit.engine.settings.streams import EvaluationSet
from liit.engine.settings.training import Experts, Tasks

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
    """Evaluate it in the folder of the store; returns evaluation.json. Raises ConfigError where there are no evaluation sets."""
    config = what.config
    sets = stream.open_stream(config, store).evaluations
    if not sets:
        raise ConfigError("the configuration has no evaluation sets; give it some as stream.evaluations")
    model_mark = fingerprint(config.model.path, config.model.revision)
    exam = _exam(sets, config, model_mark, store)
    queries = _queries(exam, config, model_mark, store)
    adapter = None if what.adapter is None else _mark(what.adapter)

    def work(partial: Path, clock: Clock) -> None:
        evaluate(exam.path, sets, what.adapter, config, partial, f"evaluate {what.name}", clock, path_of(queries))

    told = [(one.name, one.skill, one.metric, one.max_new_tokens, one.options) for one in sets]
    settings = [model_mark, adapter, config.model.model_dump(exclude={"path"}), config.evaluation, told]
    made = store.make("evaluation.json", work, settings=settings, parents=(exam, *there(queries)))
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


def _exam(sets: tuple[EvaluationSet, ...], config: Config, model_mark: str, store: Store) -> Made:
    def work(partial: Path, clock: Clock) -> None:
        ingest(sets, 0, config, partial, store.root / "exam.quarantine.parquet", "evaluation sets", clock)
        keep_first_of_each(partial, {one.name: one.limit for one in sets})

    told = [[stream.mark(one), one.limit, one.metric, one.options] for one in sets]
    reads = [model_mark, config.model.max_length, config.model.told(), config.max_bad_share]
    return store.make("exam.parquet", work, settings=[told, reads])


def _queries(exam: Made, config: Config, model_mark: str, store: Store) -> Made | None:
    """What each sample looks like, by which it finds its expert; None without experts."""
    if config.training.experts is None:
        return None
    scored = made_by(feature_spec(config), config.scoring, model_mark)
    looked = [mark(config.tasks.image_encoder), mark(config.tasks.text_encoder)]
    return Looking(store, config, [scored, looked]).queries(exam)


def _mark(adapter: Path) -> dict[str, str]:
    """Every file of an adapter folder that decides what it answers, by its content."""
    folders = [adapter, *sorted(one for one in adapter.iterdir() if (one / ADAPTER).is_file())]
    return {one.name: fingerprint(str(one)) for one in folders}
