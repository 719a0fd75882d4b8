"""From the command line to a run: the configuration refused or settled, the plan said, the outcome printed."""

import logging
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from liit import __version__
from liit.engine.forecast import forecast
from liit.engine.preflight import check_files, check_model, check_tracking
from liit.engine.run.files import appearing, remove
from liit.engine.run.progress import log, start_logging
from liit.engine.run.store import Store, StoreError
from liit.engine.settings.config import Config, ConfigError
from liit.engine.settings.settling import settle

REFUSED, FAILED = 2, 1


def main(arguments: list[str], output: str | None, dry_run: bool) -> int:
    """Run the job; the exit code: 0 done, 1 stopped by bad data or in training, 2 refused before anything was started."""
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
            size(step.sketch_bytes),
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
    from liit.engine.data.ingest import TooManyBadSamples
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
    stands = results.get("gate", {}).get("stands", [last])[-1]
    if stands:
        console.print(f"adapter: {root / f't{stands:02d}' / 'adapter'}", soft_wrap=True)
    elif last:
        console.print("adapter: none stands by training.gate; the model of t0 does")


def begin(config: Config, store: Store) -> None:
    """Write the resolved configuration that replays the run, with version and commit; its end writes results.json anew."""
    remove(store.root / "results.json")
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


def size(count: float) -> str:
    """So many bytes, in words."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
