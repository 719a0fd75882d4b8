"""What another result takes the place of is kept, whole and readable, whenever the process ends."""

from pathlib import Path

import pytest

from liit.engine.run.files import read_json, write_json
from liit.engine.run.planning import Plan
from liit.engine.run.recipe import Recipe
from liit.engine.run.store import Clock, Store
from liit.engine.run.superseding import LIST, supersede
from tests.killed import killed_everywhere

OF_BEFORE = "its record is of before, and does not say what made it"


def made(root: Path, rate: float) -> Store:
    """A folder with a selection, and an adapter with what belongs to it."""
    store = Store(root)

    def teach(partial: Path, clock: Clock) -> None:
        partial.mkdir(exist_ok=True)
        (partial / "weights").write_text(str(rate))
        partial.with_name("similarity.json").write_text(str(rate))

    first = store.make("t01/selection", lambda partial, clock: partial.write_text("chosen"), settings={"budget": 2})
    beside = ("similarity.json",)
    store.make("t01/adapter", teach, settings={"training": {"rate": rate}}, parents=(first,), beside=beside)
    store.close()
    return store


def test_what_stood_is_kept_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    made(tmp_path, 1)
    made(tmp_path, 2)
    [kept] = (tmp_path / "superseded").iterdir()
    for folder, rate in ((kept, "1"), (tmp_path, "2")):
        assert (folder / "t01/adapter/weights").read_text() == (folder / "t01/similarity.json").read_text() == rate
        assert read_json(folder / "t01/adapter.made.json")["settings"] == {"training.rate": int(rate)}
    assert (kept / "t01/selection").stat().st_ino == (tmp_path / "t01/selection").stat().st_ino, (
        "no room is taken twice"
    )
    assert read_json(kept / "superseded.json")["superseded"] == {"t01/adapter": ["training.rate 1 → 2"]}


def test_whenever_the_process_ends_nothing_is_lost(tmp_path: Path) -> None:
    made(tmp_path / "start", 1)
    for folder in killed_everywhere(
        tmp_path / "start", tmp_path / "ends", lambda root: supersede(root, {"t01/adapter": ("why",)})
    ):
        Store(folder).close()
        for weights in (folder / "t01/adapter/weights", folder / "t01/similarity.json"):
            kept = [*folder.glob(f"superseded/[!.]*/{weights.relative_to(folder)}"), weights]
            assert {path.read_text() for path in kept if path.is_file()} == {"1"}
        assert not (folder / LIST).exists()
        made(folder, 2)
        assert (folder / "t01/adapter/weights").read_text() == "2"
        assert (folder / "t01/similarity.json").read_text() == "2"


def never(partial: Path, clock: Clock) -> None:
    pytest.fail("a plan does no work")


def test_a_plan_says_what_a_run_does_and_does_nothing(tmp_path: Path) -> None:
    made(tmp_path, 1)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    found = Plan(tmp_path)
    first = found.make("t01/selection", never, settings={"budget": 3})
    found.make("t01/adapter", never, settings={"training": {"rate": 1}}, parents=(first,))
    found.make("t02/pool", never)
    assert {name: (one.state, one.reasons) for name, one in found.verdicts.items()} == {
        "t01/selection": ("made anew", ("budget 2 → 3",)),
        "t01/adapter": ("made anew", ("t01/selection is made anew",)),
        "t02/pool": ("to do", ()),
    }
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_what_more_is_asked_extends_a_result_and_supersedes_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def ask(*words: str) -> str:
        def work(partial: Path, clock: Clock) -> None:
            old = tmp_path / "answers"
            before = old.read_text().split() if old.is_file() else []
            partial.write_text(" ".join([*before, *(word for word in words if word not in before)]))

        store.make("answers", work, settings={"model": "m"}, more={"asked": list(words)})
        return (tmp_path / "answers").read_text()

    assert ask("a") == "a"
    assert ask("a", "b") == "a b"
    assert ask("b") == "a b"
    assert not (tmp_path / "superseded").exists()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (Recipe("x", {"a": {"b": 1}}), Recipe("x", {"a": {"b": 2}}), "a.b 1 → 2"),
        (Recipe("x", {}), Recipe("x", {"a": [1]}), "a (not set) → [1]"),
        (Recipe("x", parents={"p": "1"}), Recipe("x", parents={"p": "2"}), "p is made anew"),
        (Recipe("x", parents={"p": "1"}), Recipe("x", parents={"p": "1", "q": "2"}), "q has a part in it now"),
        (Recipe("x", files={"r/b.json": "1"}), Recipe("x", files={"s/b.json": "2"}), "s/b.json has changed"),
    ],
)
def test_reasons_are_words(old: Recipe, new: Recipe, reason: str) -> None:
    assert old.fingerprint != new.fingerprint
    assert new.differences(old.record()) == (reason,)


def test_a_record_of_before_is_equal_or_not_and_says_no_more(tmp_path: Path) -> None:
    """It has a fingerprint, of all that made the result, and not what that was."""
    made(tmp_path, 1)
    note = tmp_path / "t01/adapter.made.json"
    known = read_json(note)
    write_json(note, {key: known[key] for key in ("fingerprint", "rules", "seconds")})
    for rate, verdict in ((1, ("kept", ())), (2, ("made anew", (OF_BEFORE,)))):
        found = Plan(tmp_path)
        first = found.make("t01/selection", never, settings={"budget": 2})
        found.make("t01/adapter", never, settings={"training": {"rate": rate}}, parents=(first,))
        assert (found.verdicts["t01/adapter"].state, found.verdicts["t01/adapter"].reasons) == verdict
    made(tmp_path, 2)
    [kept] = (tmp_path / "superseded").iterdir()
    assert (kept / "t01/adapter/weights").read_text() == "1"


def test_a_file_may_move(tmp_path: Path) -> None:
    assert Recipe("x", files={"here/b.json": "1"}).fingerprint == Recipe("x", files={"there/b.json": "1"}).fingerprint
