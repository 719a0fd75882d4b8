"""The documentation says what is so: links lead somewhere, commands exist and run, the site holds every page."""

import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if not page.relative_to(DOCS).as_posix().startswith("_")]
CODE = re.compile(
    r"^(?P<fence>```+)(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<code>.*?)^(?P=fence)$", re.M | re.S
)
LINK = re.compile(r"\]\((?P<to>[^()\s]+)\)")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def part_of_the_site(name: str) -> ModuleType:
    """A file of `docs/`, which is no package."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, DOCS / name)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(page: Path) -> str:
    """A page's text, with the tables that the site puts into it."""
    configuration = part_of_the_site("_hooks/configuration.py")
    text = page.read_text(encoding="utf-8")
    return (
        text.replace(configuration.MARK, configuration.tables(configuration.schema()))
        if configuration.MARK in text
        else text
    )


def anchors(page: Path) -> set[str]:
    """Of every heading as GitHub makes them, and those that a heading gives itself."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", CODE.sub("", read(page)), re.M):
        own = re.search(r"\{ #([\w-]+) \}$", heading)
        slug = own[1] if own else re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(slug if slug not in found else f"{slug}-{found.count(slug)}")
    return set(found)


@pytest.mark.parametrize("page", [README, *PAGES], ids=named)
def test_every_link_leads_somewhere(page: Path) -> None:
    for match in LINK.finditer(re.sub(r"`[^`]*`", "", CODE.sub("", page.read_text(encoding="utf-8")))):
        target = match["to"]
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), f"{named(page)}: {target} is no file"
        assert file.is_relative_to(ROOT), f"{named(page)}: {target} is outside of the repository"
        assert not anchor or anchor in anchors(file), f"{named(page)}: {target} names no heading of {named(file)}"


def test_the_readme_is_short_with_one_picture_and_one_table() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 130
    assert max(len(line) for line in text.splitlines()) <= 120
    assert text.count("![") == 1
    assert len(re.findall(r"^\|[-|: ]+\|$", text, re.M)) == 1


def test_the_picture_is_what_its_source_draws() -> None:
    assert (DOCS / "loop.svg").read_text(encoding="utf-8") == part_of_the_site("_drawings/loop.py").drawing()


def test_a_sample_is_followed_through_ten_files_at_most_downwards_through_the_rooms() -> None:
    text = (DOCS / "guide" / "a-sample.md").read_text(encoding="utf-8")
    steps = re.findall(r"\[(?P<name>[\w/]+\.py)\]\(\.\./\.\./(?P<file>[\w/]+\.py)\)(?:, `(?P<function>[\w.]+)`)?", text)
    files = [ROOT / file for _, file, _ in steps]
    assert 1 < len(set(files)) == len(files) <= 10
    assert not set(re.findall(r"(?<![\w/.])[\w/]+\.py", text)) - {name for name, _, _ in steps}, (
        "a file that is not among them"
    )
    said = ast.get_docstring(ast.parse((ROOT / "engine" / "__init__.py").read_text(encoding="utf-8"))) or ""
    rooms = re.findall(r"\w+", said.partition("\n\n")[2])
    order = [rooms.index(file.relative_to(ROOT / "engine").parts[0]) for file in files]
    assert order == sorted(order), "one goes back up"
    for name, file, function in steps:
        assert name == file
        assert function in defined(ROOT / file), f"{file} defines no {function}"


def defined(file: Path) -> set[str]:
    """Functions and classes of a file, methods as `Class.method`."""
    found = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
            inside = node.body if isinstance(node, ast.ClassDef) else []
            found |= {f"{node.name}.{method.name}" for method in inside if isinstance(method, ast.FunctionDef)}
    return found


def examples() -> Iterator[tuple[str, ...]]:
    """The words of every `liit ...` in a block of commands, once."""
    said = {}
    for page in (README, *PAGES):
        for block in CODE.finditer(page.read_text(encoding="utf-8")):
            if block["language"] in ("sh", "bash"):
                for line in re.split(r"\n|&&", block["code"].replace("\\\n", "")):
                    words = shlex.split(line, comments=True)
                    if words[:1] == ["liit"]:
                        said[tuple(words[1:])] = named(page)
    assert said
    yield from sorted(said)


def runs(words: tuple[str, ...]) -> bool:
    """Whether an example starts nothing and is quick, so that it can be tried."""
    return (
        words[0] in ("plan", "status", "config", "check")
        or "--help" in words
        or words == ("run", "ours.yaml", "--dry-run")
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the examples are about: the data and configuration of the guide, as they stand there, and a run that has begun."""
    if not (ROOT / "liit" / "command.py").is_file():
        pytest.skip("liit/command.py is not there yet")
    here = tmp_path_factory.mktemp("examples")
    for block in CODE.finditer((DOCS / "guide" / "your-own-data.md").read_text(encoding="utf-8")):
        if block["title"]:
            (here / block["title"]).parent.mkdir(parents=True, exist_ok=True)
            (here / block["title"]).write_text(block["code"], encoding="utf-8")
            for image in re.findall(r"\w+\.jpg", block["code"]):
                (here / "data" / "images").mkdir(exist_ok=True)
                Image.new("RGB", (32, 32), "red" if image == "cat.jpg" else "blue").save(
                    here / "data" / "images" / image
                )
    (here / "team.yaml").write_text((here / "ours.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    from liit.engine.settings.config import Config

    (here / "runs" / "digits").mkdir(parents=True)
    settings = yaml.safe_dump(Config().model_dump(mode="json"))
    (here / "runs" / "digits" / "config.yaml").write_text(settings, encoding="utf-8")
    return here


def said_by(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = os.environ | {"PYTHONPATH": paths, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    command = [sys.executable, "-W", "ignore", "-m", "liit.command", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", sorted({words[0] for words in examples()} - {"--help"}))
def test_every_command_in_an_example_exists_with_the_options_it_is_given(folder: Path, name: str) -> None:
    done = said_by(folder, name, "--help")
    assert done.returncode == 0, f"liit {name}: {done.stdout}{done.stderr}"
    given = {word for words in examples() if words[0] == name for word in words if word.startswith("--")}
    assert given <= set(re.findall(r"--[\w-]+", done.stdout))


@pytest.mark.parametrize("words", [words for words in examples() if runs(words)], ids=" ".join)
def test_every_example_that_starts_nothing_runs(folder: Path, words: tuple[str, ...]) -> None:
    done = said_by(folder, *words)
    assert done.returncode == (3 if words[0] == "status" else 0), f"{done.stdout}{done.stderr}"
    assert done.stdout
    assert sorted(path.name for path in (folder / "runs").iterdir()) == ["digits"]


def pages_in(nav: Any) -> Iterator[str]:
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from pages_in(value) if isinstance(value, list) else [value]


def test_the_site_has_every_page_once() -> None:
    listed = list(pages_in(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def test_every_room_has_its_reference() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in (DOCS / "reference" / "rooms").glob("*.md"))
    rooms = {f"liit.engine.{path.parent.name}" for path in (ROOT / "engine").glob("*/__init__.py")}
    spine = {f"liit.engine.{path.stem}" for path in (ROOT / "engine").glob("*.py")} - {"liit.engine.__init__"}
    assert set(re.findall(r"^::: (\S+)$", text, re.M)) == rooms | spine | {
        "liit",
        "liit.selectors",
        "liit.jobs",
        "liit.tune",
    }


def test_the_configuration_page_has_every_key() -> None:
    from liit.engine.settings.config import Config

    said = read(DOCS / "reference" / "configuration.md")
    schema = Config.model_json_schema()
    for section in (schema, *schema["$defs"].values()):
        for key, value in section.get("properties", {}).items():
            rows = re.findall(rf"^\| `{key}` \|.*$", said, re.M)
            assert any(
                " ".join(str(value.get("description", "")).replace("|", "\\|").split()) in row for row in rows
            ), key


def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    for needed in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(needed, reason="needs the extra `docs`: pip install 'liit[docs]'")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = {page: page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.html")}
    elsewhere = re.compile(
        r"<(?:script|img|iframe)[^>]*src=\"?https?:[^>]*>|<link[^>]*rel=\"?stylesheet\"?[^>]*https?:[^>]*>"
    )
    assert not [(page, found) for page, text in pages.items() for found in elsewhere.findall(text)]
    assert "source/engine/lifelong.py.html" in pages[tmp_path / "site" / "guide" / "the-code.html"]
    assert "Teach the model the whole stream" in pages[tmp_path / "site" / "source" / "engine" / "lifelong.py.html"]
    assert "Teach the model the whole stream" in pages[tmp_path / "site" / "reference" / "rooms" / "spine.html"]
    assert 'id="training-lora"' in pages[tmp_path / "site" / "reference" / "configuration.html"]


def results_of_code() -> Iterator[str]:
    """What the names of results and of what lies beside them end with, wherever the engine says them; of folders, the name."""
    for file in sorted((ROOT / "engine").rglob("*.py")):
        for call in (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)):
            if not (isinstance(call.func, ast.Attribute) and call.func.attr in ("make", "_at", "queries")):
                continue
            beside = [word.value for word in call.keywords if word.arg == "beside"]
            told = [*call.args, *(name for names in beside if isinstance(names, ast.Tuple) for name in names.elts)]
            names = (name for name in told if isinstance(name, ast.JoinedStr | ast.Constant))
            yield from (ending(name) for name in names if not isinstance(getattr(name, "value", ""), bool))


def ending(name: ast.Constant | ast.JoinedStr) -> str:
    parts = name.values if isinstance(name, ast.JoinedStr) else [name]
    text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)
    return re.split(r"[/}]", text)[-1] or text.split("/")[-2]


def test_the_reference_of_the_run_folder_has_every_result() -> None:
    page = (DOCS / "reference" / "run-folder.md").read_text(encoding="utf-8")
    names = set(results_of_code())
    assert {"gate.json", "targets", ".queries.parquet", "images", "copies.parquet"} <= names
    assert sorted(name for name in names if f"{name}`" not in page and f"{name}/" not in page) == []
