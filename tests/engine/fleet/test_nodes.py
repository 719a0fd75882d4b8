"""What is asked of every node: answers by name, silence in place of a hang, and files where node and driver meet."""

import ast
import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from liit.engine.fleet import look as looking
from liit.engine.fleet.look import look
from liit.engine.fleet.meeting import meeting, nearest
from liit.engine.fleet.nodes import Silence, alive, ask

ONLY_HERE = """
import time

def doubled(number):
    return 2 * number

def late():
    time.sleep(60)
"""


@pytest.mark.usefixtures("ray_cluster")
def test_a_node_answers_with_code_that_only_the_driver_has_or_is_silent_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text(ONLY_HERE)
    monkeypatch.syspath_prepend(tmp_path)
    only_here, (node,) = importlib.import_module("only_here"), alive()
    assert node.cpus == 2
    assert ask([node], only_here.doubled, 4, timeout_s=60, bare=True) == {node.name: 8}
    answer = ask([node], only_here.doubled, 4, timeout_s=60)[node.name]
    assert isinstance(answer, Silence)
    assert "No module named 'only_here'" in answer.reason
    began = time.monotonic()
    answer = ask([node], only_here.late, timeout_s=1, bare=True)[node.name]
    assert time.monotonic() - began < 20
    assert isinstance(answer, Silence)
    assert "no answer within 1 s" in answer.reason


def test_what_is_looked_at_needs_nothing_but_python(tmp_path: Path) -> None:
    """As on a node without LiIT: the file alone, in a process that sees no installed package."""
    (tmp_path / "a.json").write_text("12345")
    paths = [str(tmp_path / "a.json"), str(tmp_path), str(tmp_path / "none")]
    code = Path(looking.__file__).read_text(encoding="utf-8") + f"\nprint(look(['liit', 'ray'], {paths!r}, None))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True)
    found = ast.literal_eval(done.stdout)
    assert found["packages"] == {"liit": None, "ray": None}
    assert found["python"] == sys.version.split()[0]
    assert list(found["paths"].values()) == [5, -1, "No such file or directory"]


def other(folder: Path) -> dict[str, str]:
    """What a second process meets there."""
    code = f"from liit.engine.fleet.look import look; print(look([], [], {str(folder)!r})['met'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    met: dict[str, str] = ast.literal_eval(done.stdout)
    return met


def test_a_lock_that_is_held_is_refused_and_files_go_both_ways(tmp_path: Path) -> None:
    with meeting(tmp_path / "runs" / "new") as place:
        assert place.folder is not None
        met = other(place.folder)
        assert set(met) == {"wrote"}
        assert place.arrived(met["wrote"])
        assert not place.arrived("another")
        (place.folder / looking.LOCKED).unlink()
        (place.folder / looking.LOCKED).touch()  # as where a lock does not reach the other process
        assert other(place.folder)["lock"] == "two processes hold the same lock at once"
        assert look([], [], str(tmp_path / "elsewhere"))["met"] == {"read": "No such file or directory"}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_problem_and_no_error(tmp_path: Path) -> None:
    with meeting(Path("/proc/run")) as place:
        assert place.folder is None
        assert "nothing can be written there" in str(place.problem)
    (tmp_path / "file").write_text("")
    assert nearest(tmp_path / "file" / "run") == tmp_path / "file"
    with meeting(tmp_path / "file" / "run") as place:
        assert "Not a directory" in str(place.problem)


def test_the_code_of_liit_is_part_of_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {"__init__": "__version__ = '9'", "engine/__init__": "", "engine/a": "x = 1"}.items():
        file = tmp_path / "liit" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    before = version_in(tmp_path)
    assert before.startswith("9 (code ")
    assert version_in(tmp_path) == before
    (tmp_path / "liit" / "engine" / "a.py").write_text("x = 2")
    assert version_in(tmp_path) != before


def version_in(folder: Path) -> str:
    code = Path(looking.__file__).read_text(encoding="utf-8") + "\nprint(look(['liit'], [], None)['packages']['liit'])"
    code = f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"
    return subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout
