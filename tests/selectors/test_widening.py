import numpy as np

from liit.selectors.widening import widened


def test_every_half_becomes_the_single_of_the_same_value() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = halves[np.isfinite(halves)]
    for chosen in (finite, halves):
        assert (widened(chosen).view(np.uint32) == chosen.astype(np.float32).view(np.uint32)).all()
