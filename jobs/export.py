"""Write the samples of a selection as LLaVA JSON, ShareGPT for LLaMA-Factory, ms-swift's JSON Lines, or TRL's Parquet.

python jobs/export.py --run RUN --timestep 3 --format sharegpt --output FOLDER [--copy-images]
"""

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def export(
    run: Annotated[Path, typer.Option(help="The run folder.")],
    format: Annotated[str, typer.Option(help="One of: llava, sharegpt, swift, trl.")],
    output: Annotated[str, typer.Option(help="The folder to write to, or s3://bucket/folder.")],
    timestep: Annotated[int | None, typer.Option(help="Export RUN/tNN/selection.parquet.")] = None,
    selection: Annotated[Path | None, typer.Option(help="Export the ids of this Parquet file instead.")] = None,
    copy_images: Annotated[
        bool, typer.Option("--copy-images", help="Copy all images below FOLDER/images, instead of absolute paths.")
    ] = False,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Leave out samples that the format cannot hold, instead of refusing.")
    ] = False,
) -> None:
    """Write the samples of a selection as another trainer reads them."""
    from liit.engine.data import exporting
    from liit.engine.main import REFUSED
    from liit.engine.run.progress import log, start_logging

    start_logging()
    try:
        if (timestep is None) == (selection is None):
            raise ValueError("what to export is not clear: give either --timestep or --selection")
        chosen = selection if selection is not None else run / f"t{timestep:02d}" / "selection.parquet"
        name = chosen.stem if selection is not None else f"{run.resolve().name}-t{timestep:02d}"
        done = exporting.export(run, chosen, format, name, output, copy_images, leave_out)
    except (ValueError, OSError) as error:
        log.error("error: %s", error)
        raise typer.Exit(REFUSED) from error
    for kind in exporting.told(done.kinds):
        log.warning("left out, %s", kind)
    for kind in exporting.told(done.changed):
        log.warning("written as it is, %s", kind)
    if done.left_out:
        log.warning("%d samples left out, which %s cannot hold", done.left_out, format)
    log.info("%s: %d samples with %d images, %d image files written", done.path, done.samples, done.images, done.files)
    if format == "sharegpt":
        log.info("LLaMA-Factory: dataset_dir: %s, dataset: %s", done.path.parent, done.path.stem)


if __name__ == "__main__":
    app()
