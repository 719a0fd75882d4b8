from collections.abc import Callable, Iterator

import numpy as np
import pytest

from liit.selectors.protocol import Pool

SCORES = ("nll", "image_grounding", "el2n", "entropy", "grad_norm", "learnability", "forgetting")
VECTORS = ("sketch", "embedding", "coincide", "projector", "instruction-input", "position-mean")


@pytest.fixture(autouse=True)
def _floating_point_errors_raise() -> Iterator[None]:
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        yield


@pytest.fixture
def pool_of() -> Callable[[int], Pool]:
    """Pools of any size: three releases, seven clusters, twelve tasks of four skills, targets of three; seven scores, one of them
    often missing, one constant."""

    def make(size: int) -> Pool:
        chance = np.random.default_rng(size)
        scores = {name: chance.gamma(1 + i, size=size).astype(np.float32) for i, name in enumerate(SCORES)}
        scores["nll"][chance.random(size) < 0.1] = np.nan
        scores["image_grounding"][:] = 0
        return Pool(
            keys_N=chance.permutation(10 * size)[:size].astype(np.uint64),
            arrival_N=chance.integers(3, size=size, dtype=np.int32),
            scores=scores,
            vectors={name: chance.normal(size=(size, 16)).astype(np.float16) for name in VECTORS},
            labels_N=(chance.integers(28, size=size, dtype=np.int32) ** 0.58).astype(np.int32),
            distance_N=chance.random(size, dtype=np.float32),
            targets={skill: chance.normal(size=(n, 16)) for skill, n in (("vqa", 5), ("caption", 1), ("chat", 9))},
            given_M=np.arange(0, 10 * size, 3, dtype=np.uint64),
            tasks_N=(12 * chance.random(size) ** 3).astype(np.int32),
            skills_K=np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 3, 3], np.int32),
        )

    return make
