"""The main job: teach a model a stream of instruction data sets. The command's name for it is `liit run`.

python jobs/lifelong.py [CONFIG.yaml] [dotted.key=value ...] [--output DIR] [--dry-run] [--redo all] [--until t4/selection]
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
ALL = "all"
Redo = Annotated[
    str | None,
    typer.Option(
        help="Make anew what other settings, files or rules made: `all`, or from a timestep on, as `t3`, from which changed "
        "settings hold then. What is there is kept in superseded/.",
    ),
]
Until = Annotated[str | None, typer.Option(help="Stop when this is there, such as t4/selection.")]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def lifelong(
    arguments: Arguments = None,
    output: Output = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="The same as `liit plan`.")] = False,
    redo: Redo = None,
    until: Until = None,
) -> None:
    """Teach a model a stream of instruction data sets: score, cluster, select, train, evaluate, prune, release by release."""
    from liit.engine.freeing import free_at_once

    free_at_once()
    from liit.engine.main import REFUSED, Wanted, main

    try:
        at = timestep_of(redo)
    except ValueError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(REFUSED) from error
    raise typer.Exit(main(Wanted(arguments or [], output, dry_run, redo is not None, at, until)))


def plan(arguments: Arguments = None, output: Output = None, redo: Redo = None, until: Until = None) -> None:
    """Say what a run will keep, do and make anew, why, and about what it takes; nothing is started."""
    lifelong(arguments, output, dry_run=True, redo=redo, until=until)


def timestep_of(redo: str | None) -> int | None:
    """Of `--redo t3`. Raises ValueError for another word."""
    if redo in (None, ALL):
        return None
    if not (redo or "").removeprefix("t").isdigit() or int(str(redo).removeprefix("t")) < 1:
        raise ValueError(f"--redo {redo}: name a timestep from t1 on, such as t3, or `{ALL}`")
    return int(str(redo).removeprefix("t"))


if __name__ == "__main__":
    app()
