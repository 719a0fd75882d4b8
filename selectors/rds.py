"""RDS+ (Ivison et al., arXiv 2503.01807): what is most like a target sample, the target samples taking turns.

Alike is the cosine of last hidden states, averaged over all tokens, each weighted by its position (`position-mean`).

Shapes: N samples of the pool, M target samples, P dimensions, c candidates of a target, B rows of a block.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.directions import Directions, directions
from liit.selectors.less import unit_targets
from liit.selectors.priority import Indices, Keys, priority
from liit.selectors.protocol import Choice, Options, Pool, choice, settled

CANDIDATES = 8  # times what each target would take, were all to take alike; a target that runs out of them is given twice as many


def rds_plus(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """Skills take turns, and within a skill its target samples, each with what is left and most like it; no options."""
    settled(options)
    targets_MP = in_turns(pool.wanted(), pool.first_vector().shape[1])
    rows = directions(pool.first_vector(), pool.keys_N, np.argsort(pool.keys_N))
    budget = min(budget, len(pool))
    count = min(max(1, CANDIDATES * -(-budget // len(targets_MP))), len(pool))
    while True:
        taken = round_robin(*nearest(rows, pool.keys_N, targets_MP, count), budget)
        if len(taken) == budget:
            break
        count = min(2 * count, len(pool))
    index_n = np.array([at for at, _ in taken], np.int64)
    similarity_N = np.full(len(pool), np.nan, np.float32)
    similarity_N[index_n] = [alike for _, alike in taken]
    own = replace(pool, scores={"similarity": similarity_N})
    return choice(own, index_n, "similarity", rank_n=np.arange(len(index_n)))


def in_turns(targets: Mapping[str, NDArray[Any]], width: int) -> NDArray[np.float32]:
    """(M, P) unit target vectors in the order of their turns: one of each skill, then the next of each; a skill of fewer begins
    again. Raises ValueError for vectors that are not finite or of another width."""
    of = {skill: unit_targets(skill, targets[skill], width) for skill in sorted(targets)}
    longest = max(map(len, of.values()))
    return np.stack([of[skill][turn % len(of[skill])] for turn in range(longest) for skill in of]).astype(np.float32)


def nearest(
    rows: Directions, keys_N: Keys, targets_MP: NDArray[np.float32], count: int
) -> tuple[Indices, NDArray[np.float32]]:
    """(M, count) positions in the pool of what is most like each target, most like first, equals by hash; and their cosines."""
    at_Mc: Indices = np.empty((len(targets_MP), 0), np.int64)
    cosine_Mc: NDArray[np.float32] = np.empty((len(targets_MP), 0), np.float32)
    for part in rows.parts():
        own_B = rows.order_N[part]
        at_Mc = np.concatenate([at_Mc, np.broadcast_to(own_B, (len(targets_MP), len(own_B)))], axis=1)
        cosine_Mc = np.concatenate([cosine_Mc, targets_MP @ rows.take(part).T], axis=1)
        if at_Mc.shape[1] > count:
            best_Mc = np.argpartition(-cosine_Mc, count - 1, axis=1)[:, :count]
            at_Mc = np.take_along_axis(at_Mc, best_Mc, axis=1)
            cosine_Mc = np.take_along_axis(cosine_Mc, best_Mc, axis=1)
    hashed_Mc = priority(keys_N[at_Mc], "rds")
    order_Mc = np.lexsort((hashed_Mc, -cosine_Mc), axis=1)
    return np.take_along_axis(at_Mc, order_Mc, axis=1), np.take_along_axis(cosine_Mc, order_Mc, axis=1)


def round_robin(at_Mc: Indices, cosine_Mc: NDArray[np.float32], budget: int) -> list[tuple[int, float]]:
    """In their order, what each target in its turn takes of its own list that no other has, and how alike it is; fewer than the
    budget where a list ends before that."""
    taken: dict[int, float] = {}
    place_M = [0] * len(at_Mc)
    while len(taken) < budget:
        for target, own_c in enumerate(at_Mc):
            if len(taken) == budget:
                break
            while place_M[target] < len(own_c) and int(own_c[place_M[target]]) in taken:
                place_M[target] += 1
            if place_M[target] == len(own_c):
                return list(taken.items())
            taken[int(own_c[place_M[target]])] = float(cosine_Mc[target, place_M[target]])
    return list(taken.items())
