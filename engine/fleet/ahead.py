"""What is needed soon is made by threads beforehand, in its order, while memory holds no more than is allowed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

MOST_WAITING = 64
"""Where each is small."""


def made_ahead(make: Callable[[Any], Any], items: Iterable[Any], threads: int, most: float) -> Iterator[Any]:
    """`make` of every item, in order; once the first is asked for, threads go on making the next ones.

    threads: 0 makes each when it is asked for. most: bytes of what is made and not yet taken, about, by the mean `nbytes` so
    far; before anything is known of that, as many as there are threads; one always.
    """
    if not threads:
        yield from map(make, items)
        return
    rest, mean, seen = iter(items), 0.0, 0
    with ThreadPoolExecutor(threads, thread_name_prefix="ahead") as pool:
        waiting = deque(pool.submit(make, item) for item in islice(rest, threads))
        try:
            while waiting:
                made = waiting.popleft().result()
                seen += 1
                mean += (getattr(made, "nbytes", 0) - mean) / seen
                room = int(min(most / max(mean, 1), MOST_WAITING))
                waiting.extend(pool.submit(make, item) for item in islice(rest, max(room - len(waiting), not waiting)))
                yield made
        finally:
            for one in waiting:
                one.cancel()
