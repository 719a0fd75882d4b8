"""A run that trains on what another run selected: the ids of each timestep, whatever they were chosen by."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from liit.engine.choosing.insisted import told
from liit.engine.choosing.selection import select
from liit.engine.forecast import forecast
from liit.engine.run.files import read_table, write_json, write_table
from liit.engine.run.progress import start_logging
from liit.engine.settings.config import Config
from liit.engine.settings.settling import settle
from liit.selectors.priority import smallest
from tests.engine.choosing.conftest import SIZES
from tests.engine.choosing.test_insisted import listed


@pytest.fixture
def old(run: Path, tmp_path: Path) -> Path:
    """Another run of the same releases, which chose 30 samples at t1 and t2, some of which are gone in `run`."""
    folder = tmp_path / "old"
    write_json(folder_of(folder) / "config.yaml", Config().model_dump(mode="json"))
    releases = sorted((run / "releases").glob("*.parquet"))
    write_json(folder_of(folder / "data") / "stream.json", {"releases": [{"name": name} for name in SIZES]})
    for t in (1, 2):
        table = read_table(releases[t])
        few = table.take(smallest(table["key"].to_numpy(), 30, "old", t)).select(["id", "key"])
        write_table(folder_of(folder / f"t{t:02d}") / "pool.parquet", table.select(["id"]))
        write_table(folder / f"t{t:02d}" / "selection.parquet", few)
    return folder


def folder_of(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    return path


def chosen_by(old: Path, t: int) -> set[str]:
    return set(read_table(old / f"t{t:02d}" / "selection.parquet")["id"].to_pylist())


def configured(old: Path, **strategy: Any) -> Config:
    releases = [{"name": name, "path": f"{name}.json", "samples": size} for name, size in SIZES.items()]
    given = {"name": "given", "run": str(old), "budget": 7, **strategy}
    return Config.model_validate({"stream": {"kind": "files", "releases": releases}, "strategy": given})


def test_what_the_other_run_selected_and_the_pool_has_is_selected(
    run: Path, old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_logging()
    always, never = listed(tmp_path / "a.txt", "base/9"), listed(tmp_path / "n.txt", "pairs/50", "pairs/51", "pairs/52")
    releases = sorted((run / "releases").glob("*.parquet"))
    gone = {f"pairs/{i}" for i in range(5)}
    for strategy, more, less in (
        ({}, set(), set()),
        ({"always": always, "never": never}, {"base/9"}, {"pairs/50", "pairs/51", "pairs/52"}),
    ):
        select(run / "t02", 2, 3, releases, configured(old, **strategy), {}, run / "selection.parquet")
        rows = read_table(run / "selection.parquet").to_pylist()
        assert {row["id"] for row in rows} == chosen_by(old, 2) - gone - less | more
        assert {row["scorer"] for row in rows} == {"given", *(["always"] if more else [])}
    lost = sorted(chosen_by(old, 2) & gone)
    assert lost, "the test is of ids that are gone"
    assert f"t2, strategy.run: {len(lost)} of 30 samples are not there to be chosen: " in capsys.readouterr().out


def test_a_pool_that_has_none_of_them_is_refused(run: Path, old: Path) -> None:
    (old / "t02" / "selection.parquet").unlink()
    write_table(old / "t02" / "selection.parquet", read_table(run / "releases" / "02-pairs.parquet").slice(0, 0))
    select(run / "t02", 2, 3, [], configured(old), {}, run / "selection.parquet")  # it chose nothing, and so does this
    assert not len(read_table(run / "selection.parquet"))
    other = read_table(run / "releases" / "02-pairs.parquet").select(["key"]).slice(0, 2)
    write_table(old / "t02" / "selection.parquet", other.add_column(0, "id", [["vqa/1", "vqa/2"]]))
    with pytest.raises(
        ValueError, match=r"t2: the pool has none of the 2 samples that .*old selected, the first is vqa/1"
    ):
        select(run / "t02", 2, 3, [], configured(old), {}, run / "selection.parquet")


def test_a_plan_says_how_many_are_given_and_refuses_a_timestep_that_is_not_there(old: Path, tmp_path: Path) -> None:
    assert [step.selected for step in forecast(configured(old))] == [0, 30, 30]
    assert [step.scored for step in forecast(configured(old))] == [0, 0, 0]
    never = listed(tmp_path / "n.txt", *chosen_by(old, 1))
    assert [step.selected for step in forecast(configured(old, never=never))] == [0, 0, 30]
    opened = configured(old, opening={"name": "random", "timesteps": 1})
    (old / "t01" / "selection.parquet").unlink()
    assert [step.selected for step in forecast(opened)] == [0, 7, 30]
    with pytest.raises(
        ValueError, match=r"strategy.run: .*old/t01/selection.parquet does not exist: the run has not come so far"
    ):
        forecast(configured(old))
    with pytest.raises(ValueError, match="nowhere is no folder; pass a run's"):
        forecast(configured(Path("nowhere")))


def test_a_fingerprint_has_the_ids_and_not_where_they_lie(old: Path, tmp_path: Path) -> None:
    moved = old.rename(tmp_path / "moved")
    before = told(configured(moved).strategy, 2)
    assert told(configured(moved.rename(old)).strategy, 2) == before != told(configured(old).strategy, 1)
    table = read_table(old / "t02" / "selection.parquet")
    write_table(old / "t02" / "selection.parquet", table.slice(0, 29))
    assert told(configured(old).strategy, 2) != before


def test_a_run_is_named_where_it_is_given_and_only_there(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = settle(["strategy=given", "strategy.run=old"], str(tmp_path / "new"))
    assert config.strategy.run == str(old)
    assert yaml.safe_load(yaml.safe_dump(config.model_dump(mode="json")))["strategy"]["run"] == str(old)
    for arguments, says in (
        (["strategy=given"], "name its folder as strategy.run"),
        (["strategy=random", "strategy.run=old"], "strategy.run=old is for strategy given; random chooses itself"),
        (["strategy=given", "strategy.run=new"], "where this run goes itself"),
        (["strategy=given", "strategy.options={run: old}"], "unknown strategy options"),
    ):
        with pytest.raises(ValueError, match=says):
            settle(arguments, str(tmp_path / "new"))
