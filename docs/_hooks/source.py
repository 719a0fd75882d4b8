"""What the site shows of the source: an import tree for the reference, and a page for every file that a page links to.

Pages link to files by their path in the repository, as they must be read there too. On the site such a link leads to a
page that holds the file.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "build" / "reference"
"""`liit` as it is imported: its own files, and the rooms beside them."""
SELECTORS = "Arrays in, choices out: what the strategies do, without Ray, torch, paths or configuration."
"""What that room is for; its folder has no `__init__.py` that could say so, as it would replace Python's own `selectors`."""
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".toml": "toml"}
LINK = re.compile(r"(?<=\]\()(?P<path>[^()#\s:]+)(?P<anchor>#[^()\s]*)?(?=\))")


def on_startup(command: str, dirty: bool) -> None:
    """Lay out `liit` for mkdocstrings, which reads files and imports nothing."""
    package = TREE / "liit"
    shutil.rmtree(TREE, ignore_errors=True)
    for room in ("liit", "selectors"):
        shutil.copytree(ROOT / room, TREE / room, ignore=shutil.ignore_patterns("__pycache__"))
    (TREE / "selectors").rename(package / "selectors")
    (package / "selectors" / "__init__.py").write_text(f'"""{SELECTORS}"""\n', encoding="utf-8")  # in the copy alone
    for room in ("engine", "jobs", "tune"):
        (package / room).symlink_to(ROOT / room)


def on_files(files: Any, config: Any) -> Any:
    """Add a page for every file outside of `docs/` that a page links to."""
    from mkdocs.structure.files import File

    linked = {file for page in files.documentation_pages() for file in sources(page.src_uri, page.content_string)}
    for file in sorted(linked):
        files.append(File.generated(config, page_of(file), content=shown(file)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links to source files into links to their pages."""
    here = Path(page.file.src_uri).parent

    def turned(match: re.Match[str]) -> str:
        file = source(page.file.src_uri, match["path"])
        return match[0] if file is None else "../" * len(here.parts) + page_of(file)

    return "".join(part if fenced else LINK.sub(turned, part) for fenced, part in parts(markdown))


def sources(page: str, markdown: str) -> Iterator[Path]:
    """The files outside of `docs/` that a page links to, relative to the repository."""
    for fenced, part in parts(markdown):
        for match in () if fenced else LINK.finditer(part):
            if (file := source(page, match["path"])) is not None:
                yield file


def source(page: str, link: str) -> Path | None:
    """The file that a link of a page leads to; None where it stays in `docs/`, or leads nowhere, which MkDocs then says."""
    file = (ROOT / "docs" / page).parent.joinpath(link).resolve()
    outside = file.is_relative_to(ROOT) and not file.is_relative_to(ROOT / "docs")
    return file.relative_to(ROOT) if outside and file.is_file() else None


def page_of(file: Path) -> str:
    return f"source/{file.as_posix()}.md"


def shown(file: Path) -> str:
    language = LANGUAGES.get(file.suffix, "text")
    text = (ROOT / file).read_text(encoding="utf-8")
    return f"---\nsearch: {{exclude: true}}\n---\n# {file.as_posix()}\n\n``````{language}\n{text}``````\n"


def parts(markdown: str) -> Iterator[tuple[bool, str]]:
    """A page's text in pieces: those inside of fences, where nothing is a link, and those outside."""
    fence, piece = "", ""
    for line in markdown.splitlines(keepends=True):
        mark = re.match(r"\s*(`{3,}|~{3,})", line)
        if not fence and mark:
            yield False, piece
            fence, piece = mark[1], line
        elif fence and mark and line.strip() == fence:
            yield True, piece + line
            fence, piece = "", ""
        else:
            piece += line
    yield bool(fence), piece
