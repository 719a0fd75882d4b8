"""What is needed soon is made by threads beforehand, in its order, while memory holds no more than is allowed."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

MOST_WAITING = 64
"""Where each is small."""


def made_ahead(
    make: Callable[[Any], Any], items: Iterable[Any], threads: int, most: float
) -> Generator[Any, None, None]:
    """`make` of every item, in order; once the first is asked for, threads go on making the next ones.

    What `make` raises is raised in its place in the order. Closed early, it waits for what is being made and makes no more.

    threads: 0 makes each when it is asked for. most: bytes of what is made and not yet taken, by the largest `nbytes` so far;
    one always. Before anything is known of that, as many as there are threads.
    """
    if not threads:
        yield from map(make, items)
        return
    rest, largest = iter(items), 1
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        waiting = deque(pool.submit(make, item) for item in islice(rest, threads))
        try:
            while waiting:
                made = waiting.popleft().result()
                largest = max(largest, getattr(made, "nbytes", 0))
                room = max(min(int(most / largest), MOST_WAITING), 1)
                waiting.extend(pool.submit(make, item) for item in islice(rest, max(room - len(waiting), 0)))
                yield made
        finally:
            for one in waiting:
                one.cancel()
