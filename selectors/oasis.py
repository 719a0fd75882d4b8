"""OASIS (Lee et al., arXiv 2506.02011): of the newest release what is informative beside all of it that was seen before.

A release is looked at in batches. A sample's informativeness I, the norm of its gradient, is told in deviations from a moving
mean of the batches before, z = (I - EMA) / √EMV, and it is taken with probability σ(z - τ); what is taken lowers the I of the
others of its batch by what they have in common, as far as their gradients point the same way.

The paper sets τ, which sets a share (25 %). Here the budget sets τ.

Shapes: N samples, n of the newest release, K batches of B samples.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from liit.selectors.directions import Directions, directions
from liit.selectors.priority import priority, smallest
from liit.selectors.protocol import Choice, Options, Pool, choice, settled

HALVINGS = 60  # of the range of τ, at most
SURE = 40.0  # a logit beyond those of all chances that there are


def oasis(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
    """Exactly min(budget, n) samples, by the norm of the gradient in the layers of `sketch` and the cosine of sketches.

    Options: `batch`, samples that are looked at together; `decay`, what the moving mean and variance keep of a batch at the next.
    """
    parts = settled(options, batch=64, decay=0.9)
    size, decay = parts["batch"], parts["decay"]
    if not isinstance(size, int) or size < 1 or not isinstance(decay, int | float) or not 0 <= decay < 1:
        raise ValueError(f"batch is {size!r} and decay {decay!r}; pass a number of samples and a share below 1")
    norm_N = pool.score("grad_norm").astype(np.float64)
    new = np.flatnonzero(pool.arrival_N == timestep)
    known, rest = new[np.isfinite(norm_N[new])], new[~np.isfinite(norm_N[new])]
    hashed_n = priority(pool.keys_N[known], "oasis order", seed, timestep)
    order_n = known[np.argsort(hashed_n)]
    chance_n = (priority(pool.keys_N[order_n], "oasis", seed, timestep) >> np.uint64(11)).astype(np.float64)
    logit_n = _logit((chance_n + 0.5) / 2**53)
    cosines = [np.empty((0, size, size), np.float32)]
    if len(order_n):
        cosines = _cosines(directions(pool.vector("sketch"), pool.keys_N, order_n), size)
    margin_n = settled_margins(
        norm_N[order_n], np.concatenate(cosines), logit_n, min(budget, len(order_n)), size, decay
    )
    best = np.lexsort((np.sort(hashed_n), -margin_n))[:budget]
    spare = rest[smallest(pool.keys_N[rest], max(budget - len(best), 0), "oasis", seed, timestep)]
    rank_n = np.concatenate([-margin_n[best], np.full(len(spare), np.inf)])
    return choice(pool, np.concatenate([order_n[best], spare]), "grad_norm", rank_n=rank_n)


def settled_margins(
    norm_n: NDArray[np.float64],
    cosine_KBB: NDArray[np.float32],
    logit_n: NDArray[np.float64],
    budget: int,
    size: int,
    decay: float,
) -> NDArray[np.float64]:
    """(n,) by how much each is taken, with the largest τ found at which `budget` samples are; below 0 it is not."""
    if not len(norm_n):
        return np.empty(0)
    center_K, width_K = moving(norm_n, size, decay)
    low = -float((center_K / width_K).max()) - SURE
    high = float(norm_n.max() / width_K.min()) + SURE
    margin_n = margins(norm_n, cosine_KBB, logit_n, center_K, width_K, low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found_n = margins(norm_n, cosine_KBB, logit_n, center_K, width_K, middle)
        if (found_n > 0).sum() < budget:
            high = middle
            continue
        low, margin_n = middle, found_n
        if (found_n > 0).sum() == budget:
            break
    return margin_n


def moving(norm_n: NDArray[np.float64], size: int, decay: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(K,) mean and deviation that each batch is compared with: of those before it, the first with its own."""
    batches = [norm_n[start : start + size] for start in range(0, len(norm_n), size)]
    mean, variance = float(batches[0].mean()), float(batches[0].var())
    found = [(mean, variance)]
    for batch in batches[:-1]:
        variance = decay * variance + (1 - decay) * float(((batch - mean) ** 2).mean())
        mean = decay * mean + (1 - decay) * float(batch.mean())
        found.append((mean, variance))
    center_K, variance_K = np.array(found).T
    return center_K, np.where(variance_K > 0, np.sqrt(variance_K), 1.0)


def margins(
    norm_n: NDArray[np.float64],
    cosine_KBB: NDArray[np.float32],
    logit_n: NDArray[np.float64],
    center_K: NDArray[np.float64],
    width_K: NDArray[np.float64],
    threshold: float,
) -> NDArray[np.float64]:
    """(n,) z - logit(u) - τ of each sample when its turn comes, the most informative of a batch first: above 0 it is taken.

    With u uniform that has the probability σ(z - τ). What is taken leaves the others of its batch 1 - max(cosine, 0) of theirs.
    """
    n_batches, size = cosine_KBB.shape[:2]
    left_KB, logit_KB = np.zeros((n_batches, size)), np.zeros((n_batches, size))
    left_KB.flat[: len(norm_n)], logit_KB.flat[: len(norm_n)] = norm_n, logit_n
    waits_KB = np.arange(left_KB.size).reshape(left_KB.shape) < len(norm_n)
    margin_KB, each = np.full(left_KB.shape, -np.inf), np.arange(n_batches)
    for _ in range(size):
        next_K = np.where(waits_KB, left_KB, -np.inf).argmax(axis=1)
        z_K = (left_KB[each, next_K] - center_K) / width_K
        value_K = z_K - logit_KB[each, next_K] - threshold
        open_K = waits_KB[each, next_K]
        margin_KB[each[open_K], next_K[open_K]] = value_K[open_K]
        waits_KB[each, next_K] = False
        took = each[open_K & (value_K > 0)]
        left_KB[took] *= 1 - np.clip(cosine_KBB[took, next_K[took]], 0, 1)
    return margin_KB.flat[: len(norm_n)]


def _cosines(rows: Directions, size: int) -> list[NDArray[Any]]:
    """(1, B, B) for each batch; 0 beyond the last sample."""
    found = []
    for start in range(0, len(rows), size):
        own = rows.take(slice(start, min(start + size, len(rows))))
        found.append(np.zeros((1, size, size), np.float32))
        found[-1][0, : len(own), : len(own)] = own @ own.T
    return found


def _logit(chance_n: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(chance_n) - np.log1p(-chance_n)
