"""Evaluate any model on the evaluation sets of a configuration: a folder or hub id, an adapter, experts.

python jobs/evaluate.py MODEL [CONFIG.yaml] [dotted.key=value ...] [--beside RUN] [--output FOLDER]
"""

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

if TYPE_CHECKING:
    from liit.engine.run.reading import Run

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def evaluate(
    model: Annotated[
        str, typer.Argument(help="A model's folder or hub id, or the folder of an adapter, such as RUN/t03/adapter.")
    ],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="A YAML configuration (default: jobs/configs/digits.yaml) and dotted.key=value overrides."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of evaluation.json and answers.parquet. Default: beside the run's.")
    ] = None,
    beside: Annotated[Path | None, typer.Option(help="A finished run, whose table is shown beside it.")] = None,
    base: Annotated[str | None, typer.Option(help="Of an adapter: where its base lies.")] = None,
) -> None:
    """Evaluate any model on the evaluation sets of a configuration, and show it beside the timesteps of a run."""
    from liit.engine.any_model import examine, examined
    from liit.engine.main import FAILED, REFUSED, say_stopped
    from liit.engine.models.loading import load_processor
    from liit.engine.preflight import check_files
    from liit.engine.run.progress import log, start_logging
    from liit.engine.run.reading import open_run
    from liit.engine.run.store import Store
    from liit.engine.settings.settling import lasting, settle

    start_logging()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        config = settle(arguments or [], None)
        what = examined(model, config, base)
        told = what.config.model
        load_processor(
            told.path, told.revision, told.template()
        )  # a model that is not there is refused before Ray starts
        check_files(config)
        run = None if beside is None else open_run(beside)
        if run is not None and not run.accuracy.size:
            raise ValueError(f"{beside} has no table to stand beside")
        default = Path(config.output).with_name(f"{Path(config.output).name}-evaluated") / what.name
        store = Store(default if output is None else lasting(output))
    except (ValueError, OSError) as error:
        log.error("error: %s", error)
        raise typer.Exit(REFUSED) from error
    try:
        summary = examine(what, store)
    except Exception as error:  # Ray's errors, and whatever they wrap
        say_stopped(error, store.root)
        raise typer.Exit(FAILED) from error
    finally:
        store.close()
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
    say(what.name, summary, run)
    if run is not None:
        say_what_differs(summary, run)
    log.info("evaluation: %s", store.root / "t00" / "evaluation.json")


def say(name: str, summary: dict[str, Any], run: "Run | None") -> None:
    """The value of each skill, below those of the run's timesteps where there is one."""
    from rich.console import Console
    from rich.table import Table

    values = {skill: entry["value"] for skill, entry in summary.items() if entry["value"] is not None}
    rows: list[tuple[str, dict[str, float]]] = []
    if run is not None:
        known = run.accuracy.to_dict(orient="index")
        rows = [(f"t{t} {run.releases[int(str(t))]}", {str(k): v for k, v in row.items()}) for t, row in known.items()]
    table = Table(title="value of each skill, percent")
    table.add_column("")
    for column in (*values, "mean"):
        table.add_column(column, justify="right")
    for label, own in [*rows, (name, values)]:
        shared = [own.get(skill) for skill in values]
        there = [value for value in shared if value is not None]
        mean = f"{sum(there) / len(there):.1f}" if there and len(there) == len(shared) else "-"
        table.add_row(label, *("-" if value is None else f"{value:.1f}" for value in shared), mean)
    Console(width=None if os.isatty(1) else 110).print(table)


def say_what_differs(summary: dict[str, Any], run: "Run") -> None:
    """Data sets of the model that the run was not examined on, or by another metric or number of samples."""
    from liit.engine.any_model import other_sets
    from liit.engine.run.progress import log

    if other := other_sets(summary, run):
        log.warning("%s was not evaluated so on %s: these values are not to be compared", run.root, ", ".join(other))


if __name__ == "__main__":
    app()
