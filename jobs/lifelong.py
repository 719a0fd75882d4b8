"""The main job: teach a model a stream of instruction data sets. The command's name for it is `liit run`.

python jobs/lifelong.py [CONFIG.yaml] [dotted.key=value ...] [--output DIR] [--dry-run]
ray job submit --working-dir . -- python jobs/lifelong.py
"""

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

Arguments = Annotated[
    list[str] | None,
    typer.Argument(help="A YAML configuration (default: jobs/configs/digits.yaml) and dotted.key=value overrides."),
]
Output = Annotated[str | None, typer.Option(help="The run folder; an existing one is continued.")]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def lifelong(
    arguments: Arguments = None,
    output: Output = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="The same as `liit plan`.")] = False,
) -> None:
    """Teach a model a stream of instruction data sets: score, cluster, select, train, evaluate, prune, release by release."""
    from liit.engine.main import main

    raise typer.Exit(main(arguments or [], output, dry_run))


def plan(arguments: Arguments = None, output: Output = None) -> None:
    """Say what a run will do and about what it takes; nothing is started."""
    lifelong(arguments, output, dry_run=True)


if __name__ == "__main__":
    app()
