"""A comparison carried out: the cells that are missing run one after the other, then the tables of all that are there."""

import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from liit.engine.comparison.cells import Cell, cells, kept, read_comparison, run_cell
from liit.engine.comparison.contrast import Contrast
from liit.engine.comparison.contrast_page import write_contrast
from liit.engine.fleet.faults import told
from liit.engine.forecast import forecast
from liit.engine.main import FAILED, REFUSED
from liit.engine.run.progress import duration, log, start_logging
from liit.engine.settings.config import ConfigError, located
from liit.engine.settings.settling import JOBS, lasting

SHIPPED = JOBS / "comparisons"


@dataclass(frozen=True)
class Wanted:
    """What of a comparison is wanted, and where."""

    arguments: list[str]
    """The comparison's file, and overrides for all of its cells."""
    methods: list[str]
    seeds: list[int]
    results: Path
    output: Path
    tables: bool = False
    """Run nothing."""
    dry_run: bool = False


def compare(wanted: Wanted) -> tuple[int, Contrast | None]:
    """The exit code, and what the cells that are there say; one that fails is named at the end, and stops no other."""
    start_logging()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    results, output = lasting(wanted.results), lasting(wanted.output)
    files = [argument for argument in wanted.arguments if "=" not in argument]
    overrides = [argument for argument in wanted.arguments if "=" in argument]
    try:
        comparison = read_comparison(located(files[0] if files else "digits.yaml", SHIPPED))
        every = cells(comparison, overrides, wanted.methods, wanted.seeds)
        missing = [cell for cell in every if not kept(cell, results)]
        whole = cells(comparison, overrides, [], [])
        current, passes = {cell.name: cell.settings for cell in whole}, {cell.method: cell.passes() for cell in whole}
        _say_plan(every, missing, results)
    except (ConfigError, ValueError) as error:
        log.error("error: %s", error)
        return REFUSED, None
    if wanted.dry_run:
        return 0, None
    failed = [] if wanted.tables else _run_all(missing, output, results, comparison.recovers)
    contrast = write_contrast(results, output, comparison, current, passes)
    if failed:
        log.error("stopped: %s", "; ".join(failed))
    return FAILED if failed else 0, contrast


def _run_all(missing: list[Cell], output: Path, results: Path, recovers: str | None) -> list[str]:
    """Run cell after cell; those that failed, and why."""
    failed = []
    try:
        for number, cell in enumerate(missing):
            began = time.monotonic()
            log.info("cell %d of %d: %s", number + 1, len(missing), cell.name)
            try:
                run_cell(cell, output, results, recovers)
            except Exception as error:  # Ray's and Ray Train's errors share no narrower type
                line = told(error, output / cell.name)
                if line is None:
                    log.exception("cell %s failed", cell.name)
                failed.append(f"{cell.name}: {line or (str(error).splitlines() or [type(error).__name__])[0]}")
                continue
            log.info("cell %s: %s", cell.name, duration(time.monotonic() - began))
    finally:
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
    return failed


def _say_plan(every: list[Cell], missing: list[Cell], results: Path) -> None:
    seconds = {cell.name: sum(step.seconds for step in forecast(cell.config)) for cell in missing}
    log.info(
        "%d cells, %d of them in %s; about %s for the rest",
        len(every),
        len(every) - len(missing),
        results,
        duration(sum(seconds.values())),
    )
    for name, took in seconds.items():
        log.info("  %s: about %s", name, duration(took))
