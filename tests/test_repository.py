"""What the repository says of itself: files that exist, one version and license, hooks and extras that are there."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import liit

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SAYING = [
    path
    for pattern in ("*.md", "docs/*.md", "docs/how-to/*.md", "engine/**/*.py", "tests/**/*.py", ".ci/*")
    for path in ROOT.glob(pattern)
]


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_to_files_and_the_guide_names_files_that_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = set(re.findall(r"\]\(([^)#]+)", text))
    if page == "CONTRIBUTING.md":
        named |= set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[A-Z]+\.md|pyproject\.toml)`", text))
    assert named
    assert not {name for name in named if "://" not in name and not (ROOT / name).exists()}


def test_citation_license_and_package_agree() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(cited["version"]) == liit.__version__
    assert cited["license"] == PROJECT["license"] == "Apache-2.0"
    assert [author["name"] for author in cited["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    papers = {each["value"].removeprefix("arXiv:") for ref in cited["references"] for each in ref["identifiers"]}
    assert papers == {"2410.10636", "2311.16206"}


def test_hooks_call_what_make_has() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert [repo["repo"] for repo in hooks] == ["local"], "tools are those of pyproject.toml"
    for hook in hooks[0]["hooks"]:
        make, target = hook["entry"].split()
        assert make == "make"
        assert target in targets


def test_every_extra_that_is_named_can_be_installed() -> None:
    extras = set(PROJECT["optional-dependencies"])
    found = 0
    for path in SAYING:
        for group in re.findall(r"liit\[([a-z,]+)\]", path.read_text(encoding="utf-8")):
            found += 1
            assert set(group.split(",")) <= extras, f"{path.relative_to(ROOT)}: liit[{group}]"
    assert found
