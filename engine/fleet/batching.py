"""Which samples are computed together: batches planned once from (length, key), the unit of work everywhere.

N samples.
"""

import numpy as np


def plan(keys_N: np.ndarray, lengths_N: np.ndarray, max_samples: int, max_tokens: int) -> np.ndarray:
    """The batch (N,) int32 of each sample: sorted by (length, key), filled while it holds at most `max_samples` and, padding
    included, `max_tokens`. A sample longer than that gets a batch of its own. A permuted input gives the permuted plan.
    """
    order = np.lexsort((keys_N, lengths_N))
    batch_N = np.empty(len(order), dtype=np.int32)
    batch, count = -1, max_samples
    for row in order:
        if count >= max_samples or (count + 1) * int(lengths_N[row]) > max_tokens:
            batch, count = batch + 1, 0
        batch_N[row] = batch
        count += 1
    return batch_N


def plan_groups(
    group_N: np.ndarray, keys_N: np.ndarray, lengths_N: np.ndarray, max_samples: int, max_tokens: int
) -> np.ndarray:
    """A plan whose batches are each of one group, groups in sorted order."""
    batch_N, before = np.empty(len(keys_N), dtype=np.int32), 0
    for group in np.unique(group_N):
        mine = group_N == group
        batch_N[mine] = before + plan(keys_N[mine], lengths_N[mine], max_samples, max_tokens)
        before = int(batch_N[mine].max()) + 1
    return batch_N
