"""Methods side by side, with seeds: every cell a run, every finished one a small JSON, and from them tables and a figure.

python jobs/compare.py [COMPARISON.yaml] [dotted.key=value ...] [--methods A --methods B] [--seeds 0] [--dry-run]
"""

import logging
import sys
import time
from pathlib import Path
from typing import Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))

import typer

from liit.engine.comparison.cells import Cell, cells, kept, read_comparison, run_cell
from liit.engine.comparison.contrast import Contrast
from liit.engine.comparison.contrast_page import write_contrast
from liit.engine.forecast import forecast
from liit.engine.main import duration
from liit.engine.run.progress import log, start_logging
from liit.engine.settings.config import ConfigError, located
from liit.engine.settings.settling import lasting

Methods = Annotated[list[str] | None, typer.Option(help="Only these, in this order.")]
Seeds = Annotated[list[int] | None, typer.Option(help="Only these.")]
Results = Annotated[Path, typer.Option(help="Folder of the cells' JSON; tables go beside it.")]
Output = Annotated[Path, typer.Option(help="Folder of the runs.")]
Tables = Annotated[bool, typer.Option("--tables", help="Write the tables of what is there, run nothing.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be run and how long it takes.")]
SHIPPED = Path(__file__).resolve().parent / "comparisons"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def compare(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="A comparison (default: jobs/comparisons/digits.yaml) and dotted.key=value overrides for all."
        ),
    ] = None,
    methods: Methods = None,
    seeds: Seeds = None,
    results: Results = Path("docs/results/digits"),
    output: Output = Path("runs/compare"),
    tables: Tables = False,
    dry_run: DryRun = False,
) -> Contrast | None:
    """Run the cells that are missing, then write the tables."""
    start_logging()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    arguments, results, output = arguments or [], lasting(results), lasting(output)
    files = [argument for argument in arguments if "=" not in argument]
    try:
        comparison = read_comparison(located(files[0] if files else "digits.yaml", SHIPPED))
        overrides = [argument for argument in arguments if "=" in argument]
        every = cells(comparison, overrides, methods or [], seeds or [])
        missing = [cell for cell in every if not kept(cell, results)]
        whole = cells(comparison, overrides, [], [])
        current, passes = {cell.name: cell.settings for cell in whole}, {cell.method: cell.passes() for cell in whole}
        _say_plan(every, missing, results)
    except (ConfigError, ValueError) as error:
        log.error("error: %s", error)
        raise typer.Exit(2) from error
    if dry_run:
        return None
    failed = [] if tables else _run_all(missing, output, results, comparison.recovers)
    contrast = write_contrast(results, output, comparison, current, passes)
    if failed:
        log.error("stopped: %s", "; ".join(failed))
        raise typer.Exit(1)
    return contrast


def _run_all(missing: list[Cell], output: Path, results: Path, recovers: str | None) -> list[str]:
    """Run cell after cell; one that fails is named at the end and does not keep the others from running."""
    failed = []
    try:
        for number, cell in enumerate(missing):
            began = time.monotonic()
            log.info("cell %d of %d: %s", number + 1, len(missing), cell.name)
            try:
                run_cell(cell, output, results, recovers)
            except Exception as error:  # Ray's and Ray Train's errors share no narrower type
                log.exception("cell %s failed", cell.name)
                failed.append(f"{cell.name}: {(str(error).splitlines() or [type(error).__name__])[0]}")
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


if __name__ == "__main__":
    app()
