"""What may be on object storage, what may not, and that no configuration holds a secret."""

from pathlib import Path
from typing import Any

import pytest

from liit.engine.settings.config import Config, ConfigError, read
from liit.engine.settings.remote import scheme
from liit.engine.settings.settling import lasting, settle


def with_release(**settings: Any) -> list[str]:
    return [f"stream={{kind: files, releases: [{{name: a, {', '.join(f'{k}: {v!r}' for k, v in settings.items())}}}]}}"]


def test_annotations_and_images_may_be_remote_and_stay_as_they_are() -> None:
    config = settle(with_release(path="s3://bucket/a b/*.json", images="gs://other/pictures"), "/tmp/run")
    assert config.stream.kind == "files"
    assert config.stream.releases[0].path == "s3://bucket/a b/*.json"
    assert config.stream.releases[0].images == "gs://other/pictures"
    assert Config.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    "override",
    [
        "output=s3://bucket/run",
        "model.path=s3://bucket/model",
        "model.adapter=gs://bucket/adapter",
        "strategy.run=s3://bucket/run",
        "tasks.image_encoder=s3://bucket/clip",
        "scoring.reference=s3://bucket/model",
    ],
)
def test_models_and_run_folders_are_on_a_file_system(override: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(ConfigError, match=rf"^{key}: [^\n]* is on object storage, and this must be on a file system"):
        read(None, [override])


def test_what_other_commands_write_stays_on_a_file_system() -> None:
    with pytest.raises(ConfigError, match="is on object storage, and this must be a folder"):
        lasting(Path("s3://bucket/card"))


@pytest.mark.parametrize("key", ["path", "images"])
def test_a_url_with_a_password_is_refused_without_saying_it(key: str) -> None:
    told = {"path": "a.json", key: "s3://somebody:very-secret@bucket/a"}
    with pytest.raises(ConfigError, match="come from the environment alone") as caught:
        read(None, with_release(**told))
    assert "very-secret" not in str(caught.value)
    assert "s3://***:***@bucket/a" in str(caught.value)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://example.org/a.json", "a web server lists no folders"),
        ("file:///data/a.json", "write the path alone"),
        ("s3://", "names no bucket"),
    ],
)
def test_what_is_no_storage_is_refused_with_what_to_do(url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read(None, with_release(path=url))


def test_a_place_is_told_by_its_beginning_alone() -> None:
    assert scheme("s3://a@b/c") == "s3"
    assert [scheme(one) for one in ("/data/a.json", "C:/x", "hf://datasets/a/b", "a/s3://b", "llava-hf/llava")] == [
        None
    ] * 5
