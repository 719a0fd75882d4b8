"""Cells of a comparison do what they have in common once: the timesteps before the first that is told something else."""

from pathlib import Path
from typing import Any

import pytest

from liit.engine.comparison.sharing import adopt, shares
from liit.engine.run.deciding import finished
from liit.engine.run.files import write_json
from liit.engine.run.store import Store
from liit.engine.settings.config import Config

STEPS = 5
RANDOM, DENSITY = {"name": "random"}, {"name": "density"}


def told(**settings: Any) -> Config:
    releases = [{"name": f"r{t}", "path": f"r{t}.json"} for t in range(STEPS + 1)]
    return Config.model_validate({"stream": {"kind": "files", "releases": releases}, **settings})


def cell(root: Path, name: str, config: Config, whole: bool = True) -> Path:
    """The folder of a cell that is finished, or was stopped."""
    store = Store(root / name)
    for t in range(STEPS + 1):
        for result in ("adapter", "evaluation.json", "removed.parquet"):
            store.make(f"t{t:02d}/{result}", lambda partial, clock: partial.write_text(name))
    store.close()
    write_json(root / name / "shares.json", shares(config))
    if whole:
        write_json(root / name / "results.json", {})
    return root / name


def adopted(root: Path, config: Config) -> list[str]:
    """From which cell each timestep is, from t1 on, as far as there are any."""
    adopt(root / "new", root, config)
    steps = sorted((root / "new").glob("t0[1-9]/adapter"))
    assert [path.parent.name for path in steps] == [f"t{t:02d}" for t in range(1, len(steps) + 1)]
    assert all(finished(path) is not None for path in steps)
    return [path.read_text() for path in steps]


def rate(*steps: int) -> dict[int, dict[str, float]]:
    return {t: {"training.learning_rate": 1e-3 / t} for t in steps}


@pytest.mark.parametrize(
    ("first", "second", "common"),
    [
        ({}, {"from": rate(3)}, 2),
        ({"from": rate(3)}, {}, 2),
        ({"from": rate(3)}, {"from": rate(4)}, 2),
        ({"from": rate(3)}, {"from": rate(3, 4)}, 3),
        ({"from": rate(1)}, {}, 0),
        ({}, {"from": {2: {"training.learning_rate": 2e-4}, 5: {"strategy.budget": 7}}}, 4),
        ({"strategy": RANDOM}, {"strategy": DENSITY | {"opening": {"name": "random", "timesteps": 3}}}, 3),
        ({"strategy": RANDOM}, {"strategy": DENSITY}, 0),
        ({"strategy": RANDOM, "scoring": {"embedding": 8}}, {"strategy": RANDOM}, STEPS),
        ({"scoring": {"embedding": 8}}, {}, 0),
        ({"seed": 1}, {}, 0),
        ({"pool": {"duplicates": "keep"}}, {}, 0),
        ({"training": {"epochs": 2}}, {"from": rate(3)}, 0),
        ({"name": "other", "training": {"workers": 1}, "keep_profiles": 1}, {}, STEPS),
    ],
)
def test_timesteps_before_the_first_that_is_told_otherwise_are_shared(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], common: int
) -> None:
    cell(tmp_path, "a", told(**first))
    assert adopted(tmp_path, told(**second)) == ["a"] * common


def test_the_cell_that_has_most_in_common_is_taken_and_none_that_was_stopped(tmp_path: Path) -> None:
    cell(tmp_path, "long", told(**{"from": rate(5)}))
    cell(tmp_path, "short", told(**{"from": rate(3)}))
    cell(tmp_path, "stopped", told(), whole=False)
    write_json(tmp_path / "short" / "shares.json", shares(told(**{"from": rate(3)})))  # the newest
    assert adopted(tmp_path, told(**{"from": rate(4)})) == ["long"] * 3
    again = (tmp_path / "new/t01/adapter").stat().st_ino
    assert again == (tmp_path / "long/t01/adapter").stat().st_ino, "no room is taken twice"


def test_a_cell_of_an_earlier_version_shares_what_all_share(tmp_path: Path) -> None:
    old = cell(tmp_path, "old", told())
    write_json(old / "shares.json", {"first": "of other rules", "opened": None})
    assert adopted(tmp_path, told()) == []
    assert (tmp_path / "new/t00/evaluation.json").is_file()
