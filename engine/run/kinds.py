"""How even each selection of a run is over its known tasks, and over the skills that these ask for.

Tasks are what the samples themselves say; a sample that says none counts nowhere. A task's skill is that of the evaluation sets
whose samples are of this task.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from liit.engine.run.files import read_json, read_table
from liit.engine.run.tables import found_at, sort_by_key
from liit.selectors.kinds import coverage, effective, rare

COLUMNS = ("kinds", "in the pool", "effective", "by chance", "rare", "rare covered", "skills", "effective skills")


def asked_in(root: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """The skill of each evaluation set by its key: as configured, or of the embedded stream once it is composed."""
    composed = root / "data" / "stream.json"
    stream = read_json(composed) if composed.is_file() else config["stream"]
    sets = [(one, one.get("since", 0)) for one in stream.get("evaluations", ())]
    return {f"{one['name']}{f'@t{since:02d}' if since else ''}": one["skill"] for one, since in sets}


def kinds(root: Path, timesteps: list[int], asked: Mapping[str, str]) -> pd.DataFrame:
    """A row for each timestep that has a selection; none where no sample names a task.

    kinds: how many are chosen; in the pool: how many that has; effective: exp of the entropy of the selection's shares, and by
    chance: of the pool's; rare: kinds of which chance expects less than one sample, and the share of them that the selection
    has; skills: how many its tasks ask for, and how many effectively.

    asked: the skill of each evaluation set, by its key.
    """
    keys_N, code_N, names = _known(root)
    skills = skills_of(root, asked)
    found = {t: _row(root / f"t{t:02d}", keys_N, code_N, names, skills) for t in timesteps} if names else {}
    there = {t: row for t, row in found.items() if row is not None}
    return pd.DataFrame(list(there.values()), index=pd.Index(there, name="timestep"), columns=list(COLUMNS))


def skills_of(root: Path, asked: Mapping[str, str]) -> dict[str, str]:
    """The skill of each task that evaluation sets have samples of; of several, the first set's. asked: as `kinds` has it."""
    skills: dict[str, str] = {}
    for key, skill in asked.items():
        path = root / "exam" / f"{key}.parquet"
        if path.exists():
            for task in read_table(path, ["task"])["task"].unique().to_pylist():
                skills.setdefault(task, skill)
    skills.pop(None, None)  # type: ignore[call-overload]
    return skills


def _known(root: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(N,) keys of all samples that name a task, ascending, (N,) which of the names each says, and the names."""
    tables = [read_table(path, ["key", "task"]) for path in sorted(root.glob("releases/*.parquet"))]
    if not tables:
        return np.empty(0, np.uint64), np.empty(0, np.int32), []
    whole = pa.concat_tables(tables)
    named = sort_by_key(whole.filter(whole["task"].is_valid()))
    coded = named["task"].combine_chunks().dictionary_encode()
    return named["key"].to_numpy(), coded.indices.to_numpy(), coded.dictionary.to_pylist()


def _row(
    step: Path, keys_N: np.ndarray, code_N: np.ndarray, names: list[str], skills: Mapping[str, str]
) -> dict[str, float] | None:
    if not (step / "selection.parquet").is_file():
        return None
    pool_K, chosen_K = (
        _counted(read_table(step / f"{name}.parquet", ["key"])["key"].to_numpy(), keys_N, code_N, len(names))
        for name in ("pool", "selection")
    )
    by_skill = dict.fromkeys(skills.values(), 0)
    for name, count in zip(names, chosen_K.tolist(), strict=True):
        if name in skills:
            by_skill[skills[name]] += count
    skill_K = np.array(list(by_skill.values()), np.int64)
    values = (
        int((chosen_K > 0).sum()),
        int((pool_K > 0).sum()),
        effective(chosen_K),
        effective(pool_K),
        int(rare(pool_K, int(chosen_K.sum())).sum()),
        coverage(pool_K, chosen_K),
        int((skill_K > 0).sum()),
        effective(skill_K),
    )
    return dict(zip(COLUMNS, values, strict=True))


def _counted(wanted_n: np.ndarray, keys_N: np.ndarray, code_N: np.ndarray, count: int) -> np.ndarray:
    """(K,) how many of these keys are of each task."""
    at_n = found_at(keys_N, wanted_n)
    return np.bincount(code_N[at_n[at_n >= 0]], minlength=count)
