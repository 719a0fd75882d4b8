"""Methods side by side, with seeds: every cell a run, every finished one a small JSON, and from them tables and a figure.

python jobs/compare.py [COMPARISON.yaml] [dotted.key=value ...] [--methods A --methods B] [--seeds 0] [--dry-run]
"""

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

Methods = Annotated[list[str] | None, typer.Option(help="Only these, in this order.")]
Seeds = Annotated[list[int] | None, typer.Option(help="Only these.")]
Results = Annotated[Path, typer.Option(help="Folder of the cells' JSON; tables go beside it.")]
Output = Annotated[Path, typer.Option(help="Folder of the runs.")]
Tables = Annotated[bool, typer.Option("--tables", help="Write the tables of what is there, run nothing.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be run and how long it takes.")]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def compare(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="A comparison (default: jobs/comparisons/digits.yaml) and dotted.key=value overrides for all."
        ),
    ] = None,
    methods: Methods = None,
    seeds: Seeds = None,
    results: Results = Path("docs/results/digits"),
    output: Output = Path("runs/compare"),
    tables: Tables = False,
    dry_run: DryRun = False,
) -> None:
    """Compare methods with seeds: run the cells that are missing, then write the tables."""
    from liit.engine.comparison.comparing import Wanted, compare

    code, _ = compare(Wanted(arguments or [], methods or [], seeds or [], results, output, tables, dry_run))
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
