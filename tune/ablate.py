"""Ablations: a grid of settings as Ray Tune trials, a table of what each gave, and the best as a configuration.

python tune/ablate.py STUDY [key=value ...] [--profile RUN/t03/profile] [--output DIR] [--dry-run]
"""

import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))

import typer

if TYPE_CHECKING:
    from liit.tune.spaces import Study

SHIPPED = sorted(path.stem for path in (Path(__file__).resolve().parent / "studies").glob("*.yaml"))
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def ablate(
    study: Annotated[str, typer.Argument(help=f"A YAML file, or one of {', '.join(SHIPPED)}.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="space.KEY=[...], fixed.KEY=..., metric=...")] = None,
    profile: Annotated[
        Path | None, typer.Option(help="Of a selection study: a run's tNN/profile; by default the newest below runs/.")
    ] = None,
    budget: Annotated[int, typer.Option(help="Of a selection study: samples to choose.")] = 360,
    output: Annotated[Path, typer.Option(help="Folder of the study; one that is there is continued.")] = Path(
        "runs/studies"
    ),
    cells: Annotated[
        Path | None,
        typer.Option(help="Of a training study: a comparison's cells; one of the same settings is not run again."),
    ] = None,
    at_once: Annotated[int, typer.Option(help="Trials at a time.")] = 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say the trials, do nothing.")] = False,
) -> None:
    """Run a study of settings as Ray Tune trials; the same command continues one that was stopped."""
    from liit.engine.run.progress import log, start_logging
    from liit.engine.settings.config import ConfigError
    from liit.engine.settings.settling import lasting
    from liit.tune.outcome import Outcome
    from liit.tune.spaces import read_study

    start_logging()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    try:
        chosen = read_study(study, overrides or [])
        source = _profile(profile) if chosen.kind == "selection" else None
        trials = chosen.trials()
        log.info("%s: %d trials over %s → %s", Path(study).stem, len(trials), ", ".join(chosen.space), output)
        if dry_run:
            return
        folder = lasting(output) / Path(study).stem
        found = _run(chosen, source, budget, folder, at_once, cells)
    except (ConfigError, ValueError) as error:
        log.error("error: %s", error)
        raise typer.Exit(2) from error
    Outcome(chosen, found, source).write(folder)
    failed = len(trials) - len(found)
    if failed:
        log.error("stopped: %d trials failed; the same command tries them again", failed)
        raise typer.Exit(1)


def _run(
    study: "Study", source: Path | None, budget: int, folder: Path, at_once: int, cells: Path | None
) -> list[dict[str, Any]]:
    """Settings and figures of every finished trial."""
    from liit.engine.fleet.connect import connect
    from liit.engine.run.progress import log
    from liit.engine.settings.sections import Resources
    from liit.tune.runner import run_trials

    connect(Resources())
    import ray

    began = time.monotonic()
    try:
        found = run_trials(study, source, budget, folder, at_once, cells)
    finally:
        ray.shutdown()
    seconds = time.monotonic() - began
    log.info("%d trials in %.0f s, %.1f a minute", len(found), seconds, 60 * len(found) / seconds)
    return found


def _profile(given: Path | None) -> Path:
    """Raises ConfigError where there is none."""
    from liit.engine.settings.config import ConfigError

    found = [given] if given else sorted(Path("runs").glob("**/t*/profile"), key=lambda path: path.stat().st_mtime)
    usable = [path for path in found if (path / "columns.json").is_file()]
    if not usable:
        raise ConfigError(
            f"no finished profile {given or 'below runs/'}; run jobs/lifelong.py first, or pass --profile"
        )
    return usable[-1].resolve()


if __name__ == "__main__":
    app()
