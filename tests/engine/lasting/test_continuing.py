"""What a run was told before goes on to hold; what is told now holds from the next timestep on."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from liit.engine.lasting.continuing import continued, withdrawn_by
from liit.engine.run.store import Store
from liit.engine.settings.config import Config, ConfigError
from liit.engine.settings.streams import FileStream

SETS = ("gqa", "vqa")


def told(root: Path, sets: Any = None, **settings: Any) -> Config:
    known = [{"name": name, "path": f"{name}.json", "skill": name} for name in SETS]
    releases = [{"name": f"r{t}", "path": f"r{t}.json"} for t in range(3)]
    stream = {"kind": "files", "releases": releases, "evaluations": known if sets is None else sets}
    return Config.model_validate({"stream": stream, "output": str(root), **settings})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run that has finished two pools."""
    begun(tmp_path, told(tmp_path))
    return tmp_path


def begun(root: Path, config: Config) -> None:
    store = Store(root)
    for t in range(2):
        store.make(f"t{t:02d}/pool.parquet", lambda partial, clock: partial.touch())
    store.close()
    (root / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))


def windows(config: Config) -> dict[str, tuple[int, int | None]]:
    assert isinstance(config.stream, FileStream)
    return {one.key: (one.since, one.until) for one in config.stream.evaluations}


def test_sets_come_and_go_from_the_next_timestep_on(root: Path) -> None:
    gqa, vqa, okvqa = ({"name": name, "path": f"{name}.json", "skill": name} for name in (*SETS, "okvqa"))
    for same in ([gqa, vqa], [vqa, gqa], [gqa | {"metric": "vqa"}, vqa | {"max_new_tokens": 5}]):
        assert windows(continued(told(root, same))) == {"gqa": (0, None), "vqa": (0, None)}
    assert windows(continued(told(root, [gqa, vqa, okvqa])))["okvqa@t02"] == (2, None)
    assert windows(continued(told(root, [vqa]))) == {"vqa": (0, None), "gqa": (0, 2)}
    fewer = continued(told(root, [gqa | {"limit": 3}, vqa]))
    assert windows(fewer) == {"gqa@t02": (2, None), "vqa": (0, None), "gqa": (0, 2)}
    begun(root, fewer)
    assert windows(continued(told(root, [gqa | {"limit": 3}, vqa]))) == windows(fewer)


def test_what_holds_from_a_timestep_on_goes_on_to_hold(root: Path) -> None:
    begun(root, continued(told(root, **{"from": {4: {"training.learning_rate": 0.5}}})))
    assert continued(told(root)).from_ == {4: {"training.learning_rate": 0.5}}
    assert continued(told(root, training={"workers": 2})).training.workers == 2
    assert continued(told(root, training={"workers": 2})).from_ == {4: {"training.learning_rate": 0.5}}
    more = continued(told(root, **{"from": {4: {"strategy.budget": 9}, 6: {"strategy.budget": 7}}})).from_
    assert more == {4: {"training.learning_rate": 0.5, "strategy.budget": 9}, 6: {"strategy.budget": 7}}
    assert continued(told(root, **{"from": {}})).from_ == {}
    by_now = continued(told(root, training={"learning_rate": 0.5}))
    assert (by_now.training.learning_rate, by_now.at(4).training.learning_rate) == (2e-4, 0.5)


def test_what_is_made_anew_from_a_timestep_on_is_a_setting_from_then_on(root: Path) -> None:
    begun(root, continued(told(root, **{"from": {4: {"strategy.budget": 6, "training.epochs": 2}}})))
    config = continued(told(root, strategy={"budget": 9}), redo=3)
    assert config.from_ == {3: {"strategy.budget": 9}, 4: {"training.epochs": 2}}
    assert [config.at(t).strategy.budget for t in (2, 3, 4)] == [25_000, 9, 9]
    with pytest.raises(ConfigError, match=r"--redo t3: training\.lora\.r cannot change during a run"):
        continued(told(root, training={"lora": {"r": 3}}), redo=3)


def test_a_line_that_is_withdrawn_holds_from_the_next_timestep_on_and_for_what_is_made_anew(root: Path) -> None:
    path = root / "gone.txt"
    path.write_text("id: r1/1\n")
    first = continued(told(root, pool={"withdrawn": str(path)}))
    assert first.pool.withdrawals == {2: ("id: r1/1",)}
    begun(root, first)
    path.write_text("id: r1/1\nid: r1/2\n")
    Store(root).make("t02/pool.parquet", lambda partial, clock: partial.touch())
    second = continued(told(root, pool={"withdrawn": str(path)}))
    assert second.pool.withdrawals == {2: ("id: r1/1",), 3: ("id: r1/2",)}
    assert second.pool.withdrawn_at(2) == ("id: r1/1",)
    assert withdrawn_by(second, 1).pool.withdrawals == {1: ("id: r1/1", "id: r1/2")}
    assert withdrawn_by(second, 3).pool.withdrawals == second.pool.withdrawals


def test_settings_of_before_that_have_no_effect_any_more_are_read_and_change_nothing(root: Path) -> None:
    before = told(root).model_dump(mode="json")
    assert "batches_per_file" not in before["scoring"] | before["evaluation"]
    for section in ("scoring", "evaluation"):
        before[section]["batches_per_file"] = 64
    (root / "config.yaml").write_text(yaml.safe_dump(before))
    config = continued(told(root, scoring={"batches_per_file": 8}), redo=1)
    assert (config.from_, config.model_dump()) == ({}, told(root).model_dump())
