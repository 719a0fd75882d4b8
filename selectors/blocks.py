"""Work on the blocks of a matrix, in threads, with results in the order of the blocks: the same bits with any number of threads.

Each thread's matrix products are of one thread, so a block's result does not depend on how many run beside it.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Part = TypeVar("Part")
Result = TypeVar("Result")

AHEAD = 2  # results that wait for their turn, for each thread


def in_order(work: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[Result]:
    """`work(part)` of every part, in their order, by as many threads as numpy's matrix products would use."""
    controller = _controller()
    threads = max((int(library["num_threads"]) for library in controller.info()), default=1)
    with controller.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@contextmanager
def one_thread() -> Iterator[None]:
    """Matrix products of one thread, for work that is too small for blocks."""
    with _controller().limit(limits=1):
        yield


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
