"""What threads make ahead comes in its order, within its bytes, and no later than it would have come without them."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from liit.engine.fleet.ahead import MOST_WAITING, made_ahead


@dataclass
class Made:
    number: int
    nbytes: int = 100


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_what_is_made_comes_in_order(threads: int) -> None:
    def slowly(number: int) -> Made:
        time.sleep(0.002 * (number % 3))
        return Made(number)

    assert [one.number for one in made_ahead(slowly, range(40), threads, 1e9)] == list(range(40))
    assert list(made_ahead(slowly, [], threads, 1e9)) == []


@pytest.mark.parametrize("room", [1, 3, 10])
def test_no_more_is_made_than_fits(room: int) -> None:
    """Whatever the threads could do: of what is made and not taken, so many bytes, or as many as there are threads at first."""
    made: list[int] = []
    threads = 2

    def make(number: int) -> Made:
        made.append(number)
        return Made(number)

    for taken, _ in enumerate(made_ahead(make, range(50), threads, room * 100), 1):
        time.sleep(0.005)
        assert len(made) - taken <= max(room, threads)


def test_where_each_is_small_their_number_is_bounded() -> None:
    asked = 0

    def items() -> Iterator[int]:
        nonlocal asked
        while True:
            asked += 1
            yield asked

    ahead = made_ahead(lambda number: number, items(), 2, 1e9)
    assert [next(ahead) for _ in range(3)] == [1, 2, 3]
    assert asked <= 3 + MOST_WAITING
    ahead.close()


@pytest.mark.parametrize("threads", [0, 3])
def test_what_a_thread_raises_is_raised_in_its_place(threads: int) -> None:
    def make(number: int) -> int:
        if number == 5:
            raise OSError("no such picture")
        return number

    ahead = made_ahead(make, range(9), threads, 1e9)
    assert [next(ahead) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(OSError, match="no such picture"):
        next(ahead)


@pytest.mark.parametrize("threads", [0, 2])
def test_nothing_begins_before_it_is_asked_for_or_goes_on_after_it_is_closed(threads: int) -> None:
    begun: list[int] = []
    before = threading.active_count()
    ahead = made_ahead(begun.append, range(100), threads, 1e9)
    time.sleep(0.02)
    assert (begun, threading.active_count()) == ([], before)
    next(ahead)
    ahead.close()
    count = len(begun)
    time.sleep(0.02)
    assert (len(begun), threading.active_count()) == (count, before)
