"""Ids in files and shares in quotas: what they do to a selection, what a fingerprint has of them, what is refused and said."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import liit
from liit.engine.choosing.insisted import check, told
from liit.engine.choosing.missing import reasons_of
from liit.engine.choosing.selection import select
from liit.engine.forecast import forecast
from liit.engine.run.files import read_json, read_table, write_table
from liit.engine.run.progress import start_logging
from liit.engine.settings.config import Config
from liit.engine.settings.sections import Strategy
from tests.engine.choosing.conftest import SIZES
from tests.jobs.test_choose import call, make_step
from tests.liit.test_choosing import frame_of


def listed(path: Path, *ids: str) -> str:
    path.write_text("\n".join(ids) + "\n", encoding="utf-8")
    return str(path)


def chosen(run: Path, t: int = 2, **strategy: Any) -> list[dict[str, Any]]:
    config = Config.model_validate({"strategy": {"name": "random", "budget": 40, **strategy}})
    releases = sorted((run / "releases").glob("*.parquet"))[: t + 1]
    select(run / f"t{t:02d}", t, 3, releases, config, {}, run / "selection.parquet")
    rows: list[dict[str, Any]] = read_table(run / "selection.parquet").to_pylist()
    return rows


def of(rows: list[dict[str, Any]], name: str) -> int:
    return sum(row["id"].startswith(f"{name}/") for row in rows)


def test_a_selection_has_what_is_always_chosen_nothing_that_never_is_and_its_quotas(run: Path, tmp_path: Path) -> None:
    always, never = [f"pairs/{i}" for i in range(5, 10)], [f"words/{i}" for i in range(5, 60)]
    rows = chosen(
        run,
        always=listed(tmp_path / "always.txt", *always),
        never=listed(tmp_path / "never.txt", *never),
        quotas={"least": {"base": 0.5}, "most": {"pairs": 0.2}},
    )
    assert len(rows) == 40
    assert {row["id"] for row in rows if row["scorer"] == "always"} == set(always)
    assert all(row["score"] is None and row["percentile"] is None for row in rows)
    assert not {row["id"] for row in rows} & set(never)
    assert (of(rows, "base"), of(rows, "pairs")) == (20, 8)


def test_quotas_by_task_are_of_what_the_samples_say(run: Path) -> None:
    rows = chosen(run, quotas={"by": "task", "most": {"odd": 0.1}})
    assert sum(int(row["id"].split("/")[1]) % 2 for row in rows) == 4
    assert len(rows) == 40


def test_a_budget_in_tokens_is_kept_with_what_is_insisted_on(run: Path, tmp_path: Path) -> None:
    always = listed(tmp_path / "always.txt", *(f"pairs/{i}" for i in range(5, 10)))
    rows = chosen(run, unit="tokens", budget=500, always=always, quotas={"least": {"base": 0.5}})
    tokens = sum(10 + int(row["id"].split("/")[1]) % 7 for row in rows)
    assert 500 - 17 < tokens <= 500
    assert read_json(run / "t02" / "budget.json") == {"unit": "tokens", "allowed": 500, "spent": tokens}
    assert of(rows, "base") >= len(rows) // 2
    assert sum(row["scorer"] == "always" for row in rows) == 5


def test_what_cannot_hold_is_said_in_a_line_each(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_logging()
    always = ["words/0", "words/3", "base/1", "pairs/77", "pairs/7", "pairs/8"]
    chosen(
        run,
        always=listed(tmp_path / "always.txt", *always),
        never=listed(tmp_path / "never.txt", "words/1", "words/999"),
        quotas={"least": {"pairs": 0.9}, "most": {"base": 0.02, "words": 0.02}},
        budget=100,
    )
    said = capsys.readouterr().out
    assert (
        "t2, strategy.always: 4 of 6 samples are not there to be chosen: 2 quarantined (base/1, words/0); "
        "1 removed as duplicate (words/3); 1 in no release until now (pairs/77)"
    ) in said
    assert (
        "t2, strategy.never: 1 of 2 samples are not there to be chosen: 1 in no release until now (words/999)" in said
    )
    assert "55 of 100 samples are of dataset pairs, 90 at least were wanted: there are no more" in said
    assert (
        "23 of 100 samples are of dataset base, 2 at most were wanted: of what else may be chosen there is no more"
        in said
    )
    assert len(said.splitlines()) == 6


def test_ids_of_releases_to_come_are_not_missing_yet(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_logging()
    (run / "t02" / "pool.parquet").rename(run / "t01" / "pool.parquet")
    chosen(run, t=1, always=listed(tmp_path / "always.txt", "later/1", "words/999"))
    assert "1 of 2 samples are not there to be chosen: 1 in no release until now (words/999)" in capsys.readouterr().out


def test_what_the_pool_has_and_a_strategy_does_not_look_at_is_told_from_what_is_gone(run: Path) -> None:
    releases = sorted((run / "releases").glob("*.parquet"))
    assert reasons_of(["words/7", "words/2", "words/4", "vqa/1"], run / "t02", releases) == {
        "quarantined": ["words/2"],
        "removed as duplicate": ["words/4"],
        "not looked at by the strategy": ["words/7"],
        "in no release until now": ["vqa/1"],
    }


def test_an_opening_keeps_to_ids_and_has_no_quotas() -> None:
    told = {"always": "a.txt", "never": "b.txt", "quotas": {"most": {"words": 0.4}}, "opening": {"timesteps": 2}}
    config = Config.model_validate({"strategy": told})
    first, later = config.at(1).strategy, config.at(3).strategy
    assert (first.always, first.never, first.quotas) == (("a.txt",), ("b.txt",), None)
    assert later.quotas == config.strategy.quotas is not None


def test_more_always_than_tokens_are_left_out_and_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_logging()
    always = listed(tmp_path / "always.txt", *(f"pairs/{i}" for i in range(5, 45)))
    rows = chosen(run, unit="tokens", budget=100, always=always)
    assert {row["scorer"] for row in rows} == {"always"}
    left = 40 - len(rows)
    assert f"strategy.always: {left} of its samples are left out, the budget holds no more" in capsys.readouterr().out


def test_a_run_the_command_and_the_library_insist_alike(tmp_path: Path) -> None:
    step = make_step(tmp_path / "run" / "t02", failed=3)
    always, never = ["base/8", "pairs/3"], [f"words/{i}" for i in range(20)]
    files = {"always": listed(tmp_path / "a.txt", *always), "never": listed(tmp_path / "n.txt", *never)}
    quotas = {"least": {"pairs": 0.5}, "most": {"words": 0.1}}
    name = "semdedup"
    told = {"strategy": {"name": name, "budget": 40, "quotas": quotas, **files}, "seed": 7}
    select(step, 2, 3, [], Config.model_validate(told), {}, step / "selection.parquet")
    made = read_table(step / "selection.parquet")
    given = ["--seed", 7, "--quotas", "{least: {pairs: 0.5}, most: {words: 0.1}}"]
    given += [part for key, file in files.items() for part in (f"--{key}", file)]
    done = call(step / "profile", tmp_path / "out.parquet", *given, strategy=name)
    assert done.exit_code == 0, done.output
    assert read_table(tmp_path / "out.parquet").equals(made)
    frame = liit.choose(
        frame_of(step), strategy=name, budget=40, seed=7, timestep=2, always=always, never=never, quotas=quotas
    )
    assert frame.index.tolist() == made["id"].to_pylist()
    assert Counter(name.split("/")[0] for name in made["id"].to_pylist()) == {"pairs": 20, "words": 4, "base": 16}


def test_a_fingerprint_has_what_is_in_files_and_nothing_of_what_is_not_insisted_on(tmp_path: Path) -> None:
    plain = {"name": "random", "budget": 40, "unit": "samples", "lifetime": None, "decay": 1.0, "options": {}}
    assert told(Strategy(name="random", budget=40), 1) == plain
    lines = Strategy(name="random", always=(listed(tmp_path / "a.txt", "a/2", "a/1", "", "a/2"),))
    write_table(tmp_path / "b.parquet", pa.table({"id": ["a/1", "a/2"], "score": [0.5, 1]}))
    parted = Strategy(name="random", always=(str(tmp_path / "b.parquet"), listed(tmp_path / "c.txt")))
    assert told(lines, 1) == told(parted, 1) != told(Strategy(name="random"), 1)
    assert told(lines, 1) != told(Strategy(name="random", never=lines.always), 1)
    before = told(lines, 1)
    listed(tmp_path / "a.txt", "a/1")
    assert told(lines, 1) != before
    half, third = (Strategy(name="random", quotas={"least": {"a": share}}) for share in (0.5, 0.3))
    assert told(half, 1) != told(third, 1)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"always": "nowhere.txt"}, "strategy.always: nowhere.txt: No such file"),
        ({"always": "a.txt", "never": ["b.txt", "a.txt"]}, "both name words/1, words/2, words/3 and 1 more"),
        ({"always": "a.txt", "budget": 3}, r"4 samples are always chosen \(strategy.always\), and the budget is 3"),
        ({"never": "a.parquet"}, "a.parquet is no Parquet with a column `id`"),
        ({"quotas": {"most": {"gqa": 0.4}}}, "strategy.quotas: gqa is no release; releases are base, words, pairs"),
        ({"name": "sequential", "quotas": {"most": {"words": 0.4}}}, "quotas have no budget to share"),
        ({"quotas": {}}, "quotas bound nothing"),
        ({"quotas": {"least": {"words": 0.6, "pairs": 0.5}}}, r"least shares sum to 1\.1"),
        ({"quotas": {"least": {"words": 0.6}, "most": {"words": 0.5}}}, r"least of words is 0\.6, and most 0\.5"),
        ({"quotas": {"least": {"words": 1.5}}}, "less than or equal to 1"),
    ],
)
def test_what_cannot_be_insisted_on_is_refused(
    told: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listed(tmp_path / "a.txt", *(f"words/{i}" for i in range(1, 5)))
    listed(tmp_path / "b.txt", "base/1")
    write_table(tmp_path / "a.parquet", pa.table({"key": [1]}))
    with pytest.raises(ValueError, match=says):
        check(Config.model_validate({"strategy": {"name": "random"} | told}), list(SIZES))


def test_ids_that_begin_with_no_release_are_said_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start_logging()
    config = Config.model_validate({"strategy": {"never": listed(tmp_path / "n.txt", "gqa/1", "words/1")}})
    check(config, list(SIZES))
    assert "strategy.never: 1 of 2 ids begin with no release: gqa/1" in capsys.readouterr().out


def test_a_plan_counts_what_is_always_and_never_chosen(tmp_path: Path) -> None:
    releases = [{"name": name, "path": f"{name}.json", "samples": size} for name, size in SIZES.items()]
    files = {
        "always": listed(tmp_path / "a.txt", "base/1", "base/2", "words/9"),
        "never": listed(tmp_path / "n.txt", "words/1", "pairs/1"),
    }

    def selected(name: str) -> list[int]:
        told = {"name": name, "budget": 100, **files}
        config = Config.model_validate({"stream": {"kind": "files", "releases": releases}, "strategy": told})
        return [step.selected for step in forecast(config)]

    assert selected("sequential") == [0, 119 + 2, 59 + 3]
    assert selected("multi-task") == [0, 0, 268]
    assert selected("random") == [0, 100, 100]
