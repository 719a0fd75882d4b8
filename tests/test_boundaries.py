"""Laws of the layout: who may import whom, and that the folder names do no harm."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("liit", "engine", "selectors", "jobs", "tune")


def imports(file: Path) -> set[str]:
    """Dotted names that a file imports, wherever in it but for the eyes of type checkers."""
    found = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def run(code: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def test_the_standard_library_is_itself_in_the_repo_root() -> None:
    assert not (ROOT / "selectors" / "__init__.py").exists(), "it would replace Python's own selectors module"
    assert run("import asyncio, selectors; print(selectors.DefaultSelector.__name__ != '')") == "True"


@pytest.mark.parametrize("room", ["jobs", "selectors", "engine", "tune", "tests"])
def test_no_file_is_named_like_a_module_of_the_standard_library(room: str) -> None:
    assert not {file.stem for file in (ROOT / room).rglob("*.py")} & set(sys.stdlib_module_names) - {"__init__"}


def test_imports_go_one_way() -> None:
    forbidden = {
        "engine": ("liit.jobs", "liit.tune", "ray.tune"),
        "selectors": ("liit.engine", "liit.jobs", "ray", "torch"),
    }
    for room, names in forbidden.items():
        for file in (ROOT / room).rglob("*.py"):
            bad = {name for name in imports(file) for other in names if name == other or name.startswith(other + ".")}
            assert not bad, f"{file.relative_to(ROOT)} imports {bad}"


def test_the_profiler_needs_neither_ray_nor_pydantic_nor_deepspeed() -> None:
    """Whatever transformers itself pulls in is its own affair; ours must not ask for more."""
    queue, seen = ["liit.engine.profiler"], set()
    while queue:
        module = queue.pop()
        file = ROOT / Path(*module.split(".")[1:]).with_suffix(".py")
        file = file if file.is_file() else ROOT / Path(*module.split(".")[1:]) / "__init__.py"
        if module in seen or not file.is_file():
            continue
        seen.add(module)
        names = {name for name in imports(file) if name.split(".")[0] in ("ray", "pydantic", "deepspeed")}
        assert not names, f"{module} imports {names}"
        queue += [name for name in {*imports(file), module.rpartition(".")[0]} if name.startswith("liit.")]
    assert {"liit.engine.readers", "liit.engine.readers.images"} <= seen


def test_every_package_is_listed_and_there() -> None:
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {file.parent.relative_to(ROOT) for room in ROOMS for file in (ROOT / room).rglob("*.py")}
    expected = {"liit", *(f"liit.{'.'.join(folder.parts)}" for folder in folders if folder.parts[0] != "liit")}
    assert listed == expected


def test_files_and_functions_stay_small() -> None:
    for room in ROOMS:
        for file in (ROOT / room).rglob("*.py"):
            source = file.read_text(encoding="utf-8")
            assert source.count("\n") <= 285, f"{file.relative_to(ROOT)} holds more than one idea"
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, ast.FunctionDef):
                    length = (node.end_lineno or 0) - node.lineno
                    assert length <= 60, f"{file.relative_to(ROOT)}:{node.name} is {length} lines long"


def test_a_wheel_works_away_from_the_checkout(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("liit-*.whl"))
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    names = zipfile.ZipFile(wheel).namelist()
    for needed in (
        "liit/selectors/catalog.py",
        "liit/jobs/configs/digits.yaml",
        "liit/engine/page.html.j2",
        "liit/tune/studies/k.yaml",
        "liit/engine/digits/base/model.safetensors",
    ):
        assert needed in names
    assert not [name for name in names if name.startswith(("tests/", "selectors/", "engine/"))]
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import liit.selectors.catalog as c; print(c.__file__)"
    command = [sys.executable, "-W", "ignore", "-I", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(tmp_path / "site"))
