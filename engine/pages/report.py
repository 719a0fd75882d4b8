"""report.html of a run: what to look at rather than to read. Samples themselves are shown by `report_samples.py`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from liit.engine.pages import figures
from liit.engine.pages.alluvial import alluvial
from liit.engine.pages.figures import Picture
from liit.engine.pages.page import Section, write_page
from liit.engine.pages.report_data import GROUPS, RunFolder
from liit.engine.pages.report_past import since_then
from liit.engine.pages.report_samples import at_depths, in_the_plane, looked_at, neighbours
from liit.engine.run.files import read_json, remove, write_json
from liit.engine.run.fingerprints import fingerprint
from liit.engine.run.progress import log
from liit.engine.run.store import Store
from liit.engine.settings.config import Config

FIGURES = (
    ("average_accuracy", "average accuracy at the end, percent"),
    ("relative_gain", "relative gain over the sequential upper bounds, percent"),
    ("forgetting_rate", "forgetting rate, percent"),
    ("max_forgetting", "largest drop from a skill's best, mean, points"),
    ("backward_transfer", "backward transfer, points"),
    ("forward_transfer", "forward transfer, points"),
    ("gain_over_base", "gain over the base model, points"),
)
QUARANTINED = 200
"""Rows of the quarantine table."""


def show_report(store: Store, config: Config, results: dict[str, Any]) -> None:
    """Make report.html, unless it is there and made of the same (`report.json` says of what). A page that cannot be made is said,
    and the run is done all the same."""
    page, note = store.root / "report.html", store.root / "report.json"
    shown = {key: value for key, value in results.items() if key != "seconds"}
    told = (config.strategy.budget, config.upper_bounds, config.pool.withdrawals)
    made_of = {"made_of": fingerprint(shown, *told, store.marks())}
    try:
        if page.is_file() and note.is_file() and read_json(note) == made_of:
            return
        remove(page)
        write_report(page, store.root, config, results)
        write_json(note, made_of)
    except Exception as error:  # whatever is wrong with a page, nothing is wrong with what it shows
        log.exception(
            "the report could not be made: %s; the run itself is done, and its results are in results.json", error
        )


def write_report(path: Path, root: Path, config: Config, results: dict[str, Any]) -> None:
    """Write the page of the run in the folder `root`."""
    run = RunFolder(root, config.upper_bounds)
    lead = f"Strategy {results['strategy']}, budget {config.strategy.budget}, seed {results['seed']}, LiIT {results['version']}."
    write_page(path, results["name"], lead, [section for make in SECTIONS for section in make(run, results)])


def over_time(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """Skills by timestep, what each gained and what it lost."""
    if "accuracy" not in results:
        return
    accuracy = pd.DataFrame(results["accuracy"])
    shown = accuracy.assign(mean=accuracy.mean(axis=1))
    shown.insert(0, "timestep", [f"t{t} {release}" for t, release in enumerate(results["releases"])])
    yield Section(
        "Skills",
        "Value of each skill after each timestep, percent: what was learned, when, and what of it was lost again.",
        [figures.skills_over_time({results["strategy"]: accuracy})],
        table=shown,
        shaded=True,
    )
    if falls := results.get("gate", {}).get("falls"):
        yield Section("Left aside", _aside(results["gate"]["stands"]), table=pd.DataFrame(falls))
    known = [(title, results[name]) for name, title in FIGURES if results[name] is not None]
    yield Section("Over the stream", "", table=pd.DataFrame(known, columns=["figure", "value"]))
    if len(accuracy) > 1:
        yield Section("Gained and lost", "By skill, after the last timestep.", _gained(accuracy, run.bounds))


def _aside(stands: list[int]) -> str:
    after = ", ".join(f"t{t}: t{one}" for t, one in enumerate(stands))
    return (
        "Skills that a timestep left further below the model that it was to replace (`against`) than training.gate allows, in "
        f"percent. Its adapter is kept, and nothing goes on from it. Whose adapter stands after each timestep: {after}."
    )


def _gained(accuracy: pd.DataFrame, bounds: dict[str, float]) -> list[Picture]:
    lost = (accuracy.max() - accuracy.iloc[-1]).rename("points below its best")
    pictures = [figures.curves(lost, "What each skill lost of its best, points")]
    if bounds:
        gain = 100 * accuracy.iloc[-1] / pd.Series(bounds)[accuracy.columns]
        pictures.append(figures.curves(gain.rename("relative gain"), "Relative gain of each skill, percent"))
    gain = (accuracy.iloc[-1] - accuracy.iloc[0]).rename("points over the base model")
    return [*pictures, figures.curves(gain, "What each skill gained over the base model, points")]


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
    names = (
        {"dataset": "data set", "cluster": "pseudo-task"} if last["cluster"].notna().any() else {"dataset": "data set"}
    )
    last = last.rename(columns=names).assign(pruned=last["pruned"].where(last["outcome"] == "not selected", 0))
    by = last.groupby([*names.values(), "outcome"], dropna=False)[["samples", "pruned"]].sum().reset_index()
    yield Section(
        "Flow of samples",
        "What came to each timestep and what became of it; the ribbons and the table are of the last one, pruned or not.",
        [figures.stacked_bars(outcomes, "Samples by what became of them", "samples"), alluvial(_kept_and_pruned(by))],
        table=_by_outcome(by, list(names.values())[-1]),
    )


def balance(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """How even each selection is over the tasks that samples name."""
    table = run.tables.kinds
    if len(table):
        yield Section(
            "Kinds of task",
            "Of each selection, by the tasks that samples name themselves and the skills these ask for; effective is exp of the "
            "entropy of the shares, by chance that of the pool. Rare is a task of which chance expects less than one sample.",
            table=table.reset_index(),
        )


def _by_outcome(by: pd.DataFrame, name: str) -> pd.DataFrame:
    """A row for each pseudo-task (or data set), a column for each outcome."""
    table = by.groupby([name, "outcome"], dropna=False)["samples"].sum().unstack(fill_value=0).reset_index()
    table[name] = table[name].astype(object).where(table[name].notna(), "none")
    return table


def _kept_and_pruned(by: pd.DataFrame) -> pd.DataFrame:
    """Counts by outcome, with what was pruned of those not selected as an outcome of its own."""
    gone = by[by["pruned"] > 0].assign(samples=by["pruned"], outcome="pruned")
    return pd.concat([by.assign(samples=by["samples"] - by["pruned"]), gone]).drop(columns="pruned")


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
    newest, chosen = run.newest, run.chosen
    if newest is None or "cluster" not in newest or chosen is None:
        return
    winners = chosen.groupby("cluster")["scorer"].agg(lambda own: own.dropna().mode().get(0, "chance"))
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


def scored(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """What was scored again, where rows were kept, and how far the groups of the last timestep had moved."""
    counts = run.tables.refreshed
    if counts.empty:
        return
    last = int(counts.index[-1])
    table = run.tables.drift(last).reset_index()
    counts.index = [f"t{t:02d}" for t in counts.index]
    yield Section(
        "Scored again",
        "Samples of each timestep's pool by why they were scored, or that their rows were kept. The groups are as "
        f"t{last} found them: drift of a score in its standard deviations within the group, of a vector one minus the cosine.",
        [
            figures.stacked_bars(
                counts.drop(columns=["samples", "scored"]), "Samples by why they were scored", "samples"
            )
        ],
        table=table,
    )


def tasks(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """Every score by known task."""
    if run.newest is None or not run.scores:
        return
    sizes = run.newest["task"].value_counts()
    largest = sizes[sizes > 0].index[:GROUPS]
    rows = {str(task): run.newest[run.newest["task"] == task] for task in largest}
    pictures = [
        figures.boxes({task: own[score].to_numpy() for task, own in rows.items()}, f"{score} by task", score)
        for score in run.scores
    ]
    yield Section("Scores by task", "Tasks or data sets as the releases name them; nothing selects by them.", pictures)


def quarantine(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """What could not be used, and why."""
    table = run.tables.quarantine
    if len(table):
        table["timestep"] = [f"t{t:02d}" for t in table["timestep"]]
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
    balance,
    clusters,
    scored,
    tasks,
    in_the_plane,
    at_depths,
    looked_at,
    neighbours,
    quarantine,
    since_then,
    spent,
)
