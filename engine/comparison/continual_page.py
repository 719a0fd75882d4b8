"""Both benchmarks of continual instruction tuning (He et al., arXiv 2311.16206) on one page: what every method keeps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from liit.engine.comparison.contrast import LEVEL, Contrast
from liit.engine.comparison.contrast_tables import differences, markdown, over_seeds
from liit.engine.run.files import appearing
from liit.engine.run.progress import log

FIGURES = {
    "average_accuracy": "average",
    "forgetting_rate": "forgetting",
    "max_forgetting": "largest drop",
    "backward_transfer": "BWT",
}


BASES = {
    "continual-1": "from a base that was never jointly tuned",
    "continual-2": "from the jointly tuned base, whose tasks are task 0",
}


def write_benchmarks(path: Path, found: Mapping[str, tuple[str, Contrast]]) -> None:
    """Write a table for each of two benchmarks, and one of what the base changes, all of the tasks that both teach.

    found: by the name of its page, what base a benchmark begins with, and what its cells say.
    """
    shared = set.intersection(*(set(contrast.found[0]["skills"]) for _, contrast in found.values()))
    taught = {name: _of(contrast, shared) for name, (_, contrast) in found.items()}
    lines = [
        "# Continual instruction tuning",
        "",
        "```bash",
        "python jobs/continual.py",
        "```",
        "",
        "Percent, mean ± standard deviation over seeds, of the tasks that both benchmarks teach; what the base knew before",
        "them stands apart. Forgetting is the rate of Adapt-∞; the largest drop, from a task's best to its end, is the negative",
        "of He et al.'s BWT; BWT is that of Lopez-Paz and Ranzato, in points. Differences have",
        f"{LEVEL:.0%} intervals from a bootstrap over answers and seeds.",
        "",
    ]
    for name, (base, contrast) in found.items():
        lines += [f"## [{name}]({name}.md): {base}", "", *markdown(_table(taught[name], contrast, shared)), ""]
    first, second = taught
    lines += [f"## {second} less {first}", "", "The same tasks, seeds and questions, from the other base.", ""]
    lines += [*markdown(_apart(taught[first], taught[second])), ""]
    with appearing(path) as temporary:
        temporary.write_text("\n".join(lines), encoding="utf-8")
    log.info("both benchmarks: %s", path)


def _of(contrast: Contrast, datasets: set[str]) -> Contrast:
    """The same cells, examined in these data sets alone."""
    return Contrast([_cut(cell, datasets) for cell in contrast.found], contrast.reference, "none")


def _cut(cell: Mapping[str, Any], datasets: set[str]) -> dict[str, Any]:
    skills = {name: skill for name, skill in cell["skills"].items() if name in datasets}
    kept = set(skills.values())
    accuracy = [{skill: value for skill, value in row.items() if skill in kept} for row in cell["accuracy"]]
    answers = {name: cell["answers"][name] for name in skills}
    return {**cell, "skills": skills, "accuracy": accuracy, "answers": answers}


def _table(taught: Contrast, whole: Contrast, shared: set[str]) -> pd.DataFrame:
    table = over_seeds(taught.figures(), FIGURES)
    known = [skill for name, skill in whole.found[0]["skills"].items() if name not in shared]
    if known:
        last = whole.figures()
        table["what the base knew"] = over_seeds(last.assign(known=last[known].mean(axis=1)), {"known": "known"})[
            "known"
        ]
    apart = differences(taught).set_index("method")
    for title in ("average", "largest drop"):
        table[f"{title}, to {taught.reference}"] = _values(apart, title, table["method"].tolist())
    return table


def _apart(first: Contrast, second: Contrast) -> pd.DataFrame:
    """What every method differs by in the second."""
    cells = [{**cell, "method": f"1 {cell['method']}"} for cell in first.found]
    cells += [{**cell, "method": f"2 {cell['method']}"} for cell in second.found]
    names = [name for name in second.methods if name in first.methods]
    found = differences(Contrast(cells, "", "none"), {f"2 {name}": f"1 {name}" for name in names})
    return found.assign(method=found["method"].str.partition(" − ")[0].str[2:])


def _values(apart: pd.DataFrame, title: str, methods: Sequence[str]) -> list[str]:
    return [str(apart[title].get(name, "")) if title in apart else "" for name in methods]
