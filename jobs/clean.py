"""Room on disk.

liit clean RUN [--withdrawn] [--dry-run]
"""

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def clean(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    withdrawn: Annotated[
        bool,
        typer.Option("--withdrawn", help="Erase the text, images and answers of withdrawn samples, and nothing else."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and how large it is.")] = False,
) -> None:
    """Delete what other settings had made and what can be made again; no adapter, selection, answer or result that stands."""
    from rich.console import Console
    from rich.table import Table

    from liit.engine.lasting.cleaning import clean as let_go
    from liit.engine.lasting.cleaning import leaving
    from liit.engine.main import REFUSED
    from liit.engine.run.progress import log, size, start_logging

    start_logging()
    try:
        if withdrawn:
            erase_withdrawn(run, dry_run)
            return
        found = leaving(run)
        table = Table(title=f"{run}: {size(sum(one.bytes for one in found))}", title_justify="left")
        for column in ("kind", "timestep", "folder or file", "frees"):
            table.add_column(column, justify="right" if column == "frees" else "left")
        for one in found:
            step = "" if one.timestep is None else f"t{one.timestep}"
            table.add_row(one.kind, step, str(one.path.relative_to(run.resolve())), size(one.bytes))
        Console(width=None if sys.stdout.isatty() else 120).print(table)
        if not dry_run:
            let_go(run, found)
            log.info("%d gone", len(found))
    except ValueError as error:
        log.error("error: %s", error)
        raise typer.Exit(REFUSED) from error


def erase_withdrawn(run: Path, dry_run: bool) -> None:
    """Say what is withdrawn, and erase it."""
    from liit.engine.lasting.erasing import erase, pictures_outside, withdrawn_of
    from liit.engine.run.progress import log
    from liit.engine.run.reading import open_run

    gone = withdrawn_of(run)
    for name, why in list(gone.items())[:20]:
        log.info("withdrawn: %s%s", name, f" ({why})" if why else "")
    taught = set(open_run(run).releases)
    asked = sum(name.partition("/")[0] not in taught for name in gone)
    log.info("%d samples of the releases are withdrawn", len(gone) - asked)
    if asked:
        log.info("and %d questions of evaluation sets: their marks stay, and they are asked no more", asked)
    for path, count in pictures_outside(run, gone).items():
        log.warning("%s: %d pictures of what is withdrawn are in this file, which is yours to change", path, count)
    for path, count in ({} if dry_run else erase(run)).items():
        log.info("%s: %d rows erased", path.relative_to(run.resolve()), count)


if __name__ == "__main__":
    app()
