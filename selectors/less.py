"""LESS (Xia et al., arXiv 2402.04333): the samples whose gradients point where some wanted skill's gradients point.

Shapes: N samples of the pool, n_s target samples of skill s, P dimensions, S skills, C checkpoints, B rows of a block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.blocks import in_order
from liit.selectors.directions import Directions, directions
from liit.selectors.priority import Keys
from liit.selectors.protocol import Choice, Options, Pool, choice, settled
from liit.selectors.ranking import ranked


def less(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """The samples of largest influence on any skill, by the gradients of the current model.

    No other checkpoints: what a lifelong learner can still train on has no earlier epochs.
    """
    settled(options)
    influence_NS = influence([pool.vector("sketch")], [pool.wanted()], pool.keys_N)
    strongest_N = influence_NS.max(axis=1)
    index_n = ranked(strongest_N, pool.keys_N, budget, direction="highest", seed=seed, timestep=timestep)
    return choice(replace(pool, scores={"influence": strongest_N}), index_n, "influence", rank_n=-strongest_N[index_n])


def influence(
    train: Sequence[NDArray[Any]],
    targets: Sequence[Mapping[str, NDArray[Any]]],
    keys_N: Keys,
    weights: Sequence[float] = (1.0,),
) -> NDArray[np.float32]:
    """Influence of each sample on each skill (LESS, definition 3.1): sum over checkpoints of weight times mean cosine.

    The mean over a skill's target samples is taken first, so a block of rows costs one product with S vectors; skills may
    have different numbers of samples.

    Args:
        train: for each checkpoint the gradients of the pool, (N, P), any norm.
        targets: for each checkpoint the gradients of every skill's target samples, skill -> (n_s, P), any norm.
        weights: the mean learning rate while each checkpoint was trained towards; only their ratios count.

    Returns:
        (N, S), skills in alphabetical order.

    Raises:
        ValueError: not one of each for every checkpoint, unusable weights, other skills at another checkpoint, a skill
            without samples, another P, or a vector that is not finite.
    """
    weights_C = np.asarray(weights, np.float64)
    if not train or not len(train) == len(targets) == len(weights_C):
        raise ValueError(
            f"{len(train)} pools of gradients, {len(targets)} of targets and {len(weights_C)} weights; "
            "pass one of each for every checkpoint"
        )
    if not (np.isfinite(weights_C).all() and (weights_C >= 0).all() and weights_C.sum() > 0):
        raise ValueError(f"checkpoint weights are {list(weights)}; pass learning rates of 0 or more, not all of them 0")
    skills = sorted(targets[0])
    influence_NS = np.zeros((len(keys_N), len(skills)), np.float32)
    for vectors_NP, wanted, weight in zip(train, targets, weights_C / weights_C.sum(), strict=True):
        if sorted(wanted) != skills:
            raise ValueError(
                f"targets of {sorted(wanted)} at one checkpoint, of {skills} at another; pass the same skills"
            )
        rows = directions(vectors_NP, keys_N, np.argsort(keys_N))
        means_PS = weight * np.stack([_mean(skill, wanted[skill], vectors_NP.shape[1]) for skill in skills], axis=1)
        products = in_order(partial(_product, rows, means_PS.astype(np.float32)), rows.parts())
        for part, influence_BS in zip(rows.parts(), products, strict=True):
            influence_NS[rows.order_N[part]] += influence_BS
    return influence_NS


def _product(rows: Directions, means_PS: NDArray[np.float32], part: slice) -> NDArray[np.float32]:
    influence_BS: NDArray[np.float32] = rows.take(part) @ means_PS
    return influence_BS


def _mean(skill: str, vectors_nP: NDArray[Any], width: int) -> NDArray[np.float64]:
    """The mean direction of a skill's target samples."""
    return unit_targets(skill, vectors_nP, width).mean(axis=0, dtype=np.float64)


def unit_targets(skill: str, vectors_nP: NDArray[Any], width: int) -> NDArray[np.float64]:
    """(n, P) the directions of a skill's target samples; a zero vector stays zero.

    Raises:
        ValueError: there are none, they have another width, or one is not finite.
    """
    if vectors_nP.ndim != 2 or not len(vectors_nP) or vectors_nP.shape[1] != width:
        raise ValueError(
            f"targets of skill {skill!r} have shape {vectors_nP.shape}; pass at least one vector of {width} numbers"
        )
    norm_n = np.linalg.norm(vectors_nP.astype(np.float64), axis=1)
    if not np.isfinite(norm_n).all():
        bad = np.flatnonzero(~np.isfinite(norm_n))[0]
        raise ValueError(
            f"target vector {bad} of skill {skill!r} is not finite; leave the sample out or score it again"
        )
    return vectors_nP / np.where(norm_n > 0, norm_n, 1.0)[:, None]
