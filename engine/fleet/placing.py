"""How many actors a cluster has room for, where `resources.actors` is `auto`; no result depends on it.

Ray Data spreads actors over the nodes, Ray Train packs its workers onto as few as hold them.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from liit.engine.fleet.connect import connect
from liit.engine.run.progress import log
from liit.engine.settings.sections import Resources

if TYPE_CHECKING:
    from liit.engine.fleet.nodes import Node


def decided(resources: Resources) -> Resources:
    """With a number of actors; the cluster is joined or started to count, where it is left to that."""
    if resources.actors != "auto":
        return resources
    connect(resources)
    from liit.engine.fleet.nodes import alive  # it imports Ray

    placed = as_placed(resources, alive())
    log.info("resources.actors: auto is %d on this cluster", placed.actor_count)
    return placed


def as_placed(resources: Resources, nodes: Sequence["Node"]) -> Resources:
    """With the number of actors that find room on these nodes, each on one; one at least."""
    if resources.actors != "auto":
        return resources
    gpus = resources.gpus_per_actor
    shares = (node.gpus / gpus if gpus else node.cpus / resources.cpus_per_actor for node in nodes)
    room = sum(math.floor(share + 1e-6) for share in shares)
    return resources.model_copy(update={"actors": max(room, 1)})
