"""The flow of counted things through stages, as ribbons: an alluvial diagram."""

from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from liit.engine.pages.figures import Picture, draw

GAP = 0.012
"""Between two values of a stage, of the whole height."""
STEPS = np.linspace(0, 1, 16)
MOST = 40
"""Values of a stage; the smaller ones are joined."""


def alluvial(counts: pd.DataFrame, title: str = "From data sets to what became of them") -> Picture:
    """A bar for each value of each stage, ribbons between neighbouring stages.

    counts: a column for each stage, in order, and `samples`; null is shown as "none".
    """
    stages = [str(name) for name in counts if name != "samples"]
    counts = counts[counts["samples"] > 0].reset_index(drop=True)
    table = counts.assign(**{stage: _named(counts, stage) for stage in stages})
    spans = {stage: _spans(table.groupby(stage)["samples"].sum()) for stage in stages}

    def paint(figure: Figure) -> None:
        axis = figure.subplots()
        for place, (left, right) in enumerate(pairwise(stages)):
            flows = table.groupby([left, right])["samples"].sum()
            _ribbons(axis, place, flows, spans[left], spans[right])
        for place, stage in enumerate(stages):
            for value, (low, high) in spans[stage].items():
                axis.fill_between([place - 0.02, place + 0.02], low, high, color="0.35", linewidth=0)
                axis.text(place + 0.03, (low + high) / 2, str(value), va="center", fontsize=7)
        axis.set_xticks(range(len(stages)), stages)
        axis.set_xlim(-0.1, len(stages) - 0.6)
        axis.set_yticks([])
        axis.spines[:].set_visible(False)

    most = max(len(one) for one in spans.values())
    ends = table.groupby(stages[-1])["samples"].sum()
    said = ", ".join(f"{name} {count:,.0f}" for name, count in ends.items())
    return draw(title, f"Samples by {', '.join(stages)}; in the end {said}.", (9, max(3.0, 0.16 * most + 1)), paint)


def _named(counts: pd.DataFrame, stage: str) -> "pd.Series[str]":
    names = counts[stage].astype(object).where(counts[stage].notna(), "none")
    largest = counts.groupby(names)["samples"].sum().nlargest(MOST).index
    return names.where(names.isin(largest), "others")


def _spans(sizes: "pd.Series[float]") -> dict[object, tuple[float, float]]:
    """Where each value of a stage stands on a height of one, the first at the top: (low, high)."""
    gap = min(GAP, 0.5 / len(sizes))
    scale = (1 - gap * (len(sizes) - 1)) / sizes.sum()
    ends = 1 - np.cumsum(sizes.to_numpy() * scale) - gap * np.arange(len(sizes))
    return {
        value: (float(end), float(end + size * scale))
        for value, end, size in zip(sizes.index, ends, sizes, strict=True)
    }


def _ribbons(
    axis: Axes,
    place: int,
    flows: "pd.Series[float]",
    left: dict[object, tuple[float, float]],
    right: dict[object, tuple[float, float]],
) -> None:
    """From stage `place` to the next, coloured by where they come from."""
    bend = STEPS**2 * (3 - 2 * STEPS)
    whole = {"left": flows.groupby(level=0).sum(), "right": flows.groupby(level=1).sum()}
    at = {"left": {v: high for v, (_, high) in left.items()}, "right": {v: high for v, (_, high) in right.items()}}
    colours = {value: f"C{number % 10}" for number, value in enumerate(left)}
    for source, target, count in flows.reset_index().itertuples(index=False, name=None):
        heights = []
        for side, value, spans in (("left", source, left), ("right", target, right)):
            low, high = spans[value]
            size = (high - low) * count / whole[side][value]
            heights.append((at[side][value], at[side][value] - size))
            at[side][value] -= size
        (top, bottom), (to_top, to_bottom) = heights
        axis.fill_between(
            place + 0.02 + 0.96 * STEPS,
            bottom + (to_bottom - bottom) * bend,
            top + (to_top - top) * bend,
            color=colours[source],
            alpha=0.45,
            linewidth=0,
        )
