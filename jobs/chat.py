"""Conversations in turns with the models of finished runs, at every timestep, side by side (Adapt-∞, Figs. 6 to 8).

python jobs/chat.py RUN [RUN ...] [--conversations FILE --images FOLDER] [--output docs/results/chat]
"""

import logging
import shlex
import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def chat(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.")],
    conversations: Annotated[
        Path | None,
        typer.Option(
            help="LLaVA JSON whose rows have `turns`, skill and metric of each answer. Default: some about the digits."
        ),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of their images. Default: where the file is.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Of the digits: how many.")] = 40,
    output: Annotated[Path, typer.Option(help="Pages to write: .md and .html are added.")] = Path("runs/chat"),
) -> None:
    """Hold the same conversations with the model of every timestep of every run, and show them side by side."""
    from liit.engine.comparison.chat import converse
    from liit.engine.comparison.chat_page import write_chat
    from liit.engine.data.digits.chatting import write_conversations
    from liit.engine.data.ingest import TooManyBadSamples
    from liit.engine.main import REFUSED
    from liit.engine.run.progress import log, start_logging
    from liit.engine.settings.settling import lasting
    from liit.engine.settings.streams import Release

    start_logging()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    output, named = lasting(output), {run.resolve().name: run for run in runs}
    if len(named) < len(runs):
        log.error("error: two of these runs have the same folder name, by which they are shown; rename one")
        raise typer.Exit(REFUSED)
    if conversations is None:
        talk = write_conversations(output.with_name(f"{output.name}-conversations"), count)
    else:
        talk = Release(name="conversations", path=str(conversations), images=None if images is None else str(images))
    try:
        said = {name: converse(run.resolve(), talk) for name, run in named.items()}
        write_chat(said, named, output, shlex.join(["python", "jobs/chat.py", *sys.argv[1:]]))
    except (ValueError, OSError, TooManyBadSamples) as error:
        log.error("error: %s", error)
        raise typer.Exit(REFUSED) from error
    finally:
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()


if __name__ == "__main__":
    app()
