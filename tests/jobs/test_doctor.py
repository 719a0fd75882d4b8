"""The doctor on real clusters: one node where all is fine, and two of which one does not see a folder."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from safetensors.numpy import load_file

from liit.engine.health import doctor
from liit.engine.health.footprint import CHECKPOINTS, WEIGHT_AND_MOMENT, footprint
from liit.engine.main import FAILED, REFUSED
from liit.engine.run.files import read_table
from liit.engine.settings.config import Config
from tests.ending import end
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]


def split(said: str) -> tuple[list[str], list[str]]:
    """Lines that are fine, and lines with something to do."""
    fine, todo = ([line for line in said.splitlines() if line.startswith(mark)] for mark in ("fine ", "to do"))
    return fine, todo


@pytest.mark.usefixtures("ray_cluster")
def test_one_node_where_all_is_fine(config_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.iterdir())
    code = doctor.consult([str(config_file), f"output={tmp_path}/runs/new"], current=tmp_path / "none")
    fine, todo = split(said := capsys.readouterr().out)
    assert (code, todo) == (0, []), said
    abouts = [line.removeprefix("fine   ").split(":")[0] for line in fine]
    wanted = "leftovers Ray versions hardware data output flock models disk memory token"
    assert abouts == wanted.split()
    assert "no cluster is named" in said
    assert sorted(tmp_path.iterdir()) == before, "nothing is left behind"


@pytest.mark.usefixtures("ray_cluster")
def test_each_thing_that_is_wrong_here_is_one_line(
    config_file: Path, tmp_path: Path, tiny_llava: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "current").write_text(f"127.0.0.1:{free_port()}")
    bare = tmp_path / "bare"
    shutil.copytree(tiny_llava, bare)
    (bare / "model.safetensors").unlink()
    wrong = [f"model.path={bare}", f"tasks.text_encoder={tmp_path}/encoder", "training.workers=7"]
    code = doctor.consult([str(config_file), f"output={tmp_path}/new", *wrong], current=tmp_path / "current")
    _, todo = split(said := capsys.readouterr().out)
    assert code == FAILED
    assert [line.removeprefix("to do  ").split(":")[0] for line in todo] == ["leftovers", "hardware", "models"], said
    assert f"{tmp_path}/current names 127.0.0.1:" in todo[0]
    assert "set training.workers=2" in todo[1]
    assert f"encoder {tmp_path}/encoder: cannot be loaded" in todo[2]
    assert doctor.consult([str(config_file), f"output={tmp_path}/new", wrong[0]], current=tmp_path / "none") == FAILED
    assert f"model {bare}: its weights are not here (model.safetensors)" in capsys.readouterr().out


@pytest.mark.parametrize("argument", ["strategy.budgett=5", "scoring.scores=[beauty]", "nowhere.yaml"])
def test_a_configuration_that_cannot_be_is_refused(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.consult([argument]) == REFUSED
    assert len([line for line in capsys.readouterr().out.splitlines() if "error:" in line]) == 1


def command(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    """`python jobs/doctor.py ...` as a person would."""
    line = [sys.executable, str(ROOT / "jobs" / "doctor.py"), *map(str, arguments)]
    return subprocess.run(line, env=os.environ | env, capture_output=True, text=True, timeout=300, cwd="/", check=False)


def test_a_cluster_that_does_not_answer_is_a_line_and_no_hang(tmp_path: Path) -> None:
    began = time.monotonic()
    done = command(f"output={tmp_path}/run", RAY_ADDRESS=f"127.0.0.1:{free_port()}", RAY_TMPDIR=str(tmp_path))
    _, todo = split(done.stdout)
    assert done.returncode == FAILED, done.stdout + done.stderr
    assert len(todo) == 1
    assert "was not joined (nothing listens at 127.0.0.1:" in todo[0]
    assert time.monotonic() - began < 60


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The folder that one node will not see."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


@pytest.fixture
def two_nodes(pictures: Path) -> Iterator[dict[str, str]]:
    """Environment in which a run joins a cluster of nodes `one` and `two`; `two` has a disk of its own over the pictures."""
    hide = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(pictures)]
    if shutil.which("unshare") is None or subprocess.run([*hide, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be made here: unshare --mount and mount -t tmpfs must be allowed")
    home = Path(tempfile.mkdtemp(prefix="liit-"))  # sockets lie below, whose paths must be short
    env = {"RAY_TMPDIR": str(home), "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    port = free_port()
    head = ["--head", f"--port={port}", "--include-dashboard=false", f"--ray-client-server-port={free_port()}"]
    try:
        with raylet("one", home, env, [], head), raylet("two", home, env, hide, [f"--address=127.0.0.1:{port}"]):
            yield env | {"RAY_ADDRESS": f"127.0.0.1:{port}"}
    finally:
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def raylet(name: str, home: Path, env: dict[str, str], before: list[str], how: list[str]) -> Iterator[None]:
    start = [*before, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
    start += [f"--node-name={name}", "--object-store-memory=200000000", "--disable-usage-stats"]
    start += [f"--dashboard-agent-listen-port={free_port()}", *how]
    log = home / f"{name}.log"
    with log.open("w") as out:
        process = subprocess.Popen(start, env=os.environ | env, stdout=out, stderr=out, cwd="/", start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while "Ray runtime started" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        yield
    finally:
        end(process)


def test_a_folder_that_one_of_two_nodes_does_not_see_is_named(
    settings: dict[str, Any], pictures: Path, two_nodes: dict[str, str], tmp_path: Path
) -> None:
    stream = settings["stream"]
    for file in Path(stream["releases"][0]["path"]).parent.glob("*.png"):
        shutil.copy(file, pictures)
    sets = {name: [one | {"images": str(pictures)} for one in stream[name]] for name in ("releases", "evaluations")}
    (tmp_path / "apart.yaml").write_text(yaml.safe_dump(settings | {"stream": stream | sets}))
    done = command(tmp_path / "apart.yaml", f"output={tmp_path}/run", **two_nodes)
    fine, todo = split(said := done.stdout)
    assert done.returncode == FAILED, said + done.stderr
    assert "nodes one, two" in said
    assert len(todo) == 1, said
    assert todo[0].startswith(f"to do  data: node two does not see the same as here: {pictures}/")
    assert "No such file or directory" in todo[0]
    assert len(fine) == 10, said


def test_a_run_writes_about_what_was_said_before(settings: dict[str, Any], finished: Path) -> None:
    said = footprint(Config.model_validate(settings))
    saved = sum(one.nbytes for file in finished.glob("t*/adapter/*.safetensors") for one in load_file(file).values())
    trained = said.adapters / (2 * WEIGHT_AND_MOMENT + CHECKPOINTS)  # two timesteps are trained
    assert saved == 2 * WEIGHT_AND_MOMENT * trained
    profiles = [vectors(folder) for folder in sorted(finished.glob("t*/profile"))]
    written = sum(sum(profile) for profile in profiles) + max(max(profile) for profile in profiles)
    assert written <= said.vectors <= 1.5 * written  # bad rows and copies are not known before


def vectors(profile: Path) -> list[int]:
    """Bytes of each vector of a profile."""
    table = read_table(profile)
    fields = [field for field in table.schema if pa.types.is_fixed_size_binary(field.type)]
    return [field.type.byte_width * len(table) for field in fields]
