"""One function on every node of the cluster, and a word from each: its answer, or why there is none."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

CPUS = 0.01
"""Of one question: it waits behind nothing but a node that is full."""


@dataclass(frozen=True)
class Node:
    """One that is up. name: as Ray has it, the address unless it was given another, and its id where two are called alike."""

    id: str
    name: str
    cpus: float
    gpus: float
    object_store: float
    """Bytes."""


@dataclass(frozen=True)
class Silence:
    """What came in place of an answer."""

    reason: str


def alive() -> list[Node]:
    """The nodes of the cluster that this process is connected to, by name."""
    up = [node for node in ray.nodes() if node["Alive"]]
    called = [node["NodeName"] for node in up]
    found = []
    for node in up:
        id, name, has = node["NodeID"], node["NodeName"], node["Resources"]
        name = name if called.count(name) == 1 else f"{name} ({id[:8]})"
        found.append(Node(id, name, has.get("CPU", 0), has.get("GPU", 0), has.get("object_store_memory", 0)))
    return sorted(found, key=lambda node: node.name)


def ask(
    nodes: Sequence[Node], function: Callable[..., Any], *arguments: Any, timeout_s: float, bare: bool = False
) -> dict[str, Any]:
    """node name → what `function(*arguments)` returns in a process of that node, or a Silence after `timeout_s` seconds.

    bare: the function's file travels with it, for nodes where LiIT may not be installed; it may then import nothing of LiIT.
    """
    with _sent_along(function.__module__) if bare else nullcontext():
        remote = ray.remote(max_retries=0)(function)
        asked = {node.name: remote.options(**_on(node)).remote(*arguments) for node in nodes}
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=timeout_s)
    return {name: _answer(answer, timeout_s) for name, answer in asked.items()}


def _on(node: Node) -> dict[str, Any]:
    place = NodeAffinitySchedulingStrategy(node.id, soft=False)
    return {"num_cpus": min(CPUS, node.cpus), "scheduling_strategy": place}


def _answer(answer: Any, timeout_s: float) -> Any:
    ready, _ = ray.wait([answer], timeout=0)
    if not ready:
        ray.cancel(answer, force=True)
        return Silence(f"no answer within {timeout_s:g} s; it is gone, or busy, or a folder that it looked at hangs")
    try:
        return ray.get(answer)
    except Exception as error:  # what a node may answer is open: Ray's errors, and whatever cannot be imported there
        lines = str(getattr(error, "cause", None) or error).strip().splitlines()
        return Silence(lines[-1] if lines else type(error).__name__)


@contextmanager
def _sent_along(module: str) -> Iterator[None]:
    """Functions of the module are pickled with their code, not by their name."""
    loaded = importlib.import_module(module)
    ray.cloudpickle.register_pickle_by_value(loaded)
    try:
        yield
    finally:
        ray.cloudpickle.unregister_pickle_by_value(loaded)
