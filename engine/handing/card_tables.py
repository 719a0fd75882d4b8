"""The tables of a model card, in Markdown: what came and was chosen, what was learned and forgotten, and by which versions."""

from collections import Counter
from collections.abc import Iterable, Sequence

import pyarrow.parquet as pq

from liit import __version__
from liit.engine.answers.accuracy import accuracy_table, drop_table, summary
from liit.engine.run.files import read_json
from liit.engine.run.reading import Run, RunError
from liit.engine.run.rules import RULES, rules_of

FIGURES = ("average_accuracy", "forgetting_rate", "max_forgetting", "backward_transfer", "gain_over_base")
DROPS = ("base", "best", "final", "drop_from_best", "forgetting_rate")


def releases(run: Run, t: int) -> str:
    """Each timestep up to t: its release, what was in the pool, and how many of each release were trained on."""
    rows = []
    for step, name in enumerate(run.releases[: t + 1]):
        folder = run.step(step)
        pool = pq.read_metadata(folder / "pool.parquet").num_rows
        chosen = Counter[str]()
        if (folder / "selection.parquet").is_file():
            chosen.update(one.partition("/")[0] for one in run.selection(step).index)
        of_each = ", ".join(f"{count:,} of {of}" for of, count in sorted(chosen.items())) or "none: nothing was trained"
        bad = (
            pq.read_metadata(folder / "quarantine.parquet").num_rows if (folder / "quarantine.parquet").is_file() else 0
        )
        rows.append([f"t{step}", name, f"{pool:,}", f"{bad:,}", f"{chosen.total():,}", of_each])
    return table(["", "release", "in the pool", "unusable", "selected", "of which"], rows)


def accuracy(run: Run, t: int) -> str:
    """The value of each skill after each timestep up to t, and what was forgotten; in words where nothing was evaluated."""
    try:
        found = run.accuracy
    except RunError:
        return "The run has no evaluation of it.\n"
    found = found.loc[[step for step in found.index if step <= t]]
    if t not in found.index:
        return "The run has no evaluation of it.\n"
    values = accuracy_table([{str(skill): float(value) for skill, value in row.items()} for _, row in found.iterrows()])
    skills = [str(name) for name in values.columns]
    rows = [
        [f"t{step} {run.releases[step]}", *(f"{values.iloc[at][skill]:.1f}" for skill in skills)]
        for at, step in enumerate(found.index)
    ]
    text = f"Value of each skill on the run's evaluation sets, percent:\n\n{table(['', *skills], rows)}\n"
    drops = drop_table(values).to_dict(orient="index")
    lost = [[skill, *(f"{drops[skill][name]:.1f}" for name in DROPS)] for skill in skills]
    text += table(["skill", *(name.replace("_", " ") for name in DROPS)], lost) + "\n"
    figures = {name: value for name, value in summary(values).items() if name in FIGURES and value is not None}
    return text + "; ".join(f"{name.replace('_', ' ')} {value:.1f}" for name, value in figures.items()) + ".\n"


def versions(run: Run, t: int) -> str:
    """What made the adapter, and what wrote this folder."""
    note = run.step(t) / "adapter.made.json"
    record = read_json(note) if note.is_file() else {}
    packages = ", ".join(f"{name} {number}" for name, number in record.get("versions", {}).items())
    first = (run.root / "config.yaml").read_text(encoding="utf-8").split("\n", 1)[0]
    made = first.removeprefix("# ") if first.startswith("# ") else "LiIT"
    rules = f"rules {rules_of(record)}" + (f" (today's are {RULES})" if rules_of(record) != RULES else "")
    return f"Made by {made}, {rules}{f', with {packages}' if packages else ''}; written by LiIT {__version__}.\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, the first column to the left, the others to the right."""
    lines = [head, [":---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(_cell(one) for one in line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
