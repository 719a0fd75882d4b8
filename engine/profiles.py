"""A finished profile read from disk, as the stages after scoring and the tools beside them do; no Ray, no torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from liit.engine.store import read_table


def read_profile(folder: Path, columns: Sequence[str]) -> pa.Table:
    """The usable rows of a profile, sorted by key: `id`, `key` and the named columns."""
    table = read_table(folder, ["id", "key", "status", *dict.fromkeys(columns)])
    return table.filter(pc.equal(table["status"], "ok")).drop_columns(["status"]).sort_by("key")


def vector(table: pa.Table, name: str) -> np.ndarray:
    """(N, D) float16: a vector column as a matrix."""
    column = table[name].combine_chunks()
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), column.type.list_size)
