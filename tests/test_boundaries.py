"""Laws of the layout: who may import whom, and that the folder names do no harm."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("liit", "engine", "selectors", "jobs", "tune")


def imports(file: Path, for_types: bool = False) -> set[str]:
    """Dotted names that a file imports, wherever in it; for_types: those for the eyes of type checkers too."""
    found = set()
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not for_types:
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


ENGINE = (
    "settings",
    "run",
    "fleet",
    "models",
    "answers",
    "data",
    "scoring",
    "choosing",
    "holding",
    "training",
    "evaluation",
    "pages",
    "lasting",
    "handing",
)
ORDER = ("selectors", *ENGINE, "spine", "comparison", "health", "jobs", "tune", "liit")
"""Each may import from those before it, and from itself."""


def place(file: Path, root: Path) -> str:
    """The room of a file of the tree."""
    top, *inside = file.relative_to(root).parts
    if top != "engine":
        return top
    return inside[0] if len(inside) > 1 else "spine"


def graph(root: Path) -> dict[Path, set[Path]]:
    """Which files of the tree each of them imports, for the eyes of type checkers too."""
    files = [file for room in ROOMS for file in (root / room).rglob("*.py")]
    names = {".".join(("liit", *file.relative_to(root).with_suffix("").parts)): file for file in files}
    return {file: {names[name] for name in imports(file, for_types=True) if name in names} - {file} for file in files}


def upwards(root: Path) -> list[str]:
    """Imports from a room that comes later, in words."""
    found = [(file, other) for file, others in graph(root).items() for other in others]
    wrong = [(a, b) for a, b in found if ORDER.index(place(b, root)) > ORDER.index(place(a, root))]
    return sorted(f"{a.relative_to(root)} imports {b.relative_to(root)}" for a, b in wrong)


def circles(root: Path) -> list[str]:
    """Files that import each other, however far around."""
    edges, found = graph(root), []
    for start in edges:
        seen: set[Path] = {start}
        queue: list[tuple[Path, tuple[Path, ...]]] = [(start, (start,))]
        while queue:
            file, way = queue.pop()
            for other in edges[file]:
                if other == start:
                    found.append(" → ".join(str(step.relative_to(root)) for step in (*way, start)))
                elif other not in seen:
                    seen.add(other)
                    queue.append((other, (*way, other)))
    return sorted(found)


def test_imports_go_one_way() -> None:
    assert upwards(ROOT) == []
    for room, names in {"engine": ("ray.tune",), "selectors": ("ray", "torch")}.items():
        for file in (ROOT / room).rglob("*.py"):
            bad = {name for name in imports(file) for other in names if name == other or name.startswith(other + ".")}
            assert not bad, f"{file.relative_to(ROOT)} imports {bad}"


def test_no_files_import_each_other() -> None:
    assert circles(ROOT) == []


def test_an_import_upwards_and_a_circle_are_found(tmp_path: Path) -> None:
    planted = {
        "engine/run/store.py": "from liit.engine.scoring import scores",
        "engine/scoring/scores.py": "if TYPE_CHECKING:\n    from liit.engine.scoring.passes import Pass",
        "engine/scoring/passes.py": "def late():\n    from liit.engine.scoring.scores import nll",
    }
    for name, text in planted.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert upwards(tmp_path) == ["engine/run/store.py imports engine/scoring/scores.py"]
    assert "engine/scoring/passes.py → engine/scoring/scores.py → engine/scoring/passes.py" in circles(tmp_path)


def test_every_room_says_what_it_is_for_and_nothing_else() -> None:
    rooms = {file.parent for file in (ROOT / "engine").rglob("*.py")}
    for room in rooms:
        text = (room / "__init__.py").read_text(encoding="utf-8")
        assert ast.get_docstring(ast.parse(text)), f"{room}/__init__.py says what the room is for"
        assert len(ast.parse(text).body) == 1, f"{room}/__init__.py is a docstring alone"
        if room.name != "digits":
            assert len(list(room.glob("*.py"))) <= 15, f"{room} is more than a room"
    assert {path.name for path in (ROOT / "engine").iterdir() if path.is_dir() and path.name != "__pycache__"} == {
        *ENGINE,
        "comparison",
        "health",
    }


@pytest.mark.parametrize("start", ["scoring.profiler", "training.step"])
def test_profiler_and_training_step_need_neither_ray_nor_pydantic_nor_deepspeed(start: str) -> None:
    """Whatever transformers itself pulls in is its own affair; ours must not ask for more."""
    queue, seen = [f"liit.engine.{start}"], set()
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
    assert {"liit.engine.data.readers", "liit.engine.data.readers.images"} <= seen


def test_a_submitted_checkout_leaves_no_file_of_the_code_behind() -> None:
    """`data/` alone would leave out `engine/data/` too."""
    for pattern in yaml.safe_load((ROOT / "runtime_env.yaml").read_text())["excludes"]:
        assert pattern.startswith("/") or pattern == "*.egg-info/", f"{pattern} is left out of every folder"
        assert pattern.strip("/") not in ROOMS


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
        "liit/engine/pages/page.html.j2",
        "liit/tune/studies/k.yaml",
        "liit/engine/data/digits/base/model.safetensors",
    ):
        assert needed in names
    assert not [name for name in names if name.startswith(("tests/", "selectors/", "engine/"))]
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import liit.selectors.catalog as c; print(c.__file__)"
    command = [sys.executable, "-W", "ignore", "-I", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(str(tmp_path / "site"))
