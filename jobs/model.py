"""Hand on the model of a run: a PEFT adapter or merged weights, with processor and model card, in a folder that others load.

python jobs/model.py RUN --output FOLDER [--timestep 3] [--merged] [--base NAME]
"""

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

if TYPE_CHECKING:
    from liit.engine.handing.handing_on import Handed

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def model(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    output: Annotated[Path, typer.Option(help="The folder to write; it must not exist, or be empty.")],
    timestep: Annotated[int | None, typer.Option(help="Default: the last that has an adapter.")] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="Weights of its own, in the type of the base, instead of an adapter.")
    ] = False,
    base: Annotated[
        str | None, typer.Option(help="The name that others load the base model by. Default: the run's hub id.")
    ] = None,
) -> None:
    """Write the model of a run as others load it: adapter or merged weights, processor, generation settings, model card."""
    from liit.engine.handing.handing_on import hand_on
    from liit.engine.main import REFUSED
    from liit.engine.run.progress import log, start_logging
    from liit.engine.settings.settling import lasting

    start_logging()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        handed = hand_on(run.expanduser(), lasting(output), timestep, merged, base)
    except (ValueError, OSError) as error:
        log.error("error: %s", error)
        raise typer.Exit(REFUSED) from error
    say(handed)


def say(handed: "Handed") -> None:
    """What the cast of merged weights lost, what servers would make of an adapter, and where it is."""
    from liit.engine.run.progress import log

    cast = handed.cast
    if cast is not None and not cast.lost and not cast.error:
        log.info("merged in float32: the cast to %s, which the base is stored in, lost nothing", cast.dtype)
    elif cast is not None:
        lost, error = 100 * cast.lost_share, 100 * cast.error
        log.info(
            "merged in float32, cast to %s: it loses %.1f %% of %d updated weights,", cast.dtype, lost, cast.updated
        )
        log.info("and adds %.1f %% of the update's norm where it adds most, in %s", error, cast.where)
    for line in handed.warnings:
        log.warning("%s", line)
    log.info("model of t%d: %s", handed.t, handed.folder)


if __name__ == "__main__":
    app()
