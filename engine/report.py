"""report.html: one self-contained page about a run, to look at rather than to read."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
from sklearn.manifold import TSNE

from liit.engine import figures
from liit.engine.config import Config
from liit.engine.figures import Picture
from liit.engine.report_data import Example, RunFolder
from liit.engine.store import Store, appearing

PAGE = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    trim_blocks=True,
)
FIGURES = (
    ("average_accuracy", "average accuracy at the end, percent"),
    ("relative_gain", "relative gain over the sequential upper bounds, percent"),
    ("forgetting_rate", "forgetting rate, percent"),
    ("max_forgetting", "largest drop from a skill's best, mean, points"),
    ("backward_transfer", "backward transfer, points"),
    ("forward_transfer", "forward transfer, points"),
    ("gain_over_base", "gain over the base model, points"),
)
MAPPED = 600
"""Samples of a map."""
GROUPS = 30
"""Clusters or tasks of a figure, the largest ones."""
QUARANTINED = 200
"""Rows of the quarantine table."""


@dataclass(frozen=True)
class Section:
    """A heading, a line that says what to look for, and what there is to see."""

    title: str
    note: str
    pictures: list[Picture] = field(default_factory=list)
    examples: dict[str, list[Example]] = field(default_factory=dict)
    table: pd.DataFrame | None = None


def write_report(store: Store, config: Config, results: dict[str, Any]) -> Path:
    """Write the page and return its path."""
    path, run = store.root / "report.html", RunFolder(store.root)
    sections = [section for make in SECTIONS for section in make(run, results)]
    page = PAGE.get_template("report.html.j2").render(r=results, config=config, figures=FIGURES, sections=sections)
    with appearing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def over_time(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """Skills by timestep, and what each lost."""
    if "accuracy" not in results:
        return
    accuracy = pd.DataFrame(results["accuracy"])
    pictures = [figures.skills_over_time({results["strategy"]: accuracy})]
    if len(accuracy) > 1:
        lost = (accuracy.max() - accuracy.iloc[-1]).rename("points below its best")
        pictures.append(figures.curves(lost, "What each skill lost of its best, points"))
    yield Section("Skills", "What was learned, when, and what of it was lost again.", pictures)


def flow(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """What became of the samples of every timestep."""
    tables = {step.name: run.table(step, "summary") for step in run.steps}
    counted = {name: table for name, table in tables.items() if table is not None}
    if not counted:
        return
    by_step = {name: table.groupby("outcome")["samples"].sum() for name, table in counted.items()}
    outcomes = pd.DataFrame(by_step).T.fillna(0)
    pruned = [table.loc[table["outcome"] == "not selected", "pruned"].sum() for table in counted.values()]
    outcomes["not selected, pruned for good"] = pruned
    outcomes["not selected"] = outcomes.get("not selected", 0) - outcomes["not selected, pruned for good"]
    outcomes.index.name = "timestep"
    last = list(counted.values())[-1]
    releases = last.groupby(["dataset", "outcome"])["samples"].sum().unstack(fill_value=0).reset_index()
    yield Section(
        "Flow of samples",
        "What came to each timestep and what became of it; the table is of the last one, by data set.",
        [figures.stacked_bars(outcomes, "Samples by what became of them", "samples")],
        table=releases,
    )


def clusters(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """How many pseudo-tasks, and which score chose in each."""
    curves = run.curves()
    if curves:
        frame = pd.concat({name: curve / curve.max() for name, curve in curves.items()}, names=["timestep", "k"])
        yield Section(
            "How many pseudo-tasks",
            "Within-cluster sum of squares by k, over its largest; the elbow gives k.",
            [figures.curves(frame.swaplevel().rename("WSS over its largest"), "WSS by k")],
        )
    newest = run.newest
    if newest is None or "cluster" not in newest or "scorer" not in newest:
        return
    winners = newest.groupby("cluster")["scorer"].agg(lambda own: own.dropna().mode().get(0, "chance"))
    winners = winners[winners.isin(newest.columns)]  # a strategy may have made its score itself
    pictures = []
    for winner, own in winners.groupby(winners):
        groups = {
            f"{cluster}": newest.loc[newest["cluster"] == cluster, winner].to_numpy() for cluster in own.index[:GROUPS]
        }
        pictures.append(figures.boxes(groups, f"{winner} in the pseudo-tasks that it chose in", str(winner)))
    if pictures:
        yield Section(
            "Scores by pseudo-task", "Each cluster takes the score that tells its samples apart best.", pictures
        )


def tasks(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """Scores by known task."""
    if run.newest is None or "nll" not in run.newest:
        return
    largest = run.newest["task"].value_counts().index[:GROUPS]
    groups = {str(task): run.newest.loc[run.newest["task"] == task, "nll"].to_numpy() for task in largest}
    picture = figures.boxes(groups, "Loss by task", "nll, nats per response token")
    yield Section("Scores by task", "Tasks or data sets as the releases name them; nothing selects by them.", [picture])


def in_the_plane(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """t-SNE of gradients and of hidden states."""
    newest = run.newest
    if newest is None or len(newest) < 50:
        return
    positions = run.sampled(MAPPED)
    shown = newest.iloc[positions]
    colourings = {"task": shown["task"].astype(str).tolist(), "release": shown["arrival"].astype(str).tolist()}
    if "cluster" in shown:
        colourings = {"pseudo-task": shown["cluster"].astype(str).tolist(), **colourings}
    pictures = []
    for name, title in (("sketch", "Gradients"), ("embedding", "Hidden states")):
        rows = run.vectors(name, positions)
        if rows is not None:
            plane = TSNE(init="pca", random_state=0, perplexity=min(30, len(rows) / 4)).fit_transform(rows)
            pictures.append(figures.maps(plane, colourings, title))
    if pictures:
        yield Section("Maps", "Samples that lie together are alike; t-SNE of unit vectors.", pictures)


def looked_at(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """Chosen samples by pseudo-task and by reason, and what is near to a few of them."""
    newest = run.newest
    if newest is None or "scorer" not in newest or "cluster" not in newest:
        return
    chosen = newest[newest["score"].notna() | newest["scorer"].notna()]
    largest = newest["cluster"].value_counts().index[:GROUPS]
    groups: dict[str, list[Example]] = {}
    for cluster in sorted(largest):
        own = chosen[chosen["cluster"] == cluster].head(3)
        notes = {str(name): f"{row['scorer']} {row['score']:.3g}" for name, row in own.iterrows()}
        groups[f"pseudo-task {cluster}: {(newest['cluster'] == cluster).sum():,} samples"] = run.examples(notes)
    yield Section("Chosen samples", "Up to three of each pseudo-task, with the score that chose them.", examples=groups)
    yield from _neighbours(run, newest)


def _neighbours(run: RunFolder, newest: pd.DataFrame) -> Iterator[Section]:
    positions = run.sampled(min(2000, len(newest)))
    ids = newest.index[positions].astype(str)
    groups: dict[str, list[Example]] = {}
    for name, title in (("sketch", "gradients"), ("embedding", "hidden states")):
        rows = run.vectors(name, positions)
        if rows is None:
            continue
        for asked in np.linspace(0, len(rows) - 1, 4).astype(int):
            cosine = rows @ rows[asked]
            near = np.argsort(-cosine)[:5]
            notes = {ids[asked]: "asked"} | {ids[at]: f"cosine {cosine[at]:.2f}" for at in near if at != asked}
            groups[f"{title}: like {ids[asked]}"] = run.examples(notes)
    if groups:
        note = "The same samples and what is nearest to them, by gradient and by hidden state."
        yield Section("Neighbours", note, examples=groups)


def quarantine(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """What could not be used, and why."""
    frames = [run.table(step, "quarantine") for step in run.steps]
    rows = [
        frame.assign(timestep=step.name) for step, frame in zip(run.steps, frames, strict=True) if frame is not None
    ]
    if rows and sum(map(len, rows)):
        table = pd.concat(rows)[["timestep", "id", "dataset", "stage", "reason"]]
        note = f"{len(table):,} samples that could not be used, the first {min(len(table), QUARANTINED)} of them."
        yield Section("Quarantine", note, table=table.head(QUARANTINED))


def spent(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """Seconds by stage."""
    rows = [(*name.rpartition("/")[::2], seconds) for name, seconds in results["seconds"].items()]
    frame = pd.DataFrame(rows, columns=["timestep", "stage", "seconds"])
    frame["stage"] = frame["stage"].str.partition(".")[0]
    frame = frame[frame["timestep"].str.fullmatch(r"t\d+")]
    table = frame.pivot_table(index="timestep", columns="stage", values="seconds", aggfunc="sum", fill_value=0)
    if len(table):
        picture = figures.stacked_bars(table, "Seconds by stage", "seconds")
        yield Section("Time", "Seconds of each stage, over all resumes.", [picture])


SECTIONS: tuple[Callable[[RunFolder, dict[str, Any]], Iterator[Section]], ...] = (
    over_time,
    flow,
    clusters,
    tasks,
    in_the_plane,
    looked_at,
    quarantine,
    spent,
)
