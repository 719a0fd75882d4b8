"""The laws of the room itself: what it may import, and the file it must never have."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOM = Path(__file__).parents[2] / "selectors"
ALLOWED = {"numpy", "scipy", "sklearn", "threadpoolctl", "liit"}
FORBIDDEN = {"os", "pathlib", "io", "shutil", "tempfile", "time", "datetime", "random", "pickle", "logging"}


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} imports relatively"
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("file", sorted(ROOM.glob("*.py")), ids=lambda file: file.name)
def test_selectors_know_arrays_and_each_other_only(file: Path) -> None:
    names = imported(file)
    assert {name.split(".")[0] for name in names} <= ALLOWED | set(sys.stdlib_module_names) - FORBIDDEN
    assert all(name.startswith("liit.selectors.") for name in names if name.startswith("liit"))
    assert file.stem not in sys.stdlib_module_names


def test_the_room_has_no_init_which_would_replace_pythons_own_module() -> None:
    assert not (ROOM / "__init__.py").exists()
    told = [sys.executable, "-c", "import asyncio, selectors; print(selectors.DefaultSelector.__name__)"]
    assert "Selector" in subprocess.run(told, cwd=ROOM.parent, check=True, capture_output=True, text=True).stdout
