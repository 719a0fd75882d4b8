"""The tables of a comparison: text in cells, a row for each method, for the Markdown page and the HTML one alike."""

from collections.abc import Mapping, Sequence

import pandas as pd

from liit.engine.comparison.contrast import Contrast

OVER_STREAM = {
    "average_accuracy": "average",
    "relative_gain": "relative gain",
    "forgetting_rate": "forgetting",
    "max_forgetting": "largest drop",
    "backward_transfer": "BWT",
    "forward_transfer": "FWT",
    "parse_failures": "unreadable answers",
    "recovered": "recovered",
    "recovered_loss": "recovered, by loss",
    "effective": "effective kinds at the end",
    "by chance": "of the pool",
    "rare covered": "rare kinds covered",
    "effective skills": "effective skills",
}
COSTS = {
    "scored": "samples scored",
    "forwards": "scoring forwards, at most",
    "backwards": "scoring backwards",
    "trained": "samples trained on",
    "experts": "experts",
    "scoring_s": "scoring s",
    "selection_s": "selection s",
    "holding_s": "importance, similarity, routing s",
    "training_s": "training s",
    "evaluation_s": "evaluation s",
    "selecting_over_training": "(scoring + selection) / training",
}
INTERVALS = {
    "average_accuracy": "average",
    "relative_gain": "relative gain",
    "forgetting_rate": "forgetting",
    "max_forgetting": "largest drop",
    "recovered": "recovered",
    "recovered_loss": "recovered, by loss",
}


def over_seeds(figures: pd.DataFrame, titles: Mapping[str, str], spread: bool = True) -> pd.DataFrame:
    """Mean, and with `spread` ± standard deviation, of each column of `Contrast.figures` that is in `titles`.

    Of the seeds where a figure is defined; how many, where it is not for all. Costs that no method has are left out.
    """
    by = figures.groupby("method", sort=False)
    titles = {name: of for name, of in titles.items() if name in figures and (spread or figures[name].any())}
    mean, deviation, known = by[list(titles)].mean(), by[list(titles)].std(), by[list(titles)].count()
    table = pd.DataFrame({"method": mean.index, "seeds": by.size().astype(str).to_numpy()})
    for column, title in titles.items():
        rows = zip(mean[column], deviation[column], known[column], by.size(), strict=True)
        counts = not spread and figures[column].dtype.kind == "i"
        table[title] = [
            f"{v:,.0f}" if counts else _value(v, apart if spread else None) + _fewer(seeds, of)
            for v, apart, seeds, of in rows
        ]
    return table


def differences(contrast: Contrast, to: Mapping[str, str] | None = None) -> pd.DataFrame:
    """What each method differs by from the reference, or from the one that `to` names, with the ends of the interval."""
    found = contrast.differences(to)
    rows = []
    for row in found.to_dict("records"):
        apart = {
            title: _apart(row[name], row[f"{name}_low"], row[f"{name}_high"])
            + _fewer(row[f"{name}_seeds"], row["seeds"])
            for name, title in INTERVALS.items()
            if name in found
        }
        name = row["method"] if to is None else f"{row['method']} − {to[row['method']]}"
        rows.append({"method": name, "seeds": str(row["seeds"]), **apart})
    return pd.DataFrame(rows, columns=None if rows else ["method", "seeds"])


def markdown(table: pd.DataFrame) -> list[str]:
    """A table's lines; the first column is left-aligned."""
    titles: Sequence[str] = ["", *map(str, table.columns[1:])]
    lines = [_row(titles), "|---|" + "---:|" * (len(titles) - 1)]
    return lines + [_row([str(value) for value in row]) for row in table.itertuples(index=False)]


def _value(mean: float, deviation: float | None) -> str:
    if pd.isna(mean):
        return ""
    size = f"{mean:,.0f}" if abs(mean) >= 1000 else f"{round(mean, 1) + 0.0:.1f}"  # no -0.0
    return size if deviation is None or pd.isna(deviation) else f"{size} ± {deviation:.1f}"


def _apart(mean: float, low: float, high: float) -> str:
    return "" if pd.isna(mean) else f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _fewer(seeds: int, of: int) -> str:
    return "" if seeds in (0, of) else f", {seeds} of {of} seeds"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
