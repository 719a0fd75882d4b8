"""Figures as SVG, by matplotlib: drawn without a screen, with text as text."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from liit.engine.store import appearing

if TYPE_CHECKING:
    from liit.engine.contrast import Contrast

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "liit",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def skills_over_time(contrast: "Contrast", path: Path) -> None:
    """The paper's Fig. 3: a panel for each skill, a line for each method, mean over seeds; and the mean over skills."""
    panels = [*contrast.skills, "mean of skills"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 5.5), layout="constrained")
        axes = figure.subplots(2, -(-len(panels) // 2), sharex=True, sharey=True).ravel()
        for name, cells in contrast.methods.items():
            tables = [pd.DataFrame(cell["accuracy"]) for cell in cells]
            mean = sum(tables[1:], tables[0]) / len(tables)
            mean["mean of skills"] = mean[contrast.skills].mean(axis=1)
            for axis, panel in zip(axes, panels, strict=False):
                axis.plot(np.arange(len(mean)), mean[panel], label=name, linewidth=1.3, marker="o", markersize=2.5)
        for axis, panel in zip(axes, panels, strict=False):
            axis.set_title(panel)
            axis.set_ylim(0, 102)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        figure.supxlabel("timestep")
        figure.supylabel("percent")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
        with appearing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def curves(values: pd.Series, path: Path) -> None:
    """A figure by setting: a line over numbers, bars over names; of two settings, a line for each value of the second."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6, 3.5), layout="constrained")
        axis = figure.subplots()
        table = values.unstack() if isinstance(values.index, pd.MultiIndex) else values.to_frame()
        if pd.api.types.is_numeric_dtype(table.index):
            axis.plot(table.index, table.to_numpy(), marker="o", markersize=3)
            axis.set_xlabel(str(table.index.name))
        else:
            for offset, column in enumerate(table):
                axis.barh(
                    np.arange(len(table)) + 0.8 * offset / len(table.columns), table[column], 0.8 / len(table.columns)
                )
            axis.set_yticks(np.arange(len(table)), [str(name) for name in table.index])
            axis.invert_yaxis()
        axis.set_title(str(values.name))
        if len(table.columns) > 1:
            axis.legend([str(column) for column in table], title=str(table.columns.name), frameon=False)
        with appearing(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
