"""The page of a comparison, written from its cells: Markdown tables, the same figures as CSV, every skill over time as SVG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from liit.engine.comparison import Comparison
from liit.engine.contrast import LEVEL, Contrast
from liit.engine.figures import skills_over_time
from liit.engine.progress import log
from liit.engine.store import appearing, read_json

TITLES = {
    "average_accuracy": "average",
    "relative_gain": "relative gain",
    "forgetting_rate": "forgetting",
    "backward_transfer": "BWT",
    "forward_transfer": "FWT",
    "parse_failures": "unreadable answers",
}
COSTS = {
    "scored": "samples scored",
    "trained": "samples trained on",
    "scoring_s": "scoring s",
    "selection_s": "selection s",
    "training_s": "training s",
    "evaluation_s": "evaluation s",
    "selecting_over_training": "(scoring + selection) / training",
}
INTERVALS = {"average_accuracy": "average", "relative_gain": "relative gain", "forgetting_rate": "forgetting"}


def write_page(results: Path, comparison: Comparison, current: Mapping[str, str]) -> None:
    """Write `<results>.md`, `.csv` and `.svg` from the cells in `results`; nothing where there are none.

    current: the settings that each cell must have been made from; cells of others stay out of the page.

    Raises ValueError for cells that were not all made on the same stream.
    """
    cells = {path.stem: read_json(path) for path in results.glob("*-s*.json")}
    order = {name: place for place, name in enumerate(comparison.methods)}
    found = [cell for name, cell in cells.items() if current.get(name) == cell["settings"]]
    found.sort(key=lambda cell: (order[cell["method"]], cell["seed"]))
    if not found:
        return
    if len({tuple(cell["skills"]) for cell in found}) > 1:
        raise ValueError(
            f"the cells in {results} are of different evaluation sets; keep one stream's cells in a folder"
        )
    contrast = Contrast(found, comparison.reference, comparison.upper)
    figures = contrast.figures()
    page = "\n".join(_page(contrast, figures, comparison, results))
    for suffix, text in ((".md", page), (".csv", figures.round(3).to_csv(index=False))):
        with appearing(results.with_suffix(suffix)) as temporary:
            temporary.write_text(text, encoding="utf-8")
    with appearing(results.with_suffix(".svg")) as temporary:
        temporary.write_text(skills_over_time(contrast.over_time()).svg, encoding="utf-8")
    log.info("tables: %s", results.with_suffix(".md"))


def _page(contrast: Contrast, figures: pd.DataFrame, comparison: Comparison, results: Path) -> list[str]:
    dates = sorted({cell["date"] for cell in contrast.found})
    commits = sorted({cell["commit"] for cell in contrast.found})
    by = figures.groupby("method", sort=False)
    return [
        f"# Comparison: {Path(comparison.config).stem}",
        "",
        f"{dates[0]} to {dates[-1]}, {contrast.found[0]['hardware']}, commits {', '.join(commits)}; {len(contrast.found)} runs. "
        f"Each is a JSON in `{results.name}/`, with its accuracy matrix and every answer's value. Missing cells are made, and "
        "this page is written, by",
        "",
        "```bash",
        "python jobs/compare.py",
        "```",
        "",
        "Percent; mean ± standard deviation over seeds. Forgetting is the rate of Adapt-∞ (mean relative drop per skill and "
        f"timestep). Relative gain is over the best value of each skill in the runs of `{comparison.upper}`. BWT, FWT: points.",
        "",
        *_table(by, list(TITLES), TITLES),
        "",
        f"![Each skill over time, by method]({results.name}.svg)",
        "",
        "## Values after the last release",
        "",
        *_table(by, contrast.skills, {skill: skill for skill in contrast.skills}),
        "",
        f"## Against `{comparison.reference}`, the same seeds and questions",
        "",
        f"Difference in points, with its {LEVEL:.0%} interval from a bootstrap over answers and seeds (with one seed, over "
        "answers alone).",
        "",
        *_intervals(contrast.differences()),
        "",
        "## What it costs",
        "",
        *_table(by, list(COSTS), COSTS, spread=False),
        "",
    ]


def _table(by: Any, columns: Sequence[str], titles: dict[str, str], spread: bool = True) -> list[str]:
    mean, deviation, count = by[list(columns)].mean(), by[list(columns)].std(), by.size()
    lines = [_row(["", "seeds", *(titles[column] for column in columns)]), "|---|" + "---:|" * (len(columns) + 1)]
    for method in mean.index:
        cells = [_value(mean.loc[method, c], deviation.loc[method, c] if spread else None) for c in columns]
        lines.append(_row([method, str(count[method]), *cells]))
    return lines


def _intervals(differences: pd.DataFrame) -> list[str]:
    known = [figure for figure in INTERVALS if figure in differences]
    lines = [_row(["", "seeds", *(INTERVALS[figure] for figure in known)]), "|---|" + "---:|" * (len(known) + 1)]
    for row in differences.to_dict("records"):
        cells = [f"{row[f]:+.1f} ({row[f + '_low']:+.1f} to {row[f + '_high']:+.1f})" for f in known]
        lines.append(_row([row["method"], str(row["seeds"]), *cells]))
    return lines


def _value(mean: float, deviation: float | None) -> str:
    if pd.isna(mean):
        return ""
    size = f"{mean:,.0f}" if abs(mean) >= 1000 else f"{mean:.1f}"
    return size if deviation is None or pd.isna(deviation) else f"{size} ± {deviation:.1f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
