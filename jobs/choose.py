"""Choose a subset from a finished profile, without a model, training or Ray.

python jobs/choose.py --profile RUN/t03/profile --strategy lite-adapt-inf --budget 25000 --output out.parquet
"""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from liit.engine.choosing.from_profile import Chosen

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def choose(
    profile: Annotated[Path, typer.Option(help="A finished profile: tNN/profile of a run.")],
    strategy: Annotated[str, typer.Option(help="A name from selectors/catalog.py.")],
    budget: Annotated[int, typer.Option(help="Samples to choose.")],
    output: Annotated[
        Path, typer.Option(help="The Parquet file to write: id, key, cluster, scorer, score, percentile, stratum.")
    ],
    seed: Annotated[int, typer.Option(help="Of clusters and of chance.")] = 0,
    timestep: Annotated[
        int | None, typer.Option(help="By default the NN of tNN, elsewhere the newest arrival.")
    ] = None,
    option: Annotated[list[str] | None, typer.Option(help="key=value, an option of the strategy; repeatable.")] = None,
    vector: Annotated[str | None, typer.Option(help="What clusters are of: another vector of the profile.")] = None,
    k_grid: Annotated[str, typer.Option(help="Candidate numbers of clusters: 5-50 or 5,10,20.")] = "5-50",
    always: Annotated[list[str] | None, typer.Option(help="A file of ids that are chosen; repeatable.")] = None,
    never: Annotated[list[str] | None, typer.Option(help="A file of ids that are not chosen; repeatable.")] = None,
    quotas: Annotated[str | None, typer.Option(help="As strategy.quotas: '{least: {gqa: 0.1}}'.")] = None,
) -> None:
    """Choose a subset from a finished profile, without a model, training or Ray."""
    from rich.console import Console

    from liit.engine.choosing import from_profile
    from liit.engine.choosing.insisted import Insisted, ids_in, quotas_of
    from liit.engine.main import REFUSED
    from liit.engine.run.files import write_table
    from liit.engine.run.progress import log, start_logging

    start_logging()
    try:
        chosen = from_profile.choose(
            profile,
            strategy,
            budget,
            k_grid=read_grid(k_grid),
            seed=seed,
            timestep=timestep,
            options=read_options(option or []),
            vector=vector,
            insisted=Insisted(
                ids_in(always or [], "--always"), ids_in(never or [], "--never"), quotas_of(read_quotas(quotas))
            ),
        )
        output.parent.mkdir(parents=True, exist_ok=True)
        write_table(output, chosen.rows)
    except (ValueError, OSError) as error:
        log.error("error: %s", error)
        raise typer.Exit(REFUSED) from error
    say(chosen, Console(width=None if os.isatty(1) else 110))
    if told := kinds_told(profile, chosen):
        log.info("%s", told)
    log.info("selection: %s", output)


def read_options(given: Sequence[str]) -> dict[str, Any]:
    """`key=value` with YAML values, as a configuration's `strategy.options`. Raises ValueError naming a bad one."""
    import yaml

    options = {}
    for one in given:
        key, equals, text = one.partition("=")
        if not key or not equals:
            raise ValueError(f"option {one!r} must be key=value")
        try:
            options[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(f"option {one!r}: the value is not YAML") from error
    return options


def read_quotas(text: str | None) -> dict[str, Any] | None:
    """A mapping of YAML. Raises ValueError for anything else."""
    import yaml

    try:
        found = None if text is None else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"quotas {text!r} are not YAML") from error
    if text is not None and not isinstance(found, dict):
        raise ValueError(f"quotas {text!r} must be a mapping, such as {{least: {{gqa: 0.1}}}}")
    return found


def read_grid(text: str) -> tuple[int, ...]:
    """`5-50`, `5,10,20` or `12` as candidate numbers of clusters. Raises ValueError for anything else."""
    grid: list[int] = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise ValueError(f"k grid {text!r} must be numbers and ranges, such as 5-50 or 5,10,20")
        grid.extend(range(int(low), int(high or low) + 1))
    if not grid or min(grid) < 1:
        raise ValueError(f"k grid {text!r} holds no number of clusters, or one below 1")
    return tuple(dict.fromkeys(grid))


def kinds_told(profile: Path, chosen: "Chosen") -> str | None:
    """How many kinds of task a choice is of, and effectively; None where the profile lies in no run whose samples name tasks."""
    import numpy as np

    from liit.engine.data.pool import tasks
    from liit.selectors.kinds import coverage, effective, rare

    releases = sorted(profile.resolve().parents[1].glob("releases/*.parquet"))
    if not releases:
        return None
    parts = (chosen.pool, chosen.rows)
    pool, mine = (Counter(tasks(releases, part["id"]).drop_null().to_pylist()) for part in parts)
    if not pool:
        return None
    pool_K, chosen_K = (np.array([of[name] for name in pool], np.int64) for of in (pool, mine))
    rare_K = rare(pool_K, int(chosen_K.sum()))
    return (
        f"kinds of task: {(chosen_K > 0).sum()} of {len(pool_K)}, effectively {effective(chosen_K):.1f}, by chance "
        f"{effective(pool_K):.1f}; {coverage(pool_K, chosen_K):.0%} of {rare_K.sum()} rare ones"
    )


def say(chosen: "Chosen", console: "Console") -> None:
    """How many of each release and of each cluster were chosen, and by which score."""
    from rich.table import Table

    table = Table(title=f"{len(chosen.rows):,} of {len(chosen.pool):,} samples", title_justify="left")
    for column in ("release", "pool", "chosen"):
        table.add_column(column, justify="left" if column == "release" else "right")
    there, taken = (
        Counter(name.split("/")[0] for name in part["id"].to_pylist()) for part in (chosen.pool, chosen.rows)
    )
    for release in sorted(there):
        table.add_row(release, f"{there[release]:,}", f"{taken[release]:,}")
    console.print(table)
    sizes = Counter(chosen.pool["cluster"].drop_null().to_pylist())
    if not sizes:
        return
    table = Table()
    for column in ("cluster", "size", "chosen", "scorer"):
        table.add_column(column, justify="left" if column == "scorer" else "right")
    scorers: dict[int, Counter[str]] = {k: Counter() for k in sizes}
    for k, scorer in zip(chosen.rows["cluster"].to_pylist(), chosen.rows["scorer"].to_pylist(), strict=True):
        scorers[k][scorer or "by hash"] += 1
    for k in sorted(sizes):
        table.add_row(str(k), f"{sizes[k]:,}", f"{scorers[k].total():,}", ", ".join(sorted(scorers[k])))
    console.print(table)


if __name__ == "__main__":
    app()
