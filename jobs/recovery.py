"""Which data brings a lost skill back, with seeds (Adapt-∞, Fig. 9): the last timestep of a sequential run, chosen in five ways.

python jobs/recovery.py [COMPARISON.yaml] [dotted.key=value ...] [--methods random] [--seeds 0] [--dry-run]
"""

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

from liit.jobs.compare import DryRun, Methods, Output, Results, Seeds, Tables, compare

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def recovery(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="A comparison (default: jobs/comparisons/recovery.yaml) and dotted.key=value overrides for all."
        ),
    ] = None,
    methods: Methods = None,
    seeds: Seeds = None,
    results: Results = Path("docs/results/recovery"),
    output: Output = Path("runs/recovery"),
    tables: Tables = False,
    dry_run: DryRun = False,
) -> None:
    """Compare which data brings a lost skill back (Adapt-∞, Fig. 9); the sequential timesteps are run once for each seed."""
    arguments = arguments or []
    if all("=" in argument for argument in arguments):
        arguments = ["recovery.yaml", *arguments]
    compare(arguments, methods, seeds, results, output, tables, dry_run)


if __name__ == "__main__":
    app()
