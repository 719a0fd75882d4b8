"""What an oracle looks at in a run: the tasks of its releases, and the skills that its evaluation sets ask of them."""

from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from liit.engine.choosing.selection import select
from liit.engine.run.files import read_json, read_table, write_table
from liit.engine.run.planning import Plan
from liit.engine.run.progress import start_logging
from liit.engine.run.store import Made
from liit.engine.run.tables import SAMPLE
from liit.engine.settings.config import Config
from liit.engine.settings.settling import settle
from liit.engine.stages import Stages

ASKED = {"exam": "vqa"}


def chosen(run: Path, name: str, **strategy: Any) -> Counter[str]:
    """How many are chosen of each data set's samples, even and odd: the odd ones name the task `odd`, the others none."""
    config = Config.model_validate({"strategy": {"name": name, "budget": 40, **strategy}})
    releases = sorted((run / "releases").glob("*.parquet"))
    select(run / "t02", 2, 3, releases, config, {}, run / "selection.parquet", ASKED)
    names = [row.split("/") for row in read_table(run / "selection.parquet")["id"].to_pylist()]
    return Counter("odd" if int(i) % 2 else dataset for dataset, i in names)


def examine(run: Path, task: str | None = "odd") -> None:
    (run / "exam").mkdir()
    write_table(run / "exam" / "exam.parquet", pa.Table.from_pylist([{"id": "exam/0", "task": task}], schema=SAMPLE))


def test_a_sample_without_a_task_is_of_a_task_of_its_data_set(run: Path) -> None:
    assert chosen(run, "oracle-tasks") == dict.fromkeys(("odd", "base", "words", "pairs"), 10)
    assert chosen(run, "oracle-tasks", budget=160) == {"odd": 46, "base": 42, "words": 45, "pairs": 27}  # 27 is all


def test_tasks_that_nothing_asks_for_are_of_one_skill_more(run: Path) -> None:
    examine(run)
    assert chosen(run, "oracle-skills", budget=60) == {"odd": 30, "base": 10, "words": 10, "pairs": 10}


@pytest.mark.parametrize("unit", ["tokens", "samples"])
def test_budgets_of_any_unit_are_spent_evenly(unit: str, run: Path) -> None:
    counts = chosen(run, "oracle-tasks", budget=700, unit=unit) if unit == "tokens" else chosen(run, "oracle-tasks")
    spent = read_json(run / "t02" / "budget.json")
    assert 0.97 * spent["allowed"] < spent["spent"] <= spent["allowed"]
    assert max(counts.values()) - min(counts.values()) <= 1


def test_quotas_and_ids_go_around_an_oracle(run: Path, tmp_path: Path) -> None:
    (tmp_path / "always.txt").write_text("base/10\nbase/12\n")
    counts = chosen(run, "oracle-tasks", always=str(tmp_path / "always.txt"), quotas={"most": {"pairs": 0.1}})
    assert sum(counts.values()) == 40
    assert counts["pairs"] <= 4


def test_it_is_said_that_an_oracle_looks_at_labels(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start_logging()
    chosen(run, "oracle-tasks")
    assert "oracle-tasks looks at known tasks, which no method may" in capsys.readouterr().out
    chosen(run, "random")
    assert "no method may" not in capsys.readouterr().out


def test_without_tasks_or_whoever_asks_for_them_there_is_no_oracle(run: Path) -> None:
    examine(run, None)
    with pytest.raises(
        ValueError, match=r"oracle-skills: no evaluation set has samples of any of the 1 tasks, such as odd"
    ):
        chosen(run, "oracle-skills")
    for path in (run / "releases").glob("*.parquet"):
        table = read_table(path)
        place = table.schema.get_field_index("task")
        write_table(path, table.set_column(place, "task", pc.if_else(False, table["task"], None)))
    with pytest.raises(ValueError, match=r"oracle-tasks: none of 255 samples names its task; give rows a column task"):
        chosen(run, "oracle-tasks")
    with pytest.raises(
        ValueError, match=r"oracle-skills goes by what evaluation sets ask for; give stream\.evaluations"
    ):
        settle(["strategy=oracle-skills", "stream={kind: files, releases: [{name: a, path: a.json}]}"], None)


def test_only_what_goes_by_skills_is_made_anew_where_evaluation_sets_ask_for_others(tmp_path: Path) -> None:
    def mark(name: str, asked: dict[str, str]) -> str:
        stages = Stages(Config.model_validate({"strategy": {"name": name, "budget": 9}}), Plan(tmp_path))
        assert stages.strategy(1).scores_for({}) == ()  # nothing is scored
        return stages.select(1, Made(tmp_path / "t01/pool.parquet", "pool"), None, None, None, asked).fingerprint

    for name, goes_by_skills in (("random", False), ("oracle-tasks", False), ("oracle-skills", True)):
        assert mark(name, ASKED) == mark(name, dict(ASKED))
        assert (mark(name, ASKED) != mark(name, {"exam": "grounding"})) == goes_by_skills
        assert (mark(name, ASKED) != mark(name, ASKED | {"other@t01": "vqa"})) == goes_by_skills
