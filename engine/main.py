"""From the command line to a run: the configuration refused or settled, the plan said, the outcome printed."""

import logging
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.table import Table

from liit import __version__
from liit.engine.data.moving import move_images
from liit.engine.fleet.faults import told
from liit.engine.fleet.placing import decided
from liit.engine.lasting.continuing import continued, told_before, withdrawn_by
from liit.engine.lasting.until import named, reached
from liit.engine.plan import advice, console, plan, say
from liit.engine.preflight import check_files, check_model, check_quantised, check_tracking, check_weights
from liit.engine.run.files import appearing, remove
from liit.engine.run.planning import Plan, timestep_of
from liit.engine.run.progress import log, start_logging
from liit.engine.run.store import Reached, Store, StoreError
from liit.engine.run.superseding import supersede
from liit.engine.settings.config import Config, ConfigError
from liit.engine.settings.settling import settle

REFUSED, FAILED = 2, 1


@dataclass(frozen=True)
class Wanted:
    """What a command asks for. redo: whether finished results may be made anew; at: from this timestep on, what differs being
    settings from then on. until: `t4/selection`, as far as the run is to go."""

    arguments: list[str]
    output: str | None = None
    dry_run: bool = False
    redo: bool = False
    at: int | None = None
    until: str | None = None


def main(wanted: Wanted) -> int:
    """Run the job; the exit code: 0 done, 1 stopped by what is to be mended first, 2 refused before anything was started."""
    start_logging()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        until = named(wanted.until) if wanted.until else None
        config = continued(settle(wanted.arguments, wanted.output), wanted.at)
        found = plan(config, until)
        if wanted.redo and found.superseding:  # what is made anew is made of what may be used now
            config = withdrawn_by(config, found.first_superseded)
            found = plan(config, until)
        say(config, found, console())
        if until is not None:
            reached(until, found, config.stream.last)
        if wanted.dry_run:
            return 0
        check_weights(config)
        if found.blocking and not _may_be_made_anew(found, wanted):
            for line in advice(found, config):
                log.error("%s", line)
            return REFUSED
        check_model(config)
        check_files(config)
        check_tracking(config)
        check_quantised(config)
        store = Store(config.output, until)
    except (ConfigError, StoreError, ValueError, OSError) as error:
        log.error("error: %s", error)
        return REFUSED
    return _run(config, store, found)


def _may_be_made_anew(found: Plan, wanted: Wanted) -> bool:
    """`--redo t3` says so of t3 and what comes after it alone."""
    return wanted.redo and (wanted.at is None or all(timestep_of(name) >= wanted.at for name in found.blocking))


def _run(config: Config, store: Store, found: Plan) -> int:
    from liit.engine.lifelong import run

    try:
        if found.works:
            config = config.model_copy(update={"resources": decided(config.resources)})
        begin(config, store, found)
        results = run(config, store)
    except Reached as end:
        log.info("%s is there, as far as --until says; the same command without it goes on", store.root / str(end))
        return 0
    except Exception as error:  # Ray's and Ray Train's errors, and whatever they wrap
        say_stopped(error, store.root)
        return FAILED
    finally:
        store.close()
        _disconnect()
    say_results(config, results)
    return 0


def say_stopped(error: Exception, root: Path) -> None:
    """One line of what the user is to mend. Raises the error where it is not theirs."""
    from liit.engine.data.ingest import TooManyBadSamples

    line = str(error) if isinstance(error, TooManyBadSamples) else told(error, root)
    if line is None:
        raise error
    log.error("stopped: %s", line)


def _disconnect() -> None:
    import sys

    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


def say_results(config: Config, results: dict[str, Any]) -> None:
    """The accuracy matrix, the figures over the stream, and where everything is."""
    screen = console()
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
        screen.print(table)
        for name in ("average_accuracy", "forgetting_rate", "relative_gain", "backward_transfer", "forward_transfer"):
            if results[name] is not None:
                screen.print(f"{name.replace('_', ' ')}: {results[name]:.1f}")
    root, last = Path(config.output), len(results["releases"]) - 1
    screen.print(f"report:  {root / 'report.html'}", soft_wrap=True)
    stands = results.get("gate", {}).get("stands", [last])[-1]
    if stands:
        screen.print(f"adapter: {root / f't{stands:02d}' / 'adapter'}", soft_wrap=True)
    elif last:
        screen.print("adapter: none stands by training.gate; the model of t0 does")


def begin(config: Config, store: Store, found: Plan | None = None) -> None:
    """Keep the run as it stood, where some of it is made anew or judged otherwise; then write the resolved configuration that
    replays the run, with version and commit. Its end writes results.json anew.

    found: what is to be done, where it is known.
    """
    found = found or plan(config)
    store.kept = supersede(store.root, found.superseding, found.retelling)
    store.sealed = True
    remove(store.root / "results.json")
    before = told_before(store.root)
    if before is not None:
        move_images(store.root, Path(before.output))
    write_config(config, store.root)


def write_config(config: Config, root: Path) -> None:
    """The resolved configuration of a run, into its folder."""
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    with appearing(root / "config.yaml") as temporary:
        temporary.write_text(f"# LiIT {__version__}, commit {commit()}\n{text}", encoding="utf-8")


def commit() -> str:
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
