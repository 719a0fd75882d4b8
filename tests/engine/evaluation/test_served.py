"""A server of others answers as the built-in engine does; it is waited for, and gone with all its processes afterwards."""

import importlib.util
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from liit.engine.data.copies import content_hash
from liit.engine.evaluation.generations import Asked, generate
from liit.engine.evaluation.serving import Serving, filled, wait_until_gone
from liit.engine.fleet.running import TaskError
from liit.engine.handing.to_serve import to_serve
from liit.engine.run.files import read_table, write_table
from liit.engine.run.store import Clock
from liit.engine.run.tables import SAMPLE, key_of
from liit.engine.settings.config import Config
from liit.engine.settings.streams import EvaluationSet
from tests.engine.handing.made_up import questions, write_adapter

SERVE = (
    f"{Path(sys.executable).with_name('transformers')} serve {{merged}} --host 127.0.0.1 --port {{port}} --device cpu"
)


def exam(folder: Path, of_each: int) -> Asked:
    """Questions of one turn about the pictures of the embedded stream."""
    rows = []
    for number, row in enumerate(questions(folder, of_each)):
        if len(row["conversation"]) == 2:
            name, content = (
                f"digits/{number}",
                content_hash([*row["conversation"], {"role": "", "text": str(number)}], []),
            )
            known = {"id": name, "key": key_of(name), "dataset": "digits", "length": 80, "content": content}
            rows.append(row | known)
    write_table(folder / "exam.parquet", pa.Table.from_pylist(rows, schema=SAMPLE))
    told = {"name": "digits", "path": "x", "skill": "digits", "metric": "exact", "max_new_tokens": 12}
    return Asked(EvaluationSet.model_validate(told), folder / "exam.parquet")


def said(asked: Asked, adapter: Path | None, folder: Path, server: dict[str, Any] | None) -> dict[str, str]:
    resources = {"num_cpus": 2, "cpus_per_actor": 0.5, "warm": True}
    told = {"model": {"path": "digits-base", "max_length": 400}, "resources": resources}
    config = Config.model_validate(told | {"evaluation": {"server": server}})
    serve = None if server is None else partial(to_serve, server["command"], adapter, config)
    folder.mkdir()
    clock = Clock(folder / "note.json", {})
    generate([asked], adapter, config, None, folder / "generations.parquet", "asked", clock, serve)
    assert sorted(path.name for path in folder.iterdir() if path.suffix != ".json") == ["generations.parquet"]
    table = read_table(folder / "generations.parquet")
    return dict(zip(table["id"].to_pylist(), table["answer"].to_pylist(), strict=True))


@pytest.mark.usefixtures("ray_cluster")
def test_a_server_s_answers_are_those_of_the_built_in_engine(tmp_path: Path) -> None:
    for needed in ("fastapi", "uvicorn", "openai"):
        if importlib.util.find_spec(needed) is None:
            pytest.skip(f"`transformers serve` needs {needed}: pip install 'transformers[serving]'")
    write_adapter(tmp_path / "adapter", "digits-base", 0.03, seed=1)
    asked = exam(tmp_path, 2)
    server = {"command": SERVE, "cpus": 0.5, "in_flight": 2, "start_s": 240}
    own = said(asked, tmp_path / "adapter", tmp_path / "own", None)
    assert said(asked, tmp_path / "adapter", tmp_path / "served", server) == own
    assert len(set(own.values())) > 1


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def script(folder: Path, body: str) -> str:
    """A command that writes the ids of its processes to `pids`, itself and a child that ignores what it is asked."""
    file = folder / "server.py"
    file.write_text(
        "import os, signal, subprocess, sys, time\n"
        "deaf = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)'\n"
        "child = subprocess.Popen([sys.executable, '-c', deaf])\n"
        f"open({str(folder / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n{body}\n"
    )
    return f"{sys.executable} {file} {{port}}"


def pids(folder: Path) -> list[int]:
    until = time.monotonic() + 30
    while not (folder / "pids").is_file() or not (folder / "pids").read_text():
        assert time.monotonic() < until
        time.sleep(0.1)
    return [int(one) for one in (folder / "pids").read_text().split()]


def test_one_that_ends_or_never_gets_healthy_is_refused_with_the_end_of_its_log(tmp_path: Path) -> None:
    one = Serving(script(tmp_path, "print('no such model'); sys.exit(3)"), {}, tmp_path)
    with pytest.raises(
        TaskError, match=r"has ended before it was healthy; the end of its log: no such model \| .* code 3"
    ):
        one.wait("/health", 60)
    slow = Serving(script(tmp_path, "print('loading', flush=True); time.sleep(600)"), {}, tmp_path)
    with pytest.raises(TaskError, match=r"did not answer /health within 8 s .*; the end of its log: loading"):
        slow.wait("/health", 8)
    mine = pids(tmp_path)
    slow.stop()
    assert not any(map(alive, mine)), "the child is asked, and then killed"
    gone = Serving("no-such-program {port}", {}, tmp_path)
    with pytest.raises(TaskError, match="no-such-program cannot be started: No such file"):
        gone.wait("/health", 60)
    assert wait_until_gone(tmp_path)


def test_it_ends_with_whoever_started_it_even_where_that_is_killed(tmp_path: Path) -> None:
    command = script(tmp_path, "time.sleep(600)")
    code = (
        "import time, pathlib; from liit.engine.evaluation.serving import Serving; "
        f"one = Serving({command!r}, {{}}, pathlib.Path({str(tmp_path)!r})); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], env=os.environ) as starter:
        mine = pids(tmp_path)
        assert all(map(alive, mine))
        starter.kill()
    assert wait_until_gone(tmp_path)
    assert not any(map(alive, mine))


def test_only_the_words_that_are_known_are_filled_in() -> None:
    told = filled("serve {merged} --x '{\"a\": {b}}' {port}", {"merged": "/m", "port": "1"})
    assert told == "serve /m --x '{\"a\": {b}}' 1"
