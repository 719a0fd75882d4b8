"""One sample's whole life in a run.

liit where RUN ID
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

if __name__ == "__main__" and str(Path(__file__).resolve().parent.parent) not in sys.path:
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # a fresh clone works without being installed

import typer

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from liit.engine.lasting.finding import Image
    from liit.engine.lasting.standing import Standing
    from liit.engine.lasting.where import Life, Step

UNKNOWN = 2
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def where(
    run: Annotated[Path, typer.Argument(help="The run folder.")],
    sample: Annotated[str, typer.Argument(metavar="ID", help="The sample's id; its data set may be left out.")],
) -> None:
    """Tell one sample's whole life: arrival, pool, scores, cluster, selections, adapters; or the answers to a question."""
    from liit.engine.lasting.where import life

    try:
        found = life(run, sample)
    except ValueError as error:
        typer.echo(f"error: {error}")
        raise typer.Exit(UNKNOWN) from error
    say(found)


def say(found: "Life") -> None:
    """A table of what the sample is, and one with a row for each timestep."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table(title=_plain(found.id), title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(found):
        table.add_row(name, _plain(value))
    console.print(table)
    if found.steps:
        console.print(_asked(found) if found.kind == "evaluation" else _lived(found))


def _facts(found: "Life") -> Iterator[tuple[str, str]]:
    if found.kind == "release":
        yield "arrival", f"t{found.arrival}, release {found.dataset}"
    for one in found.asked:
        until = "" if one.until is None else f", before t{one.until}"
        yield "target split" if found.kind == "target" else "evaluation set", one.name
        if found.kind == "evaluation":
            yield "kept out of pools", f"since t{one.since}{until}"
    yield "status", f"t{bad.timestep}: {bad}" if (bad := found.quarantined) else "kept"
    if found.table is not None:
        yield "row", f"{found.row} of {found.table}"
    if found.task is not None:
        yield "task", found.task
    if found.length is not None:
        yield "tokens", f"{found.length}{_counted(found)}"
    if found.content is not None:
        yield "content", found.content
    for image in found.images:
        yield "image", _image(image)
    for when, steps in found.superseded.items():
        yield f"superseded/{when}", f"chosen at {_steps(steps)}"


def _counted(found: "Life") -> str:
    """Of the newest profile that has them; where an earlier version counted otherwise, that is seen."""
    counted = [step.standing for step in found.steps if step.standing.n_tokens is not None]
    if not counted:
        return ""
    return f"; in the profile {counted[-1].n_tokens}, {counted[-1].n_response_tokens} of them the response's"


def _image(image: "Image") -> str:
    from liit.engine.run.progress import size

    if image.path is None:
        return f"bytes in the table, {size(image.bytes or 0)}"
    return f"{image.path}, {'not there any more' if image.bytes is None else size(image.bytes)}"


def _asked(found: "Life") -> "Table":
    """A row for each timestep's answer."""
    from rich.table import Table

    table = Table("", "answer", "value, %", "loss")
    for step in found.steps:
        said = step.answer
        answer = "not asked" if said is None else said.answer or ""
        figures = (said.value, said.loss) if said else (None, None)
        value, loss = ("" if one is None else f"{one:.4g}" for one in figures)
        table.add_row(*map(_plain, (f"t{step.timestep}", answer, value, loss)))
    return table


def _lived(found: "Life") -> "Table":
    """A row for each timestep: pool, scores, cluster, selection and adapter."""
    from rich.table import Table

    table = Table("", "pool", "score, % of cluster, of pool", "cluster", "chosen", "adapter")
    for column in table.columns:
        column.overflow = "fold"
    table.columns[2].no_wrap = True  # its lines are broken already
    for step in found.steps:
        cells = (_pool(step, found.arrival or 0), _scores(step.standing), _cluster(step.standing))
        table.add_row(*map(_plain, (f"t{step.timestep}", *cells, _chosen(step), _adapter(step))))
    return table


def _pool(step: "Step", arrival: int) -> str:
    if step.pool:
        return f"in the pool; leaves it: {step.left}" if step.left else "in the pool"
    if step.timestep < arrival:
        return "not arrived yet"
    if step.left is None:
        return "not in the pool, and no table says why"
    return f"left out: {step.left}" if step.left.timestep == step.timestep else f"left at t{step.left.timestep}"


def _scores(standing: "Standing") -> str:
    """A line for each score: its value, and how many percent of its cluster and of the pool score no more."""
    longest = max(map(len, standing.scores), default=0)
    lines = []
    for name, score in standing.scores.items():
        cluster, pool = ("-" if one is None else f"{one:.0f}" for one in (score.in_cluster, score.in_pool))
        lines.append(f"{name:{longest}} {score.value:>9.4g} {cluster:>4} {pool:>4}")
    return "\n".join([*lines, *wrap(standing.unscored, 36)])


def _cluster(standing: "Standing") -> str:
    return "" if standing.cluster is None else f"{standing.cluster}, at {standing.distance:.3g}"


def _chosen(step: "Step") -> str:
    if step.chosen is None or not step.pool:
        return ""
    return f"by {step.scorer}" if step.chosen else "no"


def _adapter(step: "Step") -> str:
    if not step.adapter:
        return ""
    earlier = [t for t in step.saw if t != step.timestep]
    went_on = f"goes on from {_steps(earlier)}, trained on it" if earlier else ""
    if step.timestep in step.saw:
        return f"trained on it; {went_on}" if earlier else "trained on it"
    return went_on or "has not seen it"


def _steps(timesteps: Sequence[int]) -> str:
    return ", ".join(f"t{t}" for t in timesteps)


def _plain(text: str) -> "Text":
    """Text that is shown as it stands: what a model or a file says is no markup, and moves no cursor."""
    from rich.text import Text

    return Text("".join(one if one.isprintable() or one == "\n" else "\N{REPLACEMENT CHARACTER}" for one in text))


if __name__ == "__main__":
    app()
