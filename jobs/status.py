"""How far a run is, from its folder alone.

liit status RUN
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

if TYPE_CHECKING:
    from liit.engine.run.status import Stage, Status

UNFINISHED, NO_RUN = 3, 2
MARKS = {"done": "✓", "running": "▶", "stopped": "‖", "failed": "✗", "to come": "·", "not needed": "-"}
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def status(run: Annotated[Path, typer.Argument(help="The run folder.")]) -> None:
    """Say how far a run is, from its folder alone: every stage done, running or to come. Exit code 0 done, 3 unfinished."""
    from liit.engine.run.status import status as read_status

    try:
        found = read_status(run)
    except ValueError as error:
        typer.echo(f"error: {error}")
        raise typer.Exit(NO_RUN) from error
    say(found)
    raise typer.Exit(0 if found.finished else UNFINISHED)


def say(found: "Status") -> None:
    """A row for each timestep, a column for each stage, then what is not done and since when."""
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.table import Table

    from liit.engine.evaluation.gate import verdicts_of
    from liit.engine.run.reading import Run
    from liit.engine.run.status import STAGES

    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table(title=f"{found.name} in {found.root}", title_justify="left")
    for column in ("", "release", *STAGES):
        table.add_column(column, justify="left" if column in ("", "release") else "right")
    for t, release in enumerate(found.releases):
        own = {stage.name: stage for stage in found.stages if stage.timestep == t}
        table.add_row(f"t{t}", release, *(_cell(own[name]) for name in STAGES))
    console.print(table)
    console.print("✓ done, rows and seconds   ▶ running   ‖ stopped   ✗ failed   · to come   - not needed")
    now = datetime.now(UTC)
    for stage in found.stages:
        if stage.since is not None:
            where = stage.name if stage.timestep is None else f"t{stage.timestep} {stage.name}"
            ago = (now - stage.since).total_seconds()
            console.print(
                f"{where}: {stage.state} since {stage.since:%Y-%m-%d %H:%M:%S} UTC ({ago:.0f} s) {stage.note}"
            )
    for at, row in Run(found.root).refreshed.iterrows():
        why = ", ".join(f"{row[name]:,} {name}" for name in row.index[2:] if row[name])
        console.print(f"t{at} score: {row['scored']:,} of {row['samples']:,} samples: {why}", soft_wrap=True)
    for verdict in verdicts_of(Run(found.root)):
        if verdict.falls:
            console.print(str(verdict), soft_wrap=True)
    total = sum(stage.seconds for stage in found.stages)
    console.print(f"{total:.0f} seconds of work so far")
    if found.finished:
        console.print(f"finished: {found.root / 'report.html'}", soft_wrap=True)
    elif found.alive:
        console.print(f"at work on {found.waiting}")
    else:
        console.print(
            f"unfinished, and no process is at work on it; next: {found.waiting}. The same command continues it."
        )


def _cell(stage: "Stage") -> str:
    rows = f" {stage.rows:,}" if stage.rows is not None else ""
    seconds = f" {stage.seconds:.0f}s" if stage.seconds >= 0.5 else ""
    return f"{MARKS[stage.state]}{rows}{seconds}"


if __name__ == "__main__":
    app()
