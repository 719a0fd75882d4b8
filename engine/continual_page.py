"""Both benchmarks of continual instruction tuning (He et al., arXiv 2311.16206) on one page: what every method keeps."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from liit.engine.contrast import LEVEL, Contrast
from liit.engine.contrast_tables import differences, markdown, over_seeds
from liit.engine.progress import log
from liit.engine.store import appearing

FIGURES = {"average_accuracy": "average", "forgetting_rate": "forgetting", "backward_transfer": "BWT"}


def write_benchmarks(path: Path, found: Mapping[str, tuple[str, Contrast]]) -> None:
    """Write a table for each benchmark: figures, and the difference of the average from the reference with its interval.

    found: by the name of its page, what base a benchmark begins with, and what its cells say.
    """
    lines = [
        "# Continual instruction tuning",
        "",
        "```bash",
        "python jobs/continual.py",
        "```",
        "",
        "Percent, mean ± standard deviation over seeds; forgetting is the rate of Adapt-∞, BWT in points; differences with "
        f"their {LEVEL:.0%} intervals from a bootstrap over answers and seeds.",
        "",
    ]
    for name, (base, contrast) in found.items():
        lines += [f"## [{name}]({name}.md): {base}", "", *markdown(_table(contrast)), ""]
    with appearing(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
    log.info("both benchmarks: %s", path)


def _table(contrast: Contrast) -> pd.DataFrame:
    table = over_seeds(contrast.figures(), FIGURES)
    apart = differences(contrast).set_index("method")
    for title in ("average", "forgetting"):
        if title in apart:
            table[f"{title}, to {contrast.reference}"] = apart[title].reindex(table["method"]).fillna("").to_numpy()
    return table
