"""What follows from what was seen: what differs or lacks is one line that names the node, and nothing else is wrong."""

from dataclasses import replace

import pytest

from liit.engine.fleet.nodes import Node, Silence
from liit.engine.health import diagnosis
from liit.engine.health.diagnosis import HERE, Finding, Seen
from liit.engine.health.footprint import Footprint
from liit.engine.settings.sections import Resources

PATHS: dict[str, int | str] = {"/data/a.json": 70, "/data/images": -1}
LABELS = {"/data/a.json": "a", "/data/images": "images of a"}
PLAIN = Seen("", "3.11.7", {"torch": "2.13.0", "ray": "2.60.0"}, PATHS, 8 << 30, None, {"wrote": "x"})
ONE, TWO, MINE = replace(PLAIN, node="one"), replace(PLAIN, node="two"), replace(PLAIN, node=HERE)
NODES = [Node("1", "one", cpus=8, gpus=4, object_store=2e9), Node("2", "two", cpus=8, gpus=4, object_store=2e9)]


def only(findings: list[Finding]) -> str:
    """The one line, of something to do."""
    assert [finding.fine for finding in findings] == [False]
    return findings[0].says


def fine(findings: list[Finding]) -> bool:
    return len(findings) == 1 and findings[0].fine


def test_nodes_alike_are_fine() -> None:
    alike = [ONE, TWO]
    assert fine(diagnosis.versions(MINE, alike))
    assert fine(diagnosis.data([], LABELS, MINE, alike))
    assert fine(diagnosis.output("/out", None, alike))
    assert fine(diagnosis.locks("/out", alike))
    assert fine(diagnosis.memory(NODES, alike))
    assert fine(diagnosis.silent("nodes", {"one": {}, "two": Silence("gone")})[1:]) is False
    assert diagnosis.silent("nodes", {"one": {}}) == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"python": "3.12.1"}, "Python is 3.12.1 on node two and 3.11.7 here"),
        ({"packages": {"torch": "2.5.1", "ray": "2.60.0"}}, "torch is 2.5.1 on node two and 2.13.0 here"),
        ({"packages": {"torch": None, "ray": "2.60.0"}}, "torch cannot be imported on node two: install 2.13.0"),
    ],
)
def test_another_version_is_named_with_its_node(changes: dict[str, object], says: str) -> None:
    odd = replace(TWO, **changes)  # type: ignore[arg-type]
    assert says in only(diagnosis.versions(MINE, [ONE, odd]))
    assert says.replace("node two", "nodes two, three") in only(
        diagnosis.versions(MINE, [ONE, odd, replace(odd, node="three")])
    )


def test_a_package_that_is_missing_here_is_said_once() -> None:
    bare = {"torch": None, "ray": "2.60.0"}
    nodes = [replace(seen, packages=bare) for seen in (ONE, TWO)]
    assert "torch is not installed here" in only(diagnosis.versions(replace(MINE, packages=bare), nodes))


def test_data_that_a_node_sees_not_or_otherwise_is_named() -> None:
    hidden = replace(TWO, paths=PATHS | {"/data/images": "No such file or directory"})
    says = only(diagnosis.data([], LABELS, MINE, [ONE, hidden]))
    assert "node two" in says
    assert "/data/images (images of a: No such file or directory)" in says
    other = replace(TWO, paths=PATHS | {"/data/a.json": 71})
    assert "node two" in (says := only(diagnosis.data([], LABELS, MINE, [ONE, other])))
    assert "/data/a.json (a: 71 bytes, 70 here)" in says
    assert only(diagnosis.data(["release b: gone"], LABELS, MINE, [ONE, TWO])) == "release b: gone"


@pytest.mark.parametrize(
    ("met", "says"),
    [
        ({"read": "No such file or directory"}, "node two does not see what is written there here"),
        ({"wrote": "x", "write": "Permission denied"}, "node two cannot write there (Permission denied)"),
        ({"wrote": "x", "back": "no such file"}, "node two writes what is not seen here"),
    ],
)
def test_an_output_that_is_not_shared_is_named_with_its_node(met: dict[str, str], says: str) -> None:
    assert says in only(diagnosis.output("/out", None, [ONE, replace(TWO, met=met)]))


def test_an_output_that_cannot_be_written_or_locked_is_said() -> None:
    assert "/out cannot be used: Permission denied" in only(diagnosis.output("/out", "Permission denied", [ONE, TWO]))
    twice = replace(TWO, met={"wrote": "x", "lock": "given twice"})
    assert "node two: given twice" in only(diagnosis.locks("/out", [ONE, twice]))


def asked(**resources: object) -> Resources:
    return Resources.model_validate(resources)


@pytest.mark.parametrize("actors", range(1, 12))
@pytest.mark.parametrize("gpus", [0.5, 1, 3])
def test_as_many_actors_find_room_as_can_be_placed_one_by_one(actors: int, gpus: float) -> None:
    resources = asked(actors=actors, gpus_per_actor=gpus, cpus_per_actor=1.2)
    free, placed = [4.0, 4.0], 0
    for _ in range(actors):
        place = next((node for node in (0, 1) if free[node] >= gpus), None)
        if place is not None:
            free[place] -= gpus
            placed += 1
    # 1.2 CPUs each: 6 on a node of 8, which binds first where an actor has half a GPU; beyond 12 they get less
    if gpus < 1:
        placed = min(placed, 12)
    findings = diagnosis.hardware(resources, 1, NODES, {})
    assert fine(findings) == (placed == actors)
    if placed < actors:
        assert f"set resources.actors={placed}" in only(findings)


def test_workers_that_would_wait_for_ever_are_told_how_many_find_room() -> None:
    resources = asked(gpus_per_worker=1, cpus_per_worker=4)
    assert fine(diagnosis.hardware(resources, 4, NODES, {}))
    assert "set training.workers=4, or add nodes" in only(diagnosis.hardware(resources, 5, NODES, {}))
    assert "no node is so large" in only(diagnosis.hardware(asked(cpus_per_worker=9), 1, NODES, {}))


def test_actors_get_fewer_cpus_before_they_find_no_room() -> None:
    assert fine(diagnosis.hardware(asked(actors=8, cpus_per_actor=8), 1, NODES, {}))


def test_a_torch_without_cuda_is_named_where_gpus_are_wanted() -> None:
    torch = {"one": "2.13.0+cu128", "two": "2.13.0+cpu"}
    assert "torch on node two is built without CUDA" in only(
        diagnosis.hardware(asked(gpus_per_actor=1), 1, NODES, torch)
    )
    assert fine(diagnosis.hardware(asked(), 1, NODES, torch))


def test_models_that_lack_or_differ_are_named_with_their_nodes() -> None:
    good = ((), {"/m": "a1"})
    assert fine(diagnosis.models({HERE: good, "one": good, "two": good}))
    lost = (["model /m: no config.json in /m"], {"/m": "b2"})
    assert (
        only(diagnosis.models({HERE: good, "one": good, "two": lost})) == "model /m: no config.json in /m: on node two"
    )
    says = only(diagnosis.models({HERE: lost, "one": lost, "two": lost}))
    assert says == "model /m: no config.json in /m: on here and nodes one, two"
    assert "another model lies at /m than here: on node two" in only(
        diagnosis.models({HERE: good, "one": good, "two": ((), {"/m": "b2"})})
    )


def test_the_disk_holds_what_is_to_be_written_beside_what_is_there() -> None:
    wanted = Footprint(vectors=60e9, adapters=30e9, samples=10e9)
    assert fine(diagnosis.disk("/out", 101e9, 0, wanted))
    assert fine(diagnosis.disk("/out", 61e9, 40e9, wanted))
    says = only(diagnosis.disk("/out", 99e9, 0, wanted))
    assert "99 GB free at /out, about 100 GB to be written" in says


def test_an_object_store_beyond_shared_memory_is_named() -> None:
    small = replace(TWO, shm=64 << 20)
    says = only(diagnosis.memory(NODES, [ONE, small]))
    assert "node two: /dev/shm has 67 MB, less than Ray's object store of 2 GB" in says
    assert "--shm-size=2gb" in says


def test_what_keeps_a_cluster_from_being_joined_depends_on_mode_and_token() -> None:
    def todo(mode: str | None, token: bool) -> str:
        return only([diagnosis.unreachable("head:6379", "refused", mode, token)])

    assert "copy ~/.ray/auth_token of its head node here and set RAY_AUTH_MODE=token" in todo(None, False)
    assert "set RAY_AUTH_MODE=token here, where one lies" in todo(None, True)
    assert "another cluster's" in todo("token", True)


def test_a_file_of_a_ray_that_ended_is_to_be_removed() -> None:
    assert "names 10.0.0.1:6379, where no Ray answers" in only(diagnosis.leftover("/f", "10.0.0.1:6379", False))
    assert fine(diagnosis.leftover("/f", "10.0.0.1:6379", True))
    assert fine(diagnosis.leftover("/f", None, False))
