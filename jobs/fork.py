"""A run that shares another's past.

liit fork RUN --at 3 --output NEW [dotted.key=value ...]
"""

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def fork(
    run: Annotated[Path, typer.Argument(help="The run folder to start from.")],
    at: Annotated[int, typer.Option(min=0, help="The last timestep that both have in common.")],
    output: Annotated[Path, typer.Option(help="The new run folder.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="dotted.key=value, that hold after this timestep.")
    ] = None,
) -> None:
    """Start another run from a timestep of this one: everything until then is shared, and other settings hold after it."""
    from liit.engine.lasting.forking import fork as share_past
    from liit.engine.main import REFUSED, write_config
    from liit.engine.run.progress import log, start_logging

    start_logging()
    try:
        share_past(run, at, output, overrides or [], write_config)
    except ValueError as error:
        log.error("error: %s", error)
        raise typer.Exit(REFUSED) from error
    log.info(
        "%s has the timesteps 0 to %d of %s; `liit run %s/config.yaml` goes on from there", output, at, run, output
    )


if __name__ == "__main__":
    app()
