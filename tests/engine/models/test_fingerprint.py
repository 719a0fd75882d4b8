"""What a model is: every byte of it, told quickly."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from liit.engine.models.fingerprint import fingerprint


@pytest.fixture
def folder(tiny_llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


def aged(file: Path, seconds: float = 100) -> None:
    """As if last changed so long ago."""
    now = file.stat().st_mtime - seconds
    os.utime(file, (now, now))


@pytest.mark.parametrize("place", [-1, -(1 << 12), 1 << 14])
def test_any_byte_of_the_weights_makes_another_model(folder: Path, place: int) -> None:
    before, weights = fingerprint(str(folder)), folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[place] ^= 1
    weights.write_bytes(content)
    assert fingerprint(str(folder)) != before
    content[place] ^= 1
    weights.write_bytes(content)
    assert fingerprint(str(folder)) == before


def test_where_a_model_lies_and_what_else_lies_there_does_not_matter(folder: Path, tmp_path: Path) -> None:
    before = fingerprint(str(folder))
    (folder / "README.md").write_text("about")
    (folder / "optimizer.pt").write_bytes(b"state")
    assert fingerprint(str(shutil.copytree(folder, tmp_path / "elsewhere"))) == before


def test_weights_are_read_once_and_again_when_they_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in folder.iterdir():
        aged(file)
    before = fingerprint(str(folder))
    read, hashed = [], hashlib.file_digest

    def counted(stream: BinaryIO, kind: str) -> Any:
        read.append(Path(stream.name).name)
        return hashed(stream, kind)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", counted)
    assert fingerprint(str(folder)) == before
    assert read == []
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    aged(weights, 50)
    assert fingerprint(str(folder)) != before
    assert read == ["model.safetensors"]


def test_a_cache_that_is_torn_or_cannot_be_written_costs_time_alone(folder: Path, tmp_path: Path) -> None:
    before = fingerprint(str(folder))
    cache = tmp_path / "cache" / "liit"
    shutil.rmtree(cache, ignore_errors=True)
    cache.parent.mkdir(exist_ok=True)
    cache.write_text("a file where the folder should be")
    assert fingerprint(str(folder)) == before
    cache.unlink()
    cache.mkdir()
    (cache / "hashes.json").write_text("{")
    assert fingerprint(str(folder)) == before


def test_a_hub_id_stands_for_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read from the hub's own cache, whose folders are named by commits."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    unknown = fingerprint("some/model")
    marks = []
    for commit in ("a" * 40, "b" * 40):
        snapshot = tmp_path / "models--some--model" / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
        refs = tmp_path / "models--some--model" / "refs"
        refs.mkdir(exist_ok=True)
        (refs / "main").write_text(commit)
        marks.append(fingerprint("some/model"))
    assert len({unknown, *marks}) == 3
    assert fingerprint("some/model", "a" * 40) != fingerprint("some/model", "b" * 40)
