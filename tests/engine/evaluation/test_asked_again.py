"""A request that fails is sent again, and what was answered is not: a stage that stopped goes on where it was."""

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.data.copies import content_hash
from liit.engine.evaluation import served
from liit.engine.evaluation.generations import Asked, generate
from liit.engine.evaluation.served import Served
from liit.engine.fleet.running import TaskError
from liit.engine.run.files import read_table
from liit.engine.run.store import Clock
from liit.engine.run.tables import SAMPLE, key_of
from liit.engine.settings.config import Config
from liit.engine.settings.streams import EvaluationSet, Server

COUNTING = Path(__file__).with_name("counting_server.py")


def command(folder: Path) -> str:
    return f"{sys.executable} {COUNTING} {{port}} {folder} {{merged}}"


def rows_of(count: int) -> list[dict[str, Any]]:
    rows = []
    for number in range(count):
        turns = [{"role": "user", "text": f"q{number}"}, {"role": "assistant", "text": "yes"}]
        ids = {"id": f"set/{number}", "key": key_of(f"set/{number}"), "dataset": "set"}
        rows.append({**ids, "conversation": turns, "images": [], "length": 40, "content": content_hash(turns, [])})
    return rows


def requests(folder: Path) -> Counter[str]:
    return Counter(json.loads(line) for line in (folder / "requests.jsonl").read_text().splitlines())


@contextmanager
def asking(folder: Path, fails: dict[str, list[int]], retries: int) -> Iterator[Served]:
    (folder / "fails.json").write_text(json.dumps(fails))
    told = {"command": command(folder), "in_flight": 3, "retries": retries, "start_s": 120}
    one = Served(
        Server.model_validate(told).model_dump(),
        {"merged": "m"},
        str(folder),
        {"set": 7},
        {"path": "digits-base", "revision": None},
    )
    yield one
    if "serving" in vars(one):
        one.serving.stop()
    assert not list(folder.glob("*.there")), "no server is left"


def test_a_request_that_fails_is_sent_again_and_only_that_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nobody is
    with asking(tmp_path, {"q1": [503, 0, 429], "q2": [0]}, retries=3) as one:
        answers = one.whole([rows_of(3), rows_of(5)[3:]])
    assert answers.to_pydict() == {"id": [f"set/{n}" for n in range(5)], "answer": [f"q{n} 7" for n in range(5)]}
    assert requests(tmp_path) == Counter({"q0": 1, "q1": 4, "q2": 2, "q3": 1, "q4": 1})


@pytest.mark.parametrize(
    ("fails", "times", "says"),
    [
        ([500] * 9, 3, r"set/1: the server gives no answer \(HTTP 500: out of luck out .*\); the end of its log: pid"),
        ([0] * 9, 3, r"set/1: the server gives no answer \(RemoteDisconnected: .*\); the end of its log: pid"),
        ([400], 1, r"set/1: the server gives no answer \(HTTP 400: out of luck out .*\); the end of its log: pid"),
        ([200], 1, r"set/1: the server answers something else than a chat's turn"),
    ],
)
def test_one_that_keeps_failing_or_is_refused_ends_in_one_line_and_with_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: list[int], times: int, says: str
) -> None:
    monkeypatch.setattr(served, "FIRST_WAIT_S", 0.01)
    with asking(tmp_path, {"q1": fails}, retries=2) as one, pytest.raises(TaskError, match=says) as raised:
        one.whole([rows_of(2)])
    assert "serving" not in vars(one), "the next task would have a server of its own"
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 1500
    assert requests(tmp_path)["q1"] == times


@pytest.mark.usefixtures("ray_cluster")
def test_a_stage_that_stopped_goes_on_by_its_part_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "liit")
    rows, exam, out = rows_of(24), tmp_path / "exam.parquet", tmp_path / "out.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=SAMPLE), exam, row_group_size=6)
    asked = Asked(EvaluationSet(name="set", path=str(exam), skill="set", metric="exact", max_new_tokens=7), exam)
    server = {"command": command(tmp_path), "cpus": 0.5, "in_flight": 2, "retries": 0, "start_s": 120}
    told = {"model": {"path": "digits-base"}, "resources": {"num_cpus": 2}, "evaluation": {"server": server}}
    config = Config.model_validate(told)

    def ask(fails: dict[str, list[int]]) -> None:
        (tmp_path / "fails.json").write_text(json.dumps(fails))
        clock = Clock(tmp_path / "note.json", {})
        generate([asked], None, config, None, out, "t0 evaluate", clock, lambda _: {"merged": "m"})

    with pytest.raises(TaskError, match=r"^t0 evaluate: set/19: the server gives no answer \(HTTP 503: .*") as raised:
        ask({"q19": [503] * 9})
    assert "\n" not in str(raised.value)
    folder = tmp_path / "out.parquet.answers"
    assert not list(folder.glob("*.there"))
    done = {row["id"] for part in folder.glob("*.parquet") for row in read_table(part).to_pylist()}
    assert done == {f"set/{number}" for number in range(18)}, "three tasks of four"
    first = requests(tmp_path)
    (tmp_path / "requests.jsonl").unlink()

    ask({})
    assert all(first[f"q{number}"] == 1 for number in range(18))
    assert requests(tmp_path) == Counter({f"q{number}": 1 for number in range(18, 24)})
    table = read_table(out)
    answers = dict(zip(table["id"].to_pylist(), table["answer"].to_pylist(), strict=True))
    assert answers == {row["id"]: f"q{number} 7" for number, row in enumerate(rows)}
    assert not folder.exists()
    assert "is not known to have ended" not in caplog.text
