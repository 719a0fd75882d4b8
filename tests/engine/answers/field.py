"""The field's own evaluators, where they are installed: lmms-eval, lm-eval and pycocoevalcap (`pip install --no-deps`)."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def task(module: str, *needs: str) -> Any:
    """A module of an installed evaluator; the test is skipped, with the reason, where it or what it `needs` is not installed.

    The packages around it are not run: their `__init__` ask for every model that they can evaluate.
    """
    package = module.partition(".")[0]
    root = installed(package)
    for name in needs:
        installed(name)
    with _without_init(package, root):
        return importlib.import_module(module)


def installed(package: str) -> Path:
    """The folder of an installed package; the test is skipped, with the reason, where it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"{package} is not installed: pip install --no-deps {package.replace('_', '-')}")
    return Path(next(iter(spec.submodule_search_locations)))


@contextmanager
def _without_init(package: str, root: Path) -> Iterator[None]:
    shells = {package: root, f"{package}.tasks": root / "tasks"}
    before = {name: sys.modules.get(name) for name in shells}
    for name, folder in shells.items():
        shell = ModuleType(name)
        shell.__path__ = [str(folder)]
        sys.modules[name] = shell
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
