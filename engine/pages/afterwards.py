"""What is known of the past since: samples that models were taught and may be used no more, or that are asked in an exam now."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from liit.engine.data.withdrawing import Withdrawn
from liit.engine.run.files import read_table
from liit.engine.run.reading import Run

COLUMNS = ["id", "timestep", "why"]


def taught_and_withdrawn(run: Run) -> pd.DataFrame:
    """id, timestep and why of each withdrawn sample that a timestep trained on; a row for each timestep."""
    told = run.config if (run.root / "config.yaml").is_file() else {}  # a run that was started from code may have none
    withdrawn, selections = Withdrawn.told(told), _selections(run)
    if not withdrawn or not selections:
        return pd.DataFrame(columns=COLUMNS)
    ids = pa.chunked_array([chunk for table in selections.values() for chunk in table["id"].chunks], pa.string())
    gone = withdrawn.among(sorted((run.root / "releases").glob("*.parquet")), ids)
    rows = [
        (name, t, gone[name]) for t, table in selections.items() for name in table["id"].to_pylist() if name in gone
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def taught_and_asked(run: Run, exam: Path, since: int) -> pd.DataFrame:
    """id, timestep and why (the question's id) of each sample that a timestep before `since` trained on, and that an evaluation
    set which came then holds too."""
    asked = read_table(exam, ["id", "content"])
    rows = []
    for t, table in _selections(run).items():
        if t >= since:
            continue
        for release in sorted((run.root / "releases").glob("*.parquet")):
            known = read_table(release, ["id", "content"])
            mine = known.filter(pc.is_in(known["id"], table["id"].combine_chunks()))
            at = pc.index_in(mine["content"], asked["content"].combine_chunks()).combine_chunks()
            found = np.flatnonzero(pc.is_valid(at).to_numpy(zero_copy_only=False))
            questions = asked["id"].take(at.take(found)).to_pylist()
            rows += [
                (name, t, question)
                for name, question in zip(mine["id"].take(found).to_pylist(), questions, strict=True)
            ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _selections(run: Run) -> dict[int, pa.Table]:
    paths = {t: run.step(t) / "selection.parquet" for t in run.timesteps}
    return {t: read_table(path, ["id"]) for t, path in paths.items() if path.is_file()}
