"""From the words of a command to the configuration of a run: one that can be carried out, or one line that says why not."""

from pathlib import Path

from liit.engine.settings.config import Config, ConfigError, located, read
from liit.engine.settings.refresh import Pruning
from liit.engine.settings.streams import FileStream
from liit.selectors import catalog
from liit.selectors.protocol import Strategy, rehearse

JOBS = Path(__file__).resolve().parents[2] / "jobs"
DEFAULT = JOBS / "configs" / "digits.yaml"


def settle(arguments: list[str], output: str | None) -> Config:
    """The configuration with overrides and output applied. Raises ConfigError or ValueError, one line."""
    files = [argument for argument in arguments if "=" not in argument]
    if len(files) > 1:
        raise ConfigError(f"one configuration file at most, got {files}; overrides are dotted.key=value")
    overrides = [argument for argument in arguments if "=" in argument]
    if output is not None:
        overrides.append(f"output={output}")
    config = read(located(files[0], DEFAULT.parent) if files else DEFAULT, overrides)
    for each in config.phases():
        _check_strategy(each)
    _check_averaging(config)
    opening = config.strategy.opening
    if opening is not None and catalog.get(opening.name).once:
        raise ConfigError(f"strategy.opening: {opening.name} trains at the last timestep alone; it opens nothing")
    chosen = config.strategy
    if chosen.run is not None:
        chosen = chosen.model_copy(update={"run": str(lasting(Path(chosen.run)))})
    output = str(lasting(Path(config.output.format(name=config.name))))
    if chosen.run == output:
        raise ConfigError(f"strategy.run is {output}, where this run goes itself; choose another output")
    return config.model_copy(update={"output": output, "strategy": chosen})


def _check_strategy(config: Config) -> None:
    """Raises ConfigError or ValueError for a strategy that does not exist, or that cannot be used so."""
    strategy = catalog.get(config.strategy.name, config.clustering.vector)
    known = {one.skill for one in config.stream.targets} if isinstance(config.stream, FileStream) else ()
    rehearse(strategy, config.strategy.options, known)
    if strategy.given != (config.strategy.run is not None):
        raise ConfigError(
            "strategy given trains on what another run selected; name its folder as strategy.run"
            if strategy.given
            else f"strategy.run={config.strategy.run} is for strategy given; {strategy.name} chooses itself"
        )
    if config.clustering.vector is not None and not (strategy.clusters or strategy.own_clusters):
        raise ConfigError(
            f"clustering.vector={config.clustering.vector}: strategy {strategy.name} does not choose by these clusters"
        )
    if config.clustering.k is not None and (config.strategy.lifetime is not None or config.strategy.unit != "samples"):
        raise ConfigError(
            "clustering.k.per_budget goes with a budget in samples for each timestep; name clustering.k_grid"
        )
    if strategy.targets and isinstance(config.stream, FileStream) and not config.stream.targets:
        raise ConfigError(
            f"strategy {strategy.name} selects for targets; give stream.targets, a few samples of each skill"
        )
    if strategy.skills and isinstance(config.stream, FileStream) and not config.stream.evaluations:
        raise ConfigError(
            f"strategy {strategy.name} goes by what evaluation sets ask for; give stream.evaluations, whose rows name their task"
        )
    if strategy.targets and "sketch" in strategy.vectors and config.scoring.gradient.gradient == "zero-order":
        raise ConfigError(
            f"strategy {strategy.name} compares gradients of samples and targets by their inner products, which zero-order "
            "features have not; set scoring.gradient.gradient to sgd or adam"
        )
    _check_training(config, strategy)
    rule = config.strategy.prune
    if not strategy.prunes and rule != Pruning():
        raise ConfigError(f"strategy.prune: strategy {strategy.name} prunes nothing; take a lite one, or leave it out")
    if strategy.prunes and strategy.strata is None and rule.shares == "selection":
        raise ConfigError(
            f"strategy.prune.shares: strategy {strategy.name} says of no strata what they give; take even"
        )
    counted = config.strategy.unit == "samples" and config.strategy.lifetime is None
    if strategy.prunes and not counted and config.strategy.pool_budget is None:
        raise ConfigError("strategy.pool_budget is in samples; give it, since the budget of a timestep is not")


def _check_training(config: Config, strategy: Strategy) -> None:
    """Raises ConfigError for what holds on to the past where the strategy has none, or would compare unlike things."""
    training, scoring = config.training, config.scoring
    _check_gate(config)
    if training.experts and config.evaluation.server is not None:
        raise ConfigError(
            "evaluation.server has one set of weights, and training.experts several, of which each sample finds its own; "
            "leave one of the two out"
        )
    if training.experts and config.model.adapter is not None:
        raise ConfigError(
            "model.adapter is one adapter, which training.experts begins without; leave one of the two out"
        )
    if strategy.from_base and (training.regulariser or training.experts or training.averaging):
        raise ConfigError(
            f"strategy {strategy.name} is trained from the base model; "
            "training.regulariser, training.averaging and training.experts have nothing to hold on to there"
        )
    if config.tasks.of == "clusters" and (training.experts or training.regulariser) and not strategy.clusters:
        raise ConfigError(
            f"tasks.of=clusters: strategy {strategy.name} clusters nothing; take adapt-inf, or tasks.of=timestep"
        )
    if training.experts and strategy.targets:
        raise ConfigError(
            f"strategy {strategy.name} compares samples with targets by one model; take it without training.experts"
        )
    if training.experts and any(one.parameters == "lora" for one in (scoring.gradient, *scoring.sketches.values())):
        raise ConfigError("experts have LoRA weights of their own; sketch gradients of base parameters")


def _check_averaging(config: Config) -> None:
    """Raises ConfigError for what is told by an adapter's own weights, which averaging turns."""
    phases = [each.training for each in config.phases()]
    if not any(each.averaging for each in phases):
        return
    if any(each.regulariser and each.regulariser.kind != "lwf" for each in phases):
        raise ConfigError(
            "training.averaging turns the weights whose importance training.regulariser ewc and mas have measured before; "
            "leave one of the two out, or take lwf"
        )
    if any(one.gradient == "adam" for one in (config.scoring.gradient, *config.scoring.sketches.values())):
        raise ConfigError(
            "scoring.gradient adam goes by moments of the adapter that was trained, and training.averaging hands on another; "
            "take sgd or sign"
        )


def _check_gate(config: Config) -> None:
    """Raises ConfigError for a gate that nothing is measured for, or that has nothing to go back to."""
    gate, stream = config.training.gate, config.stream
    if not gate:
        return
    if config.training.experts:
        raise ConfigError(
            "training.gate goes back to an earlier adapter; training.experts leaves all of them as they are"
        )
    if not isinstance(stream, FileStream):
        return
    skills = sorted({one.skill for one in stream.evaluations})
    if not skills:
        raise ConfigError("training.gate goes by evaluations, and the stream has none; give it stream.evaluations")
    unknown = [rule.skill for rule in gate if rule.skill not in ("*", *skills)]
    if unknown:
        raise ConfigError(f"training.gate: no evaluation set is of skill {unknown[0]}; there are {', '.join(skills)}")


def lasting(path: Path) -> Path:
    """Where results stay, as an absolute path. A submitted job's working directory is deleted, so there it lies in the home.

    Raises ConfigError for object storage.
    """
    if path.parts and path.parts[0].endswith(":"):  # of `s3://bucket`, whose second slash a path has not
        raise ConfigError(f"{path} is on object storage, and this must be a folder; exports alone may go there")
    path = path.expanduser()
    if not path.is_absolute() and "runtime_resources" in Path.cwd().parts:
        return Path.home() / "liit" / path
    return path.resolve()
