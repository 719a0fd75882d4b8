"""Both benchmarks of continual instruction tuning: what training does to hold on to what was learned, with seeds.

python jobs/continual.py [dotted.key=value ...] [--benchmark 1] [--methods ewc] [--seeds 0] [--dry-run]
"""

import sys
from pathlib import Path
from typing import Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

from liit.jobs.compare import DryRun, Methods, Output, Seeds, Tables

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def continual(
    overrides: Annotated[list[str] | None, typer.Argument(help="dotted.key=value, for all.")] = None,
    benchmark: Annotated[
        list[int] | None,
        typer.Option(
            min=1, max=2, help="1: from a base not jointly tuned. 2: from the jointly tuned one. Default: both."
        ),
    ] = None,
    methods: Methods = None,
    seeds: Seeds = None,
    results: Annotated[Path, typer.Option(help="Folder of continual-1/ and -2/, their tables beside them.")] = Path(
        "docs/results"
    ),
    output: Output = Path("runs"),
    tables: Tables = False,
    dry_run: DryRun = False,
) -> None:
    """Compare EWC, MAS, LwF, replay and experts on both benchmarks of continual instruction tuning (He et al.)."""
    from liit.engine.comparison.comparing import Wanted, compare
    from liit.engine.comparison.continual_page import BASES, write_benchmarks
    from liit.engine.settings.settling import lasting

    results, found, codes = lasting(results), {}, []
    for number in benchmark or (1, 2):
        name = f"continual-{number}"
        files = [f"{name}.yaml", *(overrides or [])]
        code, found[name] = compare(
            Wanted(files, methods or [], seeds or [], results / name, output / name, tables, dry_run)
        )
        codes.append(code)  # it has said why; the other benchmark need not wait for it
    if all(found.values()) and len(found) == len(BASES):
        write_benchmarks(results / "continual.md", {name: (BASES[name], one) for name, one in found.items() if one})
    raise typer.Exit(max(codes))


if __name__ == "__main__":
    app()
