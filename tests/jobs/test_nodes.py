"""A whole run on several nodes, and on what is left when one of them is gone: the same bits as on one."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from liit.engine.main import FAILED
from tests.jobs import nodes
from tests.jobs.nodes import Cluster, Node
from tests.long_run import evaluating, scoring, trained, training
from tests.small_run import ROOT

pytestmark = pytest.mark.faults
ACTOR, WORKER = "MapWorker(MapBatches(TaskRunner))", "RayTrainWorker"


@pytest.fixture(scope="module")
def spread(long_settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration of an actor on each node of two CPUs, and two training workers that no one node holds."""
    told = long_settings | {
        "training": long_settings["training"] | {"workers": 2, "micro_batch_size": 2},
        "resources": {"actors": "auto", "cpus_per_actor": 1.5, "cpus_per_worker": 2, "num_cpus": 4, "warm": False},
    }
    path = tmp_path_factory.mktemp("spread") / "spread.yaml"
    path.write_text(yaml.safe_dump(told))
    return path


@pytest.fixture(scope="module")
def alone(spread: Path, lifelong: Callable[..., subprocess.CompletedProcess[str]]) -> Path:
    """The run on one node."""
    done = lifelong(spread, "--output", spread.with_name("alone"))
    assert done.returncode == 0, done.stdout + done.stderr
    return spread.with_name("alone")


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with nodes.cluster(tmp_path_factory.getbasetemp(), ["one", "two", "three"], 2) as made:
        yield made


def begun(cluster: Cluster, config: Path, output: Path) -> subprocess.Popen[bytes]:
    """`liit run` on the head's node."""
    command = [sys.executable, "-m", "liit.command", "run", str(config), "--output", str(output)]
    with output.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(cluster.head.inside(command), env=cluster.here(), stdout=log, stderr=log, cwd=ROOT)


def busy(cluster: Cluster, what: str) -> list[Node]:
    return [node for node in cluster.nodes.values() if node.runs(what)]


def test_a_node_that_dies_at_any_stage_changes_no_bit(spread: Path, alone: Path, three: Cluster) -> None:
    output = spread.with_name("dying")
    driver, said = begun(three, spread, output), output.with_suffix(".log")
    stages = (
        (scoring, "profile.partial", ACTOR, 3),
        (training, "adapter.work", WORKER, 2),
        (evaluating, "generations.parquet.partial*", ACTOR, 3),
    )
    for moment, work, what, on in stages:
        deadline, most = time.monotonic() + 300, 0
        while not (moment(output) and most >= on):
            assert driver.poll() is None, f"ended before {moment.__name__}: {said.read_text()[-3000:]}"
            assert time.monotonic() < deadline, f"{moment.__name__} on {on} nodes did not come, on {most} it did"
            most = max(most, len(busy(three, what)) if any(output.glob(f"t01/{work}")) else 0)
            time.sleep(0.02)
        last = [node for node in busy(three, what) if node is not three.head][-1]
        three.kill(last.name)
        assert moment(output), f"the kill came too late for {moment.__name__}: nothing was half done"
        three.add(last.name, 2)
    assert driver.wait(600) == 0, said.read_text()[-5000:]
    assert trained(output) == trained(alone)
    assert yaml.safe_load((output / "config.yaml").read_text())["resources"]["actors"] == 3


def test_a_job_of_the_cluster_does_the_same(spread: Path, alone: Path, three: Cluster) -> None:
    output = spread.with_name("submitted")
    command = [sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", "."]
    command += ["--address", f"http://{three.head.address}:{three.dashboard}", "--runtime-env", "runtime_env.yaml"]
    command += ["--", "python", "jobs/lifelong.py", str(spread), "--output", str(output)]
    done = subprocess.run(
        three.head.inside(command), env=three.env, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    assert trained(output) == trained(alone)


@pytest.mark.skipif(not nodes.namespaces(), reason="nodes on one host see the same folders")
def test_a_model_that_vanishes_on_one_node_is_a_line_that_names_the_node(
    spread: Path, tiny_llava: str, alone: Path, three: Cluster
) -> None:
    output, last = spread.with_name("vanished"), list(three.nodes.values())[-1]
    subprocess.run(last.inside(["mount", "-t", "tmpfs", "none", tiny_llava]), check=True)
    driver, said = begun(three, spread, output), output.with_suffix(".log")
    assert driver.wait(300) == FAILED, said.read_text()
    [line] = [line for line in said.read_text().splitlines() if "stopped: " in line]
    assert f"node {last.address}: " in line
    assert tiny_llava in line
    assert "Traceback" not in said.read_text()
    subprocess.run(last.inside(["umount", tiny_llava]), check=True)
    assert begun(three, spread, output).wait(600) == 0, said.read_text()[-5000:]
    assert trained(output) == trained(alone)
