"""The main job: teach a model a stream of instruction data sets.

python jobs/lifelong.py [CONFIG.yaml] [dotted.key=value ...] [--output DIR] [--dry-run]
ray job submit --working-dir . -- python jobs/lifelong.py
"""

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

from liit.engine.main import main

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def lifelong(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="A YAML configuration (default: jobs/configs/digits.yaml) and dotted.key=value overrides."),
    ] = None,
    output: Annotated[str | None, typer.Option(help="The run folder; an existing one is continued.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Validate, print the plan and its cost, do nothing.")
    ] = False,
) -> None:
    """Teach a model a stream of instruction data sets: score, cluster, select, train, evaluate, prune, release by release."""
    raise typer.Exit(main(arguments or [], output, dry_run))


if __name__ == "__main__":
    app()
