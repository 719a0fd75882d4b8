"""Vectors by name, each opened when it is first asked for: a strategy that looks at none of a kind opens none."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray


class Opened(Mapping[str, NDArray[Any]]):
    """What functions give by name; each is called once, at most."""

    def __init__(self, opening: Mapping[str, Callable[[], NDArray[Any]]]) -> None:
        self._opening, self._there = dict(opening), dict[str, NDArray[Any]]()

    def __getitem__(self, name: str) -> NDArray[Any]:
        if name not in self._there:
            self._there[name] = self._opening[name]()
        return self._there[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._opening)

    def __len__(self) -> int:
        return len(self._opening)
