"""What is found in an error, however it is wrapped; and that what ends its process is not tried for ever."""

import errno
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from liit.engine.fleet import faults, tries
from liit.engine.fleet.nodes import Node
from liit.engine.fleet.placing import as_placed
from liit.engine.settings.sections import Resources


def full(file: str = "/shared/run/part-00.parquet") -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file)


def by_task(error: Exception) -> Exception:
    """As Ray raises what a task on another node raised."""
    from ray.exceptions import RayTaskError

    text = f"Traceback (most recent call last):\n  File x, line 1\n{type(error).__name__}: {error}"
    told = RayTaskError("run", text, pickle.loads(pickle.dumps(error)), proctitle="ray::run", pid=1, ip="10.0.0.2")
    raised: Exception = told.as_instanceof_cause()
    return raised


def by_ray_data(error: OSError) -> Exception:
    """As a task of Ray Data raises it, which says in the place of the file how often it was tried."""
    with pytest.raises(OSError, match=str(error.strerror).partition(".")[0]) as caught, faults.file_noted():
        raise error
    caught.value.args = (
        *caught.value.args,
        "Failed to apply UDF transform after 1/1 attempts.\nTo change retry attempts",
    )
    return by_task(caught.value)


def by_worker(error: Exception) -> Exception:
    """As Ray Train raises what one of two workers raised, the other having lost it."""
    from ray.train.v2.api.exceptions import WorkerGroupError

    error.add_note("on node 10.0.0.2")
    lost = RuntimeError("Connection closed by peer [10.0.0.2]:41234")
    lost.add_note("on node 10.0.0.1")
    return WorkerGroupError("[Rank 0,1 Error Snippet]", {0: lost, 1: error})


@pytest.mark.parametrize("number", sorted(faults.TODO))
def test_a_disk_s_trouble_names_the_file_and_what_to_do(number: int, tmp_path: Path) -> None:
    line = faults.told(OSError(number, os.strerror(number), "/shared/file"), tmp_path)
    assert line is not None
    assert line.startswith(f"{os.strerror(number)}: /shared/file; {faults.TODO[number]}; the same command goes on")
    assert "\n" not in line


@pytest.mark.parametrize("wrapped", [by_task, by_worker, lambda error: by_worker(by_task(error))])
def test_wrappings_are_taken_off(wrapped: object, tmp_path: Path) -> None:
    assert callable(wrapped)
    for error, says in (
        (full(), "No space left on device: /shared/run/part-00.parquet; make room"),
        (ValueError("model /m: no config.json in /m"), "model /m: no config.json in /m"),
        (
            tries.ProcessEnded("task 7 ended its process 6 times"),
            "task 7 ended its process 6 times; ask for less memory",
        ),
    ):
        line = faults.told(wrapped(error), tmp_path)
        assert line is not None
        assert line.startswith(f"node 10.0.0.2: {says}"), line
        assert line.endswith(f"(the traceback is in {tmp_path / 'errors.log'})")
    log = (tmp_path / "errors.log").read_text()
    assert log.count("\n--- ") == 2
    assert "part-00.parquet" in log


def test_ray_data_s_words_take_the_place_of_no_file(tmp_path: Path) -> None:
    wanted = "node 10.0.0.2: No space left on device: /shared/run/part-00.parquet; make room there; the same command"
    assert str(faults.told(by_ray_data(full()), tmp_path)).startswith(wanted)
    bare = OSError(errno.ENOSPC, "Error writing bytes to file. Detail: [errno 28] No space left on device")
    line = str(faults.told(by_ray_data(bare), tmp_path))
    assert "No space left on device; make room there" in line
    assert "\n" not in line


def test_a_full_disk_is_one_by_whoever_says_so(tmp_path: Path) -> None:
    for error in (
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        OSError("[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device"),
        RuntimeError("[enforce fail at inline_container.cc:668] . unexpected pos 640 vs 534"),
    ):
        line = faults.told(error, tmp_path)
        assert line is not None
        assert line.startswith("No space left on device ("), line


def test_an_actor_that_died_at_its_start_tells_by_its_text(tmp_path: Path) -> None:
    from ray.exceptions import ActorDiedError, RayTaskError

    text = "Traceback (most recent call last):\n  File x, line 1\nliit.engine.models.loading.ModelError: model /m: gone"
    cause = RayTaskError("__init__", text, ValueError("model /m: gone"), proctitle="ray::Runner", pid=1, ip="10.0.0.3")
    assert faults.told(ActorDiedError(cause), tmp_path).startswith("node 10.0.0.3: model /m: gone; ")  # type: ignore[union-attr]


def test_any_other_error_is_told_where_it_came_from_elsewhere_and_raised_here(tmp_path: Path) -> None:
    assert faults.told(KeyError("key"), tmp_path) is None
    assert not (tmp_path / "errors.log").exists()
    assert str(faults.told(by_task(KeyError("key")), tmp_path)).startswith("node 10.0.0.2: KeyError: 'key' (")


def test_a_traceback_that_cannot_be_kept_in_the_run_is_kept_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert str(tmp_path / "liit-none-errors.log") in str(faults.told(full(), tmp_path / "none"))


def test_words_of_ours_are_kept_as_they_are(tmp_path: Path) -> None:
    error = ValueError("model /m: its processor cannot be loaded")
    error.__cause__ = full("/m/config.json")
    assert faults.told(error, tmp_path) == str(error)
    assert not list(tmp_path.iterdir())


CHILD = """
import os, signal, sys
from pathlib import Path
from liit.engine.fleet import tries
with getattr(tries, sys.argv[1])(Path(sys.argv[2]), *sys.argv[3:]):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("what", [["counted", "part-7"], ["starting"]])
def test_what_ends_its_process_is_refused_after_some_times(what: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    command = [sys.executable, "-c", CHILD, what[0], str(folder), *what[1:]]
    for _ in range(2):
        with tries.counting(folder):
            for _ in range(tries.MOST):
                assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
            refused = subprocess.run(command, check=False, capture_output=True, text=True)
            assert refused.returncode == 1
            assert f"ended its process {tries.MOST} times" in refused.stderr
    assert not list(tmp_path.iterdir())


def test_what_ends_well_or_by_an_error_is_not_counted(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    with tries.counting(folder):
        for _ in range(2 * tries.MOST):
            with tries.counted(folder, "part-7"), tries.starting(folder):
                pass
            with pytest.raises(KeyError), tries.counted(folder, "part-7"), tries.starting(folder):
                raise KeyError
        assert not list(tries.notes_of(folder).iterdir())


@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(1, 64)), min_size=1, max_size=5), st.sampled_from([0, 0.5, 1, 2])
)
def test_auto_is_as_many_as_can_be_placed_one_by_one(sizes: list[tuple[int, int]], gpus: float) -> None:
    nodes = [Node(str(i), str(i), float(cpus), float(own), 0) for i, (own, cpus) in enumerate(sizes)]
    free, placed, each = np.array(sizes, float)[:, 0 if gpus else 1], 0, gpus or 1.5
    while (free >= each).any():
        free[np.argmax(free >= each)] -= each
        placed += 1
    resources = Resources(actors="auto", gpus_per_actor=gpus, cpus_per_actor=1.5)
    assert as_placed(resources, nodes).actors == max(placed, 1)
    assert as_placed(Resources(actors=3), nodes).actors == 3
