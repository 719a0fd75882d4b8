"""From the command line to a run: the configuration refused or settled, the plan said, the outcome printed."""

import importlib.util
import logging
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from liit import __version__
from liit.engine.config import Config, ConfigError, located, read
from liit.engine.forecast import forecast
from liit.engine.progress import log, start_logging
from liit.engine.readers import read as open_release
from liit.engine.settings import FileStream
from liit.engine.store import Store, StoreError, appearing, remove
from liit.selectors import catalog
from liit.selectors.protocol import Strategy, rehearse

DEFAULT = Path(__file__).resolve().parent.parent / "jobs" / "configs" / "digits.yaml"
REFUSED, FAILED = 2, 1


def main(arguments: list[str], output: str | None, dry_run: bool) -> int:
    """Run the job; the exit code: 0 done, 1 stopped by bad data, 2 refused before anything was started."""
    start_logging()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        config = settle(arguments, output)
        say_plan(config)
        if dry_run:
            return 0
        check_model(config)
        check_files(config)
        check_tracking(config)
        store = Store(config.output)
    except (ConfigError, StoreError, ValueError) as error:
        log.error("error: %s", error)
        return REFUSED
    begin(config, store)
    return _run(config, store)


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
    opening = config.strategy.opening
    if opening is not None and catalog.get(opening.name).once:
        raise ConfigError(f"strategy.opening: {opening.name} trains at the last timestep alone; it opens nothing")
    return config.model_copy(update={"output": str(lasting(Path(config.output.format(name=config.name))))})


def _check_strategy(config: Config) -> None:
    """Raises ConfigError or ValueError for a strategy that does not exist, or that cannot be used so."""
    strategy = catalog.get(config.strategy.name, config.clustering.vector)
    known = {one.skill for one in config.stream.targets} if isinstance(config.stream, FileStream) else ()
    rehearse(strategy, config.strategy.options, known)
    if config.clustering.vector is not None and not strategy.clusters:
        raise ConfigError(
            f"clustering.vector={config.clustering.vector}: strategy {strategy.name} does not choose by these clusters"
        )
    if strategy.targets and isinstance(config.stream, FileStream) and not config.stream.targets:
        raise ConfigError(
            f"strategy {strategy.name} selects for targets; give stream.targets, a few samples of each skill"
        )
    if strategy.targets and "sketch" in strategy.vectors and config.scoring.gradient.gradient == "zero-order":
        raise ConfigError(
            f"strategy {strategy.name} compares gradients of samples and targets by their inner products, which zero-order "
            "features have not; set scoring.gradient.gradient to sgd or adam"
        )
    _check_training(config, strategy)
    counted = config.strategy.unit == "samples" and config.strategy.lifetime is None
    if strategy.prunes and not counted and config.strategy.pool_budget is None:
        raise ConfigError("strategy.pool_budget is in samples; give it, since the budget of a timestep is not")


def _check_training(config: Config, strategy: Strategy) -> None:
    """Raises ConfigError for what holds on to the past where the strategy has none, or would compare unlike things."""
    training, scoring = config.training, config.scoring
    if strategy.from_base and (training.regulariser or training.experts):
        raise ConfigError(
            f"strategy {strategy.name} is trained from the base model; "
            "training.regulariser and training.experts have nothing to hold on to there"
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


def lasting(path: Path) -> Path:
    """Where results stay, as an absolute path. A submitted job's working directory is deleted, so there it lies in the home."""
    path = path.expanduser()
    if not path.is_absolute() and "runtime_resources" in Path.cwd().parts:
        return Path.home() / "liit" / path
    return path.resolve()


def check_model(config: Config) -> None:
    """Raises ValueError, one line, when a model or its processor, or a score that is wanted, is not there."""
    from liit.engine import custom
    from liit.engine.models import load_processor
    from liit.engine.specification import profiler_spec

    strategies = [
        (catalog.get(each.strategy.name, each.clustering.vector), each.strategy.options) for each in config.phases()
    ]
    scores = tuple(name for strategy, options in strategies for name in strategy.scores_for(options))
    spec = profiler_spec(config, None, scores, tuple(name for strategy, _ in strategies for name in strategy.vectors))
    load_processor(spec.model, spec.revision)
    for model in (*spec.proxies(), *([spec.reference] if spec.reference else [])):
        load_processor(model)
    for name in set(spec.scores) & set(spec.custom):
        custom.load(name, spec.custom[name])


def check_files(config: Config) -> None:
    """Raises ValueError for a release or evaluation set whose files or image folder are not here."""
    if isinstance(config.stream, FileStream):
        for one in (*config.stream.releases, *config.stream.evaluations, *config.stream.targets):
            open_release(one)


def check_tracking(config: Config) -> None:
    """Raises ConfigError where MLflow is asked for and not installed."""
    if config.tracking.mlflow is not None and importlib.util.find_spec("mlflow") is None:
        raise ConfigError("tracking.mlflow needs MLflow: pip install 'liit[mlflow]', or leave the key out")


def say_plan(config: Config) -> None:
    """The plan: what each timestep will hold and about what it takes."""
    steps = forecast(config)
    table = Table(title=f"{config.name}: {config.strategy.name}, T={config.strategy.budget}, seed {config.seed}")
    for column in ("", "release", "new", "pool", "train on", "Mtokens", "sketches", "scoring h", "training h", "about"):
        table.add_column(column, justify="left" if column in ("", "release") else "right")
    for t, step in enumerate(steps):
        table.add_row(
            f"t{t}",
            step.release,
            f"{step.new:,}",
            f"{step.pool:,}",
            f"{step.selected:,}",
            f"{step.tokens / 1e6:.2f}",
            _bytes(step.sketch_bytes),
            f"{step.scoring_hours:.2f}",
            f"{step.training_hours:.2f}",
            duration(step.seconds),
        )
    console = Console(width=None if os.isatty(1) else 110)
    console.print(table)
    unit = "GPU" if config.resources.gpus_per_actor else "actor or worker"
    total = duration(sum(step.seconds for step in steps))
    console.print(
        f"Hours are {unit} hours at the stated throughput (`estimate`). About {total} in all → {config.output}"
    )


def _run(config: Config, store: Store) -> int:
    from liit.engine.ingest import TooManyBadSamples
    from liit.engine.lifelong import run

    try:
        results = run(config, store)
    except (TooManyBadSamples, ValueError) as error:
        log.error("stopped: %s", error)
        return FAILED
    finally:
        store.close()
        _disconnect()
    say_results(config, results)
    return 0


def _disconnect() -> None:
    import sys

    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def say_results(config: Config, results: dict[str, Any]) -> None:
    """The accuracy matrix, the figures over the stream, and where everything is."""
    console = Console(width=None if os.isatty(1) else 110)
    if "accuracy" in results:
        table = Table(title="value of each skill, percent")
        table.add_column("")
        skills = list(results["accuracy"][0])
        for skill in skills:
            table.add_column(skill, justify="right")
        table.add_column("mean", justify="right")
        for t, row in enumerate(results["accuracy"]):
            mean = sum(row.values()) / len(row)
            table.add_row(f"t{t} {results['releases'][t]}", *(f"{row[skill]:.1f}" for skill in skills), f"{mean:.1f}")
        console.print(table)
        for name in ("average_accuracy", "forgetting_rate", "relative_gain", "backward_transfer", "forward_transfer"):
            if results[name] is not None:
                console.print(f"{name.replace('_', ' ')}: {results[name]:.1f}")
    root, last = Path(config.output), len(results["releases"]) - 1
    console.print(f"report:  {root / 'report.html'}", soft_wrap=True)
    if last:
        console.print(f"adapter: {root / f't{last:02d}' / 'adapter'}", soft_wrap=True)


def begin(config: Config, store: Store) -> None:
    """Write the resolved configuration that replays the run, with version and commit; earlier results are removed until then."""
    for name in ("results.json", "report.html"):
        remove(store.root / name)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    with appearing(store.root / "config.yaml") as temporary:
        temporary.write_text(f"# LiIT {__version__}, commit {commit()}\n{text}", encoding="utf-8")


def commit() -> str:
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
