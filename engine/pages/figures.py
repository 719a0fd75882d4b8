"""Figures as SVG, by matplotlib: drawn without a screen, text as text, never as a formula."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "liit",
    "font.size": 9,
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
PIXELS_PER_INCH = 96


@dataclass(frozen=True)
class Picture:
    """A finished figure; `alt` says in words what it shows."""

    title: str
    alt: str
    svg: str
    width: int
    height: int

    @property
    def source(self) -> str:
        """For the `src` of an HTML image, which runs no script that may be in it."""
        return "data:image/svg+xml;base64," + b64encode(self.svg.encode()).decode()


def draw(title: str, alt: str, size: tuple[float, float], paint: Callable[[Figure], None]) -> Picture:
    """A picture of `size` inches."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure)
        out = BytesIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    width, height = (round(PIXELS_PER_INCH * side) for side in size)
    return Picture(title, alt, out.getvalue().decode(), width, height)


def skills_over_time(accuracy: Mapping[str, pd.DataFrame]) -> Picture:
    """Adapt-∞'s Fig. 3: a panel for each skill and for their mean, a line for each method.

    accuracy: for each method a table of percent, a row for each timestep and a column for each skill.
    """
    first = next(iter(accuracy.values()))
    panels = [*first.columns, "mean of skills"]
    columns = min(4, len(panels))

    def paint(figure: Figure) -> None:
        axes = np.atleast_1d(figure.subplots(-(-len(panels) // columns), columns, sharex=True, sharey=True)).ravel()
        for place, (name, table) in enumerate(accuracy.items()):
            look = {"color": f"C{place % 10}", "linestyle": ("-", "--", ":")[place // 10 % 3], "linewidth": 1.3}
            shown = table.assign(**{"mean of skills": table.mean(axis=1)})
            for axis, panel in zip(axes, panels, strict=False):
                axis.plot(np.arange(len(shown)), shown[panel], label=name, marker="o", markersize=2.5, **look)
        for axis, panel in zip(axes, panels, strict=False):
            axis.set_title(str(panel))
            axis.set_ylim(0, max(102, axis.get_ylim()[1]))  # CIDEr goes above 100
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        figure.supxlabel("timestep")
        figure.supylabel("percent")
        if len(accuracy) > 1:
            figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)

    last = ", ".join(f"{name} {table.iloc[-1].mean():.1f}" for name, table in accuracy.items())
    return draw(
        "Value of each skill over time",
        f"Percent by timestep, a panel for each of {', '.join(map(str, panels))}. At the end, mean of skills: {last}.",
        (10, 2.3 * -(-len(panels) // columns) + 0.4),
        paint,
    )


def curves(values: pd.Series, title: str) -> Picture:
    """A figure by setting: a line over numbers, bars over names; of two settings, one for each value of the second."""
    table = values.unstack() if isinstance(values.index, pd.MultiIndex) else values.to_frame()

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        if pd.api.types.is_numeric_dtype(table.index):
            axis.plot(table.index, table.to_numpy(), marker="o", markersize=3)
            axis.set_xlabel(str(table.index.name))
        else:
            height = 0.8 / len(table.columns)
            for place, column in enumerate(table):
                axis.barh(np.arange(len(table)) + place * height, table[column], height)
            axis.set_yticks(np.arange(len(table)), [str(name) for name in table.index])
            axis.invert_yaxis()
        if len(table.columns) > 1:
            axis.legend([str(column) for column in table], title=str(table.columns.name), frameon=False)

    ends = f"from {values.min():.3g} ({values.idxmin()}) to {values.max():.3g} ({values.idxmax()})"
    return draw(title, f"{title} by setting, {ends}.", (6, 3.5), paint)


def dots(means: pd.DataFrame, spreads: pd.DataFrame, title: str, unit: str) -> Picture:
    """A row for each method, a panel for each figure; bars are the spreads, none where there is one value alone."""

    def paint(figure: Figure) -> None:
        axes = np.atleast_1d(figure.subplots(1, len(means.columns), sharey=True))
        rows = np.arange(len(means))
        for axis, name in zip(axes, means, strict=True):
            axis.errorbar(
                means[name], rows, xerr=spreads[name].fillna(0), fmt="o", markersize=4, capsize=2, linewidth=1
            )
            axis.set_title(str(name))
            axis.set_xlabel(unit)
            axis.grid(axis="x", alpha=0.3)
        axes[0].set_yticks(rows, [str(name) for name in means.index])
        axes[0].invert_yaxis()

    first = means.columns[0]
    said = ", ".join(f"{name} {value:.1f}" for name, value in means[first].items())
    return draw(
        title, f"{', '.join(map(str, means))} by method, {unit}; {first}: {said}.", (9, 0.9 + 0.25 * len(means)), paint
    )


def stacked_bars(table: pd.DataFrame, title: str, unit: str) -> Picture:
    """A bar for each row, its parts the columns."""

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        before = np.zeros(len(table))
        colours = matplotlib.colormaps["tab10" if len(table.columns) <= 10 else "tab20"]
        for place, column in enumerate(table):
            look: dict[str, Any] = {"label": str(column), "color": colours(place % 20)}
            axis.barh(np.arange(len(table)), table[column], 0.7, left=before, **look)
            before += table[column].to_numpy()
        axis.set_yticks(np.arange(len(table)), [str(name) for name in table.index])
        axis.invert_yaxis()
        axis.set_xlabel(unit)
        figure.legend(loc="outside right upper", frameon=False)

    sums = ", ".join(f"{column} {table[column].sum():,.0f}" for column in table)
    alt = f"{unit} by {table.index.name or 'row'}; in all {sums}."
    return draw(title, alt, (9, max(2.0, 0.9 + 0.25 * len(table))), paint)


def boxes(groups: Mapping[str, np.ndarray], title: str, unit: str) -> Picture:
    """Median, quartiles and 5 to 95 % of each group."""
    shown = {name: values[np.isfinite(values)] for name, values in groups.items()}

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        axis.boxplot(list(shown.values()), whis=(5, 95), showfliers=False, orientation="horizontal")
        axis.set_yticks(np.arange(1, len(shown) + 1), list(shown))
        axis.invert_yaxis()
        axis.set_xlabel(unit)

    middle = ", ".join(f"{name} {np.median(values):.3g}" for name, values in shown.items() if len(values))
    return draw(title, f"Distribution of {unit}; medians: {middle}.", (7, 0.8 + 0.24 * len(shown)), paint)


def maps(points_n2: np.ndarray, colourings: Mapping[str, Sequence[str]], title: str) -> Picture:
    """The same points in the plane, a panel for each colouring; its legend below, another mark after every 20 colours."""
    colours = matplotlib.colormaps["tab20"].colors  # type: ignore[attr-defined]
    values = {name: sorted(set(labels), key=_in_order) for name, labels in colourings.items()}
    rows = max(-(-len(own) // _columns(own)) for own in values.values())

    def paint(figure: Figure) -> None:
        axes = np.atleast_1d(figure.subplots(1, len(colourings)))
        for axis, (name, labels) in zip(axes, colourings.items(), strict=True):
            for place, value in enumerate(values[name]):
                own_n2 = points_n2[np.array(labels) == value]
                look: dict[str, Any] = {"marker": "os^Dv"[place // 20 % 5], "color": [colours[place % 20]]}
                axis.scatter(own_n2[:, 0], own_n2[:, 1], s=6, linewidths=0, rasterized=True, label=value, **look)
            axis.set_title(f"by {name}: {len(values[name])}")
            axis.set_xticks([])
            axis.set_yticks([])
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.01), "ncols": _columns(values[name])}
            axis.legend(**below, fontsize=6, frameon=False, handletextpad=0, columnspacing=0.5)

    named = ", ".join(f"{name} ({len(set(labels))} values)" for name, labels in colourings.items())
    return draw(
        title,
        f"{len(points_n2)} samples in the plane, coloured by {named}.",
        (3.3 * len(colourings), 3.3 + 0.125 * rows),
        paint,
    )


def _columns(labels: Sequence[str]) -> int:
    """Of a legend three inches wide."""
    return max(1, min(8, 48 // (max(map(len, labels)) + 4)))


def _in_order(label: str) -> tuple[bool, int, str]:
    """Numbers by size, before words."""
    return (False, int(label), "") if label.isdecimal() else (True, 0, label)
