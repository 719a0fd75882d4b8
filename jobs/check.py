"""Look at the data of a run before anything is computed: what would be read, refused, repaired, and what a model would see.

python jobs/check.py [CONFIG.yaml] [dotted.key=value ...] [--sample N]
"""

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def check(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="A YAML configuration (default: jobs/configs/digits.yaml) and dotted.key=value overrides."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Look at so many rows of each set; by default at all.")
    ] = None,
) -> None:
    """Say what a run would make of its data: 0 it would go on, 1 it would stop, 2 refused before anything is read."""
    from liit.engine.data.checking import check as look
    from liit.engine.main import FAILED, REFUSED
    from liit.engine.preflight import check_files, check_model
    from liit.engine.run.progress import log, start_logging
    from liit.engine.settings.settling import settle

    start_logging()
    try:
        config = settle(arguments or [], None)
        check_model(config)
        check_files(config)
    except ValueError as error:
        log.error("error: %s", error)
        raise typer.Exit(REFUSED) from error
    raise typer.Exit(0 if look(config, sample, typer.echo) else FAILED)


if __name__ == "__main__":
    app()
