"""The newest samples that look most like a skill: what a lost skill may be recovered with (Adapt-∞, Fig. 9).

Similar is the mean cosine to the skill's target samples, in a space that the strategy names. Shapes: N samples of the pool.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from liit.selectors.less import influence
from liit.selectors.protocol import Choice, Options, Pool, choice, settled
from liit.selectors.ranking import ranked


def similar(vector: str) -> Callable[[Pool, int, int, int, Options], Choice]:
    """The strategy that compares in the space of this vector. Its option `skill` names one of the target split; without it a
    sample counts by the skill that it is most like."""

    def choose(pool: Pool, budget: int, seed: int, timestep: int, options: Options) -> Choice:
        skill, targets = settled(options, skill=None)["skill"], pool.wanted()
        if skill not in (None, *targets):
            raise ValueError(f"option skill is {skill!r}; the target split has {', '.join(sorted(targets))}")
        likeness_N = np.full(len(pool), np.nan, np.float32)
        new = np.flatnonzero(pool.arrival_N == timestep)
        if len(new):
            wanted = targets if skill is None else {skill: targets[skill]}
            likeness_N[new] = influence([pool.vector(vector)[new]], [wanted], pool.keys_N[new]).max(axis=1)
        found = ranked(likeness_N[new], pool.keys_N[new], budget, direction="highest", seed=seed, timestep=timestep)
        return choice(
            replace(pool, scores={"similarity": likeness_N}), new[found], "similarity", rank_n=-likeness_N[new[found]]
        )

    return choose
