"""Weights are missed by name, in a folder and in the hub's cache, and models that differ in a byte near the start differ."""

import json
import os
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest

from liit.engine.models.weights import INDEX, LIGHT, SINGLE, files_mark, light, missing_weights


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    folder = tmp_path / "sharded"
    folder.mkdir()
    names = {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"}
    (folder / INDEX).write_text(json.dumps({"weight_map": names}))
    (folder / "config.json").write_text("{}")
    for name in names.values():
        (folder / name).write_bytes(b"weights")
    return folder


def test_a_shard_that_the_index_names_and_the_folder_lacks_is_missed(sharded: Path) -> None:
    assert missing_weights(str(sharded)) == []
    (sharded / "two.safetensors").unlink()
    assert missing_weights(str(sharded)) == ["two.safetensors"]
    (sharded / INDEX).write_text("[]")
    with pytest.raises(ValueError, match="is damaged"):
        missing_weights(str(sharded))


def test_a_model_is_light_by_all_of_its_shards_and_never_where_it_is_not_here(sharded: Path, tmp_path: Path) -> None:
    assert light(str(sharded))
    for name in ("one.safetensors", "two.safetensors"):
        os.truncate(sharded / name, LIGHT * 2 // 3)
    assert not light(str(sharded))
    assert not light(str(tmp_path / "none"))


def test_a_model_of_one_file_and_a_shipped_one(tiny_llava: str, tmp_path: Path) -> None:
    assert missing_weights("digits-base") == []
    assert missing_weights(tiny_llava) == []
    assert missing_weights(str(tmp_path / "none")) == [SINGLE]


def test_a_hub_id_is_looked_for_in_the_cache(tiny_llava: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert missing_weights("some/model") == [SINGLE]
    snapshot = tmp_path / "models--some--model" / "snapshots" / "c0ffee"
    shutil.copytree(tiny_llava, snapshot)
    refs = tmp_path / "models--some--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text("c0ffee")
    assert missing_weights("some/model") == []
    assert missing_weights("some/model", "another") == [SINGLE]
    assert files_mark("some/model") == files_mark(tiny_llava)
    (snapshot / SINGLE).unlink()
    assert missing_weights("some/model") == [SINGLE]


def test_models_with_another_byte_are_told_apart(tiny_llava: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_llava, tmp_path / "copy"))
    assert files_mark(str(copy)) == files_mark(tiny_llava)
    weights = bytearray((copy / SINGLE).read_bytes())
    weights[-1] ^= 1
    (copy / SINGLE).write_bytes(weights)
    assert files_mark(str(copy)) != files_mark(tiny_llava)
