"""The part of a run's report that says what is known of its past since."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from liit.engine.pages.afterwards import taught_and_asked, taught_and_withdrawn
from liit.engine.pages.page import Section
from liit.engine.pages.report_data import RunFolder

SHOWN = 200
"""Rows of a table."""


def since_then(run: RunFolder, results: dict[str, Any]) -> Iterator[Section]:
    """Withdrawn samples, and questions of evaluation sets that came later, among what adapters were trained on."""
    gone = taught_and_withdrawn(run.tables)
    if len(gone):
        note = f"{_times(gone)} samples that were withdrawn since; adapters that go on from these hold them too."
        yield Section("Trained on, and withdrawn since", note, table=gone.head(SHOWN))
    for exam in sorted(run.root.glob("exam/*@t*.parquet")):
        name, _, since = exam.stem.rpartition("@t")
        if not since.isdigit():
            continue
        known = taught_and_asked(run.tables, exam, int(since))
        if len(known):
            note = f"{_times(known)} questions of {name}, which came at t{int(since)}: its values are flattered."
            yield Section(f"Trained on, and asked by {name} since", note, table=known.head(SHOWN))


def _times(rows: pd.DataFrame) -> str:
    steps = ", ".join(f"t{t}" for t in sorted(set(rows["timestep"])))
    return f"{len(rows):,} times, at {steps}, was trained on"
