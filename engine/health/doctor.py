"""What goes wrong on clusters, looked for before it does: every node is asked, and each thing is a line, fine or what to do."""

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from rich.console import Console
from rich.text import Text

from liit.engine.fleet.connect import connect
from liit.engine.fleet.look import look
from liit.engine.fleet.meeting import Meeting, meeting, nearest
from liit.engine.fleet.nodes import Node, Silence, alive, ask
from liit.engine.health import diagnosis
from liit.engine.health.at_hand import look_for_models, missing_data, paths_of_data
from liit.engine.health.diagnosis import HERE, Finding, Seen
from liit.engine.health.footprint import footprint
from liit.engine.main import FAILED, REFUSED
from liit.engine.preflight import check_quantised, check_tracking, models_of
from liit.engine.run.progress import log, start_logging
from liit.engine.settings.config import Config, ConfigError
from liit.engine.settings.settling import settle

PACKAGES = ("liit", "ray", "torch", "transformers", "peft", "deepspeed", "numpy", "pyarrow")
TIMEOUT_S = 180.0
"""For a node's answer: some import torch from a shared disk."""


def consult(arguments: list[str], current: Path | None = None, timeout_s: float = TIMEOUT_S) -> int:
    """Say a line for each thing that was looked at; the exit code: 0 all fine, 1 something to do, 2 a refused configuration.

    current: the file that names the Ray of this machine; by default the one that Ray itself would read.
    """
    start_logging()
    try:
        config = settle(arguments, None)
        models_of(config)
    except ValueError as error:
        log.error("error: %s", error)
        return REFUSED
    console, ours = Console(width=None if os.isatty(1) else 110), not ray.is_initialized()
    todo = lines = 0
    try:
        for finding in examine(config, current or current_cluster(), timeout_s):
            lines, todo = lines + 1, todo + (not finding.fine)
            mark = ("fine ", "green") if finding.fine else ("to do", "bold red")
            console.print(Text.assemble(mark, f"  {finding.about}: {finding.says}"), soft_wrap=True)
    finally:
        if ours:
            ray.shutdown()
    console.print(f"{todo} of {lines} to do" if todo else f"all {lines} fine")
    return FAILED if todo else 0


def current_cluster() -> Path:
    """Where Ray leaves the address of the cluster that was started last on this machine."""
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"


def examine(config: Config, current: Path, timeout_s: float) -> Iterator[Finding]:
    """Finding after finding, each as soon as it is made. A cluster that is named is joined, else a Ray started, as by a run."""
    left = current.read_text(encoding="utf-8").strip() if current.is_file() else None
    yield from diagnosis.leftover(str(current), left, left is not None and listens(left))
    refused = _join(config, left)
    if refused is not None:
        yield refused
        return
    nodes, address = alive(), _address(config)
    how = (
        f"joined at {address}"
        if address
        else "no cluster is named (resources.address, RAY_ADDRESS), so one was started here"
    )
    yield Finding("Ray", True, f"{how}: {diagnosis.named([node.name for node in nodes])}")
    labels = paths_of_data(config)
    here = _seen(HERE, look(PACKAGES, tuple(labels), None))
    with meeting(Path(config.output)) as place:
        folder = None if place.folder is None else str(place.folder)
        answers = ask(nodes, look, PACKAGES, tuple(labels), folder, timeout_s=timeout_s, bare=True)
        seen = [_seen(node, answer, place) for node, answer in answers.items() if not isinstance(answer, Silence)]
    yield from diagnosis.silent("nodes", answers)
    if not seen:
        return
    answered = {one.node for one in seen}
    yield from diagnosis.versions(here, seen)
    torch = {one.node: one.packages["torch"] for one in seen}
    yield from diagnosis.hardware(config.resources, config.training.workers, nodes, torch)
    yield from diagnosis.data(missing_data(config), labels, here, seen)
    yield from diagnosis.output(config.output, place.problem, seen)
    sharing = [one for one in seen if "wrote" in one.met]
    yield from diagnosis.locks(config.output, sharing) if sharing else ()
    able = {one.node for one in seen if one.packages["liit"] is not None}
    yield from _models(config, [node for node in nodes if node.name in able], timeout_s) if able else ()
    yield from _sizes(config, [node for node in nodes if node.name in answered], seen)
    yield from diagnosis.authentication(address is not None, seen)
    try:
        check_tracking(config)
        check_quantised(config)
    except ConfigError as error:
        yield Finding("tracking", False, str(error))


def _address(config: Config) -> str | None:
    """Of the cluster that a run would join."""
    address = config.resources.address or os.environ.get("RAY_ADDRESS") or None
    return None if address == "local" else address


def _join(config: Config, left: str | None) -> Finding | None:
    """Join or start Ray as a run does, or say why not. left: what the current cluster's file says."""
    mode, token, address = os.environ.get("RAY_AUTH_MODE"), _has_token(), _address(config)
    place = left if address == "auto" else address
    if address and not ray.is_initialized() and place and not listens(place):  # Ray itself would try for minutes
        return diagnosis.unreachable(address, f"nothing listens at {place}", mode, token)
    try:
        connect(config.resources)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")
        return diagnosis.unreachable(address or "local", reason, mode, token)
    return None


def listens(address: str) -> bool:
    """Whether something takes connections at `host:port`; an address of another form is taken to."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not port.isdecimal():
        return True
    try:
        socket.create_connection((host.strip("[]"), int(port)), 5).close()
    except OSError:
        return False
    return True


def _has_token() -> bool:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return "RAY_AUTH_TOKEN" in os.environ or (Path(named) if named else Path.home() / ".ray" / "auth_token").is_file()


def _seen(node: str, answer: dict[str, Any], place: Meeting | None = None) -> Seen:
    met = dict(answer["met"])
    if "wrote" in met and "write" not in met and place is not None and not place.arrived(met["wrote"]):
        met["back"] = "no such file, or another"
    return Seen(**answer | {"node": node, "met": met})


def _models(config: Config, nodes: list[Node], timeout_s: float) -> Iterator[Finding]:
    answers = {HERE: look_for_models(config)} | ask(nodes, look_for_models, config, timeout_s=timeout_s)
    yield from diagnosis.silent("models", answers)
    yield from diagnosis.models({name: one for name, one in answers.items() if not isinstance(one, Silence)})


def _sizes(config: Config, nodes: list[Node], seen: list[Seen]) -> Iterator[Finding]:
    output = Path(config.output)
    try:
        wanted = footprint(config)
    except ValueError as error:
        yield Finding("disk", False, f"how much a run writes is not known: {error}")
    else:
        free = shutil.disk_usage(nearest(output)).free
        yield from diagnosis.disk(config.output, free, _bytes_in(output), wanted)
    yield from diagnosis.memory(nodes, seen)


def _bytes_in(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a run may be at work there
                total += os.lstat(os.path.join(path, name)).st_size
    return total
