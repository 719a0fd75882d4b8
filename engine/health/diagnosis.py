"""What was seen of a cluster, and what follows: a line for each thing, fine or with what to do. Nothing here looks anywhere."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from liit.engine.fleet.nodes import Node, Silence
from liit.engine.fleet.placing import as_placed
from liit.engine.fleet.planned import cpus_of_actor
from liit.engine.health.footprint import Footprint
from liit.engine.run.progress import size
from liit.engine.settings.sections import Resources

HERE = "here"
"""The process that starts the run, among the names of nodes."""
"""That Ray Data holds at least: one in each of the three steps of a pass, and the next one."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor."""

    about: str
    fine: bool
    says: str


@dataclass(frozen=True)
class Seen:
    """What `fleet.look` saw on a node, or here."""

    node: str
    python: str
    packages: Mapping[str, str | None]
    paths: Mapping[str, int | str]
    shm: int
    auth: str | None
    met: Mapping[str, str]


def settled(about: str, wrong: Iterable[str], fine: str) -> list[Finding]:
    """What is wrong, line by line, or the one line that nothing is."""
    return [Finding(about, False, says) for says in wrong] or [Finding(about, True, fine)]


def silent(about: str, answers: Mapping[str, object]) -> list[Finding]:
    """A line for each node that gave no answer."""
    silences = [(node, answer) for node, answer in answers.items() if isinstance(answer, Silence)]
    return [Finding(about, False, f"node {node}: {silence.reason}") for node, silence in silences]


def versions(here: Seen, nodes: Sequence[Seen]) -> list[Finding]:
    """Python and packages of every node are those of the process that starts the run."""
    wrong, mine = [], {"Python": here.python, **here.packages}
    for name, version in mine.items():
        if version is None:
            wrong.append(f"{name} is not installed here: install it on every node")
            continue
        others: dict[str | None, list[str]] = {}
        for seen in nodes:
            others.setdefault({"Python": seen.python, **seen.packages}[name], []).append(seen.node)
        for other, on in others.items():
            if other is None:
                wrong.append(f"{name} cannot be imported on {named(on)}: install {version} there, as here")
            elif other != version:
                wrong.append(f"{name} is {other} on {named(on)} and {version} here: make them the same")
    return settled("versions", wrong, f"{', '.join(f'{name} {is_}' for name, is_ in mine.items())} on {_all(nodes)}")


def hardware(
    resources: Resources, workers: int, nodes: Sequence[Node], torch: Mapping[str, str | None]
) -> list[Finding]:
    """Each actor of scoring and each worker of training finds its GPUs and CPUs on one node, beside the others of its kind.

    torch: its version on each node that answered.
    """
    resources = as_placed(resources, nodes)
    gpus, cpus = sum(node.gpus for node in nodes), sum(node.cpus for node in nodes)
    has, wrong, asked = f"{_amount(gpus, cpus)} on {_all(nodes)}", [], []
    actor = (0 if resources.warm is True else resources.gpus_per_actor, cpus_of_actor(resources, cpus))
    worker = (resources.gpus_per_worker, resources.cpus_per_worker)
    for key, count, each in (("resources.actors", resources.actor_count, actor), ("training.workers", workers, worker)):
        asked.append(f"{key}={count} of {_amount(*each)}")
        room = sum(_room(node, *each) for node in nodes)
        if room < count:
            todo = f"set {key}={room:g}, or add nodes" if room else "no node is so large; ask for less in resources"
            wrong.append(f"{asked[-1]} each find no room: {has} hold {room:g}; {todo}")
    if resources.gpus_per_actor or resources.gpus_per_worker:
        blind = [node.name for node in nodes if node.gpus and "+cpu" in (torch.get(node.name) or "")]
        wrong += [f"torch on {named(blind)} is built without CUDA; install one for its GPUs"] if blind else []
    return settled("hardware", wrong, f"{has} hold {', and later '.join(asked)}")


def _room(node: Node, gpus: float, cpus: float) -> float:
    limits = [have / each for have, each in ((node.gpus, gpus), (node.cpus, cpus)) if each > 0]
    return math.floor(min(limits) + 1e-6) if limits else math.inf


def _amount(gpus: float, cpus: float) -> str:
    return f"{gpus:g} GPUs and {cpus:g} CPUs" if gpus else f"{cpus:g} CPUs"


def data(missing: Sequence[str], labels: Mapping[str, str], here: Seen, nodes: Sequence[Seen]) -> list[Finding]:
    """Every file and folder of the user's is seen here, and alike by every node.

    missing: lines about what is not here. labels: of each path, what it is.
    """
    wrong = list(missing)
    for seen in (here, *nodes):
        bad = []
        for path, label in labels.items():
            mine, its = here.paths[path], seen.paths[path]
            if isinstance(its, str):
                bad.append(f"{path} ({label}: {its})")
            elif not isinstance(mine, str) and its != mine:
                bad.append(f"{path} ({label}: {its} bytes, {mine} here)")
        if bad:
            who = "this machine cannot read" if seen is here else f"node {seen.node} does not see the same as here"
            wrong.append(f"{who}: {few(bad)}; every node must read them under the same path")
    fine = (
        f"{len(labels)} files and folders are seen alike by {_all(nodes)}"
        if labels
        else "the digits are made by the run itself"
    )
    return settled("data", wrong, fine)


def output(path: str, problem: str | None, nodes: Sequence[Seen]) -> list[Finding]:
    """The run folder can be written here, every node reads what is written here, and what it writes is read here.

    problem: why nothing could be written here.
    """
    wrong = [] if problem is None else [f"{path} cannot be used: {problem}"]
    for key, says in (
        ("read", "does not see what is written there here"),
        ("write", "cannot write there"),
        ("back", "writes what is not seen here"),
    ):
        for reason, on in _by_reason(nodes, key).items():
            wrong.append(f"{path}: {named(on)} {says} ({reason}); take a folder that every node mounts under this path")
    return settled("output", wrong, f"{path} is written and read by {_all(nodes)}")


def locks(path: str, nodes: Sequence[Seen]) -> list[Finding]:
    """A lock that is held here is refused to a process of every node that sees the folder."""
    wrong = [
        f"{path}: a lock that is held here was tried on {named(on)}: {reason}; two runs could use the folder at once: mount it "
        "so that flock is shared (NFS: version 4, without nolock or local_lock)"
        for reason, on in _by_reason(nodes, "lock").items()
    ]
    return settled("flock", wrong, f"a lock that is held here is refused on {_all(nodes)}")


def models(answers: Mapping[str, tuple[Sequence[str], Mapping[str, str]]]) -> list[Finding]:
    """Models load on every node, and are the same; answers: of here and of nodes, what `look_for_models` says."""
    problems: dict[str, list[str]] = {}
    mine = answers[HERE][1]
    for node, (wrong, marks) in answers.items():
        others = [f"another model lies at {path} than here" for path, mark in marks.items() if mark != mine[path]]
        for problem in (*wrong, *(others if not wrong else ())):
            problems.setdefault(problem, []).append(node)
    lines = [f"{problem}: on {named(on)}" for problem, on in problems.items()]
    nodes = [node for node in answers if node != HERE]
    return settled("models", lines, f"{', '.join(mine)}: configuration, processor and weights are on {_all(nodes)}")


def disk(path: str, free: float, there: float, wanted: Footprint) -> list[Finding]:
    """What a run writes finds room. free: bytes at its folder; there: bytes that an earlier start of the run has written."""
    parts = f"vectors {size(wanted.vectors)}, adapters {size(wanted.adapters)}, samples {size(wanted.samples)}"
    says = f"{size(free)} free at {path}, about {size(wanted.total)} to be written ({parts})"
    says += f", of which {size(there)} may be there" if there else ""
    todo = "free some, or set keep_profiles=1 and a smaller scoring.gradient.dimension"
    return settled("disk", [f"{says}: {todo}"] if free + there < wanted.total else [], says)


def memory(nodes: Sequence[Node], seen: Sequence[Seen]) -> list[Finding]:
    """Ray's object store lies in /dev/shm. What is in it is small: of a task, which part of a table it is of."""
    shm, wrong = {one.node: one.shm for one in seen}, []
    for node in nodes:
        if shm[node.name] < node.object_store:
            wrong.append(
                f"node {node.name}: /dev/shm has {size(shm[node.name])}, less than Ray's object store of "
                f"{size(node.object_store)}, which then lies on a slow disk: give a container --shm-size="
                f"{math.ceil(node.object_store / 1e9)}gb or more"
            )
    least = min(node.object_store for node in nodes)
    return settled("memory", wrong, f"Ray's object store, {size(least)} at least, is within /dev/shm on {_all(nodes)}")


def authentication(joined: bool, nodes: Sequence[Seen]) -> list[Finding]:
    """Whether Ray asks for a token: what to know about it, as it was accepted here."""
    if not any(seen.auth == "token" for seen in nodes):
        says = "off; whoever reaches the ports of the cluster can run code on it"
    elif joined:
        says = "the cluster asks for one and took the one here; `ray job submit` needs RAY_AUTH_MODE=token too"
    else:
        says = "a local Ray keeps one in ~/.ray/auth_token; a later `ray start --head` here asks whoever joins or submits for it"
    return [Finding("token", True, says)]


def unreachable(address: str, reason: str, mode: str | None, token: bool) -> Finding:
    """Ray at this address was not joined. mode: RAY_AUTH_MODE here; token: whether there is one here."""
    if not token:
        todo = (
            "if the cluster asks for a token, copy ~/.ray/auth_token of its head node here and set RAY_AUTH_MODE=token"
        )
    elif mode != "token":
        todo = "if the cluster asks for a token, set RAY_AUTH_MODE=token here, where one lies"
    else:
        todo = "if it is up, the token here may be another cluster's: copy ~/.ray/auth_token of its head node"
    return Finding("Ray", False, f"the cluster at {address} was not joined ({reason}); {todo}")


def leftover(file: str, address: str | None, answers: bool) -> list[Finding]:
    """A `ray_current_cluster` names a Ray that answers. address: what it says, None where there is none."""
    says = f"{file} names {address}, where no Ray answers: remove it, or every training ends 12 s late"
    fine = f"no {file} of a Ray that has ended" if address is None else f"{file} names a Ray that answers"
    return settled("leftovers", [says] if address is not None and not answers else [], fine)


def _by_reason(nodes: Sequence[Seen], key: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for seen in nodes:
        if key in seen.met:
            found.setdefault(seen.met[key], []).append(seen.node)
    return found


def named(nodes: Sequence[str]) -> str:
    """`node a`, `nodes a, b, c and 2 more`, `here and node a`."""
    others = [node for node in nodes if node != HERE]
    names = f"{'node' if len(others) == 1 else 'nodes'} {few(others)}" if others else ""
    return " and ".join(part for part in (HERE if HERE in nodes else "", names) if part)


def few(names: Sequence[str], most: int = 4) -> str:
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _all(nodes: Sequence[object]) -> str:
    return {0: "this machine", 1: "the one node"}.get(len(nodes), f"all {len(nodes)} nodes")
