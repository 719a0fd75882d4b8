"""A batch that does not fit is done by halves, in order, and that is said; of one sample it is said what becomes of it."""

import logging

import pytest
import torch

from liit.engine.fleet.fitting import fitting
from liit.engine.fleet.running import TaskError


def doubled(room: int, tried: list[int]):  # type: ignore[no-untyped-def]
    """Work that has no memory for more than `room` numbers, nor for the number 13."""

    def work(batch: list[int]) -> list[int]:
        tried.append(len(batch))
        if len(batch) > room or 13 in batch:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return [2 * number for number in batch]

    return work


@pytest.mark.parametrize("room", [1, 3, 4, 16])
@pytest.mark.parametrize("count", [1, 2, 7, 12])
def test_halves_give_what_the_whole_would(room: int, count: int, caplog: pytest.LogCaptureFixture) -> None:
    tried: list[int] = []
    with caplog.at_level(logging.WARNING, "liit"):
        found = fitting(doubled(room, tried), list(range(count)), lambda one: [-1])
    assert found == [2 * number for number in range(count)]
    assert max(tried) == count
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (count > room)
    assert all(f"a batch of {count} samples does not fit" in text for text in said)


def test_a_sample_that_does_not_fit_alone_is_settled_and_costs_the_others_nothing() -> None:
    found = fitting(doubled(8, []), list(range(10, 20)), lambda one: [f"no room for {one}"])
    assert found == [20, 22, 24, "no room for [13]", 28, 30, 32, 34, 36, 38]


def test_where_none_of_several_fits_alone_no_sample_is_blamed() -> None:
    """Something else has the device; every sample of the pool would be set aside, batch after batch."""
    with pytest.raises(TaskError, match="none of 5 samples fits in the device's memory, even alone"):
        fitting(doubled(0, []), list(range(5)), lambda one: [-1])
    assert fitting(doubled(0, []), [7], lambda one: [-1]) == [-1]


def test_other_errors_are_not_for_halving() -> None:
    def work(batch: list[int]) -> list[int]:
        raise RuntimeError("device-side assert")

    with pytest.raises(RuntimeError, match="device-side assert"):
        fitting(work, [1, 2], lambda one: [])
