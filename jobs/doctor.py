"""Whether a cluster can carry a run: what goes wrong there, looked for before it does.

python jobs/doctor.py [CONFIG.yaml] [dotted.key=value ...]
ray job submit --working-dir . -- python jobs/doctor.py
"""

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def doctor(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="The run's YAML configuration (default: jobs/configs/digits.yaml) and dotted.key=value."),
    ] = None,
) -> None:
    """Ask every node of the cluster what a run needs there: a line for each thing, fine or what to do. Nothing is trained.

    The exit code is 0 where all is fine, 1 where something is to do, 2 for a configuration that is refused.
    """
    from liit.engine.health.doctor import consult  # Ray and torch take seconds; help needs neither

    raise typer.Exit(consult(arguments or []))


if __name__ == "__main__":
    app()
