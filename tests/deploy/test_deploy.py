"""What can be held of files for machines that are not here: their form, their commands, and that they agree with the package."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
COMMANDS = {
    "run",
    "plan",
    "check",
    "choose",
    "export",
    "compare",
    "continual",
    "recovery",
    "tune",
    "chat",
    "base",
    "config",
}
COMMANDS |= {"status", "doctor"}


def spoken(text: str) -> set[str]:
    """Subcommands of `liit` wherever it is called: in comments, shell lines, lists of words. Not names: liit-shared, liit:0.1."""
    return set(re.findall(r"(?<!COPY )(?<![\w/.:-])\"?liit\"?,? \"?([a-z]+)\"?", text))


def dockerfile() -> dict[str, list[str]]:
    """Instructions of the Dockerfile by name, each its arguments in order; lines that go on are joined, comments left out."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    found: dict[str, list[str]] = {}
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            found.setdefault(name, []).append(rest)
    return found


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())
    return found


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The pod of the head, and of each group of workers."""
    cluster = job["spec"]["rayClusterSpec"]
    return [group["template"]["spec"] for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])]


@pytest.mark.parametrize("name", ["Dockerfile", "rayjob.yaml", "slurm.sh"])
def test_every_command_is_one_that_liit_has(name: str) -> None:
    said = spoken((DEPLOY / name).read_text())
    assert {"run", "doctor"} <= said
    assert said <= COMMANDS


def test_the_image_copies_what_is_there_and_installs_what_the_package_names() -> None:
    image, ignored = dockerfile(), (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for copied in image["COPY"]:
        *sources, _ = copied.split()
        for source in sources:
            assert (ROOT / source).exists(), f"COPY {source}"
            assert f"!{source}" in ignored, f"{source} does not reach the build"
    packages = {name.split(".")[1] for name in _packages() if "." in name} | {"liit"}
    assert packages <= set(" ".join(image["COPY"]).split())
    extras = re.findall(r'"\.\[([\w,]+)\]"', " ".join(image["RUN"]))
    assert extras
    assert {extra for group in extras for extra in group.split(",")} <= set(PROJECT["optional-dependencies"])
    wanted = {Requirement(each).name: Requirement(each) for each in PROJECT["dependencies"]}
    assert Requirement(re.findall(r'"(torch[^"]*)"', " ".join(image["RUN"]))[0]).specifier == wanted["torch"].specifier
    assert wanted["ray"].specifier.contains(_argument(image, "RAY"))


def _packages() -> list[str]:
    names: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    return names


def _argument(image: dict[str, list[str]], name: str) -> str:
    return next(each.partition("=")[2] for each in image["ARG"] if each.startswith(f"{name}="))


def test_nothing_in_the_image_runs_as_root_and_no_key_is_in_any_file(job: dict[str, Any]) -> None:
    image = dockerfile()
    (uid,) = re.findall(r"useradd .*--uid (\d+) (\w+)", " ".join(image["RUN"]))
    assert image["USER"] == [uid[1]]
    for pod in pods(job):
        assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": int(uid[0]), "fsGroup": int(uid[0])}
        for container in pod["containers"]:
            for variable in container["env"]:
                if re.search("TOKEN|KEY", variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"]
    assert not [each for each in image.get("ENV", []) + image["ARG"] if re.search("TOKEN|KEY", each)]


def test_the_manifest_has_what_kuberay_needs_of_a_ray_job(job: dict[str, Any]) -> None:
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert cluster["rayVersion"] == _argument(dockerfile(), "RAY")
    assert cluster["authOptions"] == {"mode": "token"}
    assert spec["shutdownAfterJobFinishes"], "or its GPUs are kept"
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(isinstance(value, str) for value in group["rayStartParams"].values()), "KubeRay takes strings alone"
    words = shlex.split(spec["entrypoint"])
    assert words[:2] == ["bash", "-c"], "the submitter's shell would take && for itself"
    assert [each.split()[:2] for each in words[2].split(" && ")] == [["liit", "doctor"], ["liit", "run"]]


def test_all_pods_see_the_same_storage_and_have_shared_memory_within_their_memory(job: dict[str, Any]) -> None:
    said = shlex.split(shlex.split(job["spec"]["entrypoint"])[2].replace(" && ", " "))
    places = []
    for pod in pods(job):
        volumes = {each["name"]: each for each in pod["volumes"]}
        (container,) = pod["containers"]
        mounted = {each["mountPath"]: volumes[each["name"]] for each in container["volumeMounts"]}
        places += [(path, each) for path, each in mounted.items() if "persistentVolumeClaim" in each]
        assert all(word.startswith(f"{places[0][0]}/") for word in said if "/" in word)
        assert mounted["/dev/shm"]["emptyDir"]["medium"] == "Memory"
        asked = container["resources"]
        assert asked["requests"] == asked["limits"], "Ray counts on what it is told at its start"
        assert 2 * _gib(mounted["/dev/shm"]["emptyDir"]["sizeLimit"]) <= _gib(asked["limits"]["memory"])
    assert places == [places[0]] * len(pods(job))


def _gib(size: str) -> int:
    assert size.endswith("Gi")
    return int(size.removesuffix("Gi"))


def test_the_manifest_and_the_script_have_room_for_the_shipped_configuration(job: dict[str, Any]) -> None:
    asked = yaml.safe_load((ROOT / "jobs" / "configs" / "llava-1.5-7b.yaml").read_text())
    wanted, workers = asked["resources"], asked["training"]["workers"]
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    has = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    script = (DEPLOY / "slurm.sh").read_text()
    each = {
        key: int(re.findall(rf"^#SBATCH --{key}=(\d+)$", script, re.M)[0]) for key in ("cpus-per-task", "gpus-per-node")
    }
    for gpus, cpus in ((int(has["nvidia.com/gpu"]), int(has["cpu"])), (each["gpus-per-node"], each["cpus-per-task"])):
        assert gpus == wanted["actors"] * wanted["gpus_per_actor"] == workers * wanted["gpus_per_worker"]
        assert cpus > wanted["actors"] * wanted["cpus_per_actor"], "Ray Data's own tasks need CPUs too"
        assert cpus > workers * wanted["cpus_per_worker"]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("script", ["deploy/slurm.sh", ".ci/run", ".ci/wheel"])
def test_shellcheck_has_nothing_to_say(script: str) -> None:
    done = subprocess.run(["shellcheck", ROOT / script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


STAND_INS = {
    "srun": 'while [[ $1 == -* ]]; do shift; done\nexec "$@"',
    "scontrol": "printf 'one\\ntwo\\n'",
    "liit": 'echo "liit $*"\n[[ $1 != run ]] || exec python -c "\n'
    "import ray\n"
    "ray.init(log_to_driver=False)\n"
    "print('nodes', sum(node['Alive'] for node in ray.nodes()), 'cpus', ray.cluster_resources()['CPU'])\"",
}
"""For programs of Slurm: the nodes are two, and both are this machine. For the command: what it finds of the cluster."""


def left(mark: str) -> list[int]:
    """Processes with that in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # ended meanwhile
            if mark.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def test_the_slurm_script_starts_ray_on_every_node_joins_it_and_ends_it(tmp_path: Path) -> None:
    for name, text in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    number = str(os.getpid())
    slurm = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_ID": number, "SLURM_CPUS_PER_TASK": "3", "HEAD_IP": "127.0.0.1"}
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent), os.environ["PATH"]])
    command = ["bash", str(DEPLOY / "slurm.sh"), "/shared/ours.yaml", "/shared/out", "seed=1"]
    env = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")} | slurm | {"PATH": path}
    log = tmp_path / "log"
    try:
        with log.open("w") as out:  # not a pipe: it would be read until the last process of Ray has ended
            code = subprocess.run(command, env=env, stdout=out, stderr=out, timeout=300, check=False).returncode
        assert code == 0, log.read_text()
        assert [line for line in log.read_text().splitlines() if line.startswith(("liit ", "nodes "))] == [
            "liit doctor /shared/ours.yaml seed=1",
            "liit run /shared/ours.yaml seed=1 --output /shared/out",
            "nodes 2 cpus 6.0",
        ]
        assert not left(f"/tmp/liit-{number}/")
        assert not Path(f"/tmp/liit-{number}").exists()
    finally:
        for process in left(f"/tmp/liit-{number}/"):
            os.kill(process, signal.SIGKILL)


def test_the_slurm_script_refuses_paths_that_other_nodes_may_not_see() -> None:
    command = ["bash", str(DEPLOY / "slurm.sh"), "ours.yaml", "/shared/out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "every node must see both" in done.stderr
