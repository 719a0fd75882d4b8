"""A cluster of several nodes on this machine: each in namespaces of its own, with an address, a host name and a /tmp.

The nodes share the folder of the tests' files, as a team's nodes share a disk, and a network that nothing else is on: the first
node holds its bridge, so that all of it is gone with that node's processes. Where namespaces are not allowed, the nodes are
raylets on one host.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

from tests.jobs.test_submission import OPEN
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
APART = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
OWN = """
hostname "$1" && mount --bind "$2/hosts" /etc/hosts && mkdir -p "$2/tmp/$3" && mount --bind "/tmp/$3" "$2/tmp/$3" \
    && mount --rbind "$2/tmp" /tmp && read -r _ && shift 3 && exec "$@"
"""
"""Of a node's first process: its name, its folder, the shared one below /tmp, and what it is to run once it is connected."""
NETWORK, MOST = "10.77.0", 9


@cache
def namespaces() -> bool:
    """Whether nodes can be kept apart here."""
    tried = [
        *APART,
        "sh",
        "-c",
        "mount -t tmpfs none /mnt && ip link add lan type bridge && ip link add wire type veth peer name end",
    ]
    return (
        shutil.which("unshare") is not None and not subprocess.run(tried, capture_output=True, check=False).returncode
    )


@dataclass
class Node:
    """A node that is up."""

    name: str
    address: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def first(self) -> int:
        """The process that all others of the node come from."""
        apart = psutil.Process(self.process.pid).children() if namespaces() else []
        return apart[0].pid if apart else self.process.pid

    def processes(self) -> list[psutil.Process]:
        """All of the node's."""
        first = psutil.Process(self.first)
        return [first, *first.children(recursive=True)]

    def runs(self, what: str) -> bool:
        """Whether it has a Ray process of that name, such as `RayTrainWorker`."""
        return any(f"ray::{what}" in title for title in map(_title, self.processes()))

    def inside(self, command: list[str]) -> list[str]:
        """The command as one of the node."""
        enter = ["nsenter", f"--target={self.first}", "--net", "--mount", "--uts", "--pid", f"--wd={ROOT}"]
        return [*enter, *command] if namespaces() else command

    def kill(self) -> None:
        """As if its power were cut."""
        for process in self.processes():
            try:
                process.send_signal(signal.SIGKILL)
            except psutil.NoSuchProcess:
                continue
        self.process.kill()
        self.process.wait()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
        return ""


@dataclass
class Cluster:
    """Nodes by name, the head first."""

    home: Path
    shared: Path
    port: int
    dashboard: int
    nodes: dict[str, Node] = field(default_factory=dict)
    started: int = 0

    @property
    def head(self) -> Node:
        return next(iter(self.nodes.values()))

    @property
    def env(self) -> Mapping[str, str]:
        """Of every process of the cluster."""
        home = {} if namespaces() else {"RAY_TMPDIR": str(self.home)}
        quick = {"RAY_health_check_period_ms": "1000", "RAY_idle_worker_killing_time_threshold_ms": "600000"}
        return os.environ | OPEN | home | quick | {"PYTHONPATH": str(ROOT)}

    def here(self) -> Mapping[str, str]:
        """Environment of a command that joins the cluster from a node of it."""
        return dict(self.env) | {"RAY_ADDRESS": f"{self.head.address}:{self.port}"}

    def add(self, name: str, cpus: int) -> Node:
        """Start a node and wait until it is up."""
        self.started += 1
        address = f"{NETWORK}.{self.started}" if namespaces() else "127.0.0.1"
        head = next(iter(self.nodes.values()), None)
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--num-cpus={cpus}"]
        start += [f"--node-ip-address={address}", f"--node-name={name}", "--object-store-memory=200000000"]
        start += ["--disable-usage-stats", f"--dashboard-agent-listen-port={free_port()}"]
        if head is None:
            start += ["--head", f"--port={self.port}", f"--dashboard-port={self.dashboard}"]
            start += [f"--dashboard-host={address}", f"--ray-client-server-port={free_port()}"]
        else:
            start += [f"--address={head.address}:{self.port}"]
        own = self.home / f"{self.started}-{name}"
        (own / "tmp").mkdir(parents=True)
        node = Node(name, address, self._begun(start, own, name), own / "log")
        try:
            if namespaces():
                self._connect(node, head)
            self._wait(node)
        except BaseException:
            node.kill()
            raise
        self.nodes[name] = node
        return node

    def _begun(self, start: list[str], own: Path, name: str) -> subprocess.Popen[str]:
        if namespaces():
            (own / "hosts").write_text(
                "127.0.0.1 localhost\n" + "".join(f"{NETWORK}.{i} node-{i}\n" for i in range(1, MOST + 1))
            )
            shared = str(self.shared.relative_to("/tmp"))
            start = [*APART, "sh", "-c", OWN, "sh", f"node-{self.started}", str(own), shared, *start]
        with (own / "log").open("w") as out:
            return subprocess.Popen(
                start, env=self.env, stdin=subprocess.PIPE, stdout=out, stderr=out, cwd="/", text=True
            )

    def _connect(self, node: Node, head: Node | None) -> None:
        """A bridge in the head, a wire to it for every other node."""
        deadline = time.monotonic() + 30
        while node.first == node.process.pid:
            assert time.monotonic() < deadline, node.log.read_text()
            time.sleep(0.05)

        def ip(at: Node, *words: str) -> None:
            subprocess.run(["nsenter", f"--target={at.first}", "--net", "ip", *words], check=True)

        device = "lan" if head is None else "eth0"
        if head is None:
            ip(node, "link", "add", device, "type", "bridge")
        else:
            end = f"wire{self.started}"
            ip(head, "link", "add", end, "type", "veth", "peer", "name", device, "netns", str(node.first))
            ip(head, "link", "set", end, "master", "lan", "up")
        ip(node, "addr", "add", f"{node.address}/24", "dev", device)
        for one in (device, "lo"):
            ip(node, "link", "set", one, "up")
        assert node.process.stdin is not None
        node.process.stdin.write("connected\n")
        node.process.stdin.flush()

    def _wait(self, node: Node) -> None:
        deadline = time.monotonic() + 300
        while "Ray runtime started" not in node.log.read_text():
            assert node.process.poll() is None, node.log.read_text()
            assert time.monotonic() < deadline, node.log.read_text()
            time.sleep(0.2)

    def kill(self, name: str) -> None:
        self.nodes.pop(name).kill()


@contextmanager
def cluster(shared: Path, names: list[str], cpus: int) -> Iterator[Cluster]:
    """Nodes of so many CPUs each, the first of them the head; exactly their processes end with this."""
    home = Path(tempfile.mkdtemp(prefix="liit-"))  # sockets lie below, whose paths must be short
    made = Cluster(home, shared, free_port(), free_port())
    try:
        for name in names:
            made.add(name, cpus)
        yield made
    finally:
        for name in reversed(list(made.nodes)):
            made.kill(name)
        shutil.rmtree(home, ignore_errors=True)
