"""A result is there whole or not at all, is made again when what made it changed, and time adds up."""

import json
from pathlib import Path

import pytest

from liit.engine.run.files import read_json, write_json
from liit.engine.run.fingerprints import fingerprint
from liit.engine.run.progress import start_logging
from liit.engine.run.rules import RULES, versions
from liit.engine.run.store import Clock, Store, StoreError


def test_a_result_is_made_once_and_again_when_settings_or_parents_change(tmp_path: Path) -> None:
    store, calls = Store(tmp_path), []

    def work(partial: Path, clock: Clock) -> None:
        calls.append(partial)
        partial.write_text("done")

    first = store.make("t00/x.txt", work, settings={"a": 1})
    assert first.fresh
    assert not store.make("t00/x.txt", work, settings={"a": 1}).fresh
    second = store.make("t00/x.txt", work, settings={"a": 2})
    assert second.fingerprint != first.fingerprint
    child = store.make("y", work, parents=(second,))
    assert store.make("y", work, parents=(first,)).fingerprint != child.fingerprint
    assert len(calls) == 4


def test_a_failed_result_has_no_name_and_its_part_is_kept_for_the_next_call(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fails(partial: Path, clock: Clock) -> None:
        partial.mkdir()
        (partial / "half").touch()
        raise RuntimeError

    def finishes(partial: Path, clock: Clock) -> None:
        assert (partial / "half").is_file()

    with pytest.raises(RuntimeError):
        store.make("x", fails, settings={"a": 1})
    assert not (tmp_path / "x").exists()
    store.make("x", finishes, settings={"a": 1})
    assert (tmp_path / "x" / "half").is_file()


def test_a_part_made_from_other_settings_is_thrown_away(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fails(partial: Path, clock: Clock) -> None:
        partial.write_text("old")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.make("x", fails, settings={"a": 1})

    def fresh(partial: Path, clock: Clock) -> None:
        assert not partial.exists()
        partial.write_text("new")

    assert store.make("x", fresh, settings={"a": 2}).path.read_text() == "new"


def test_seconds_add_up_over_interrupted_calls(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def fails(partial: Path, clock: Clock) -> None:
        clock.started -= 5  # five seconds ago
        clock.tick(0)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.make("x", fails)
    store.make("x", lambda partial, clock: partial.touch())
    assert 5 <= store.seconds()["x"] < 6


def test_what_a_run_does_not_ask_for_is_dropped_and_costs_it_nothing(tmp_path: Path) -> None:
    before = Store(tmp_path)
    for name in ("t01/x", "t01/y"):
        before.make(name, lambda partial, clock: partial.touch())
    before.close()
    store = Store(tmp_path)
    store.make("t01/x", lambda partial, clock: None)
    assert list(store.seconds()) == ["t01/x"]
    assert store.drop("t01/y")
    assert not store.drop("t01/y")
    assert sorted(path.name for path in (tmp_path / "t01").iterdir()) == ["x", "x.made.json"]


def test_a_forgotten_result_is_made_anew_only_when_it_is_needed(tmp_path: Path) -> None:
    def run(child: int) -> list[str]:
        store, calls = Store(tmp_path), []

        def work(partial: Path, clock: Clock) -> None:
            calls.append("large")
            partial.write_text("whole")

        def reads(partial: Path, clock: Clock) -> None:
            calls.append("child")
            partial.write_text(large.path.read_text())

        large = store.make("large", work)
        store.make("child", reads, settings={"a": child}, parents=(large,))
        store.forget("large")
        store.forget("nothing")
        store.close()
        return calls

    assert run(1) == ["large", "child"]
    assert not (tmp_path / "large").exists()
    assert run(1) == []
    assert run(2) == ["large", "child"]


def test_two_runs_cannot_share_a_folder_and_an_unwritable_one_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    with pytest.raises(StoreError, match="in use by another run"):
        Store(tmp_path / "run")
    store.close()
    Store(tmp_path / "run").close()
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path / "file" / "run")


def test_fingerprints_tell_values_apart_and_ignore_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 1.5})
    with pytest.raises(TypeError):
        fingerprint(object())


def test_json_is_replaced_whole(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert read_json(tmp_path / "x.json") == {"a": 1}
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": 1}


def test_other_rules_make_a_result_anew_and_other_versions_are_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start_logging()
    store = Store(tmp_path)
    for name in ("x", "y"):
        store.make(name, lambda partial, clock: partial.write_text("done"))
        record = read_json(tmp_path / f"{name}.made.json")
        assert (record["rules"], record["versions"]) == (RULES, versions())
        write_json(tmp_path / f"{name}.made.json", record | {"versions": record["versions"] | {"torch": "1.0"}})
    assert not store.make("x", lambda partial, clock: pytest.fail("it is there")).fresh
    assert not store.make("y", lambda partial, clock: pytest.fail("it is there")).fresh
    assert capsys.readouterr().out.count("was made with torch 1.0 and is kept; here is") == 1
    monkeypatch.setattr("liit.engine.run.recipe.RULES", RULES + 1)
    assert store.make("x", lambda partial, clock: partial.write_text("anew")).fresh
    assert f"x is made anew: it is of rules {RULES}, and since then" in capsys.readouterr().out
