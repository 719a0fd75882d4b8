"""What lies on object storage is read as the same files are from a disk, and what is wrong there is one line that names it."""

import gzip
import http.client
import json
import re
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from liit.engine.data.image_hashes import image_hash
from liit.engine.data.readers.checks import content
from liit.engine.data.readers.formats import count, files_of
from liit.engine.data.readers.images import open_image, resolve
from liit.engine.data.stream import contents_of
from liit.engine.fleet.look import look
from liit.engine.forecast import about
from liit.engine.health.at_hand import paths_of_data
from liit.engine.run.storage.places import place, size_of
from liit.engine.run.storage.remote import Remote, RemoteError
from liit.engine.settings.config import Config
from tests.engine.data.object_storage import KEYS, reach, s3, s3_server  # noqa: F401
from tests.engine.data.readers.written import SEE, TELL, read, release, row, write_parquet
from tests.ports import free_port

URL = "s3://bucket/stream"
FILES = ("rows.json", "rows.jsonl", "rows.jsonl.gz", "rows.parquet", "stored.parquet", "shard.tar", "shard.tar.gz")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One release in many containers, larger than a block that is fetched at a time, with a bad row in it."""
    folder = tmp_path_factory.mktemp("remote") / "stream"
    (folder / "deep").mkdir(parents=True)
    noise = np.random.default_rng(0)
    names = [f"{'deep/' if number % 2 else ''}{number} ü.png" for number in range(24)]
    for name in names:
        Image.fromarray(noise.integers(0, 255, (300, 300, 3), dtype=np.uint8)).save(folder / name)
    rows = [row(number, SEE, TELL, image=name) for number, name in enumerate(names)]
    lines = "".join(f"{json.dumps(one)}\n" for one in [*rows, row(99, SEE, TELL, image="../outside.png")])
    (folder / "rows.json").write_text(json.dumps(rows))
    (folder / "rows.jsonl").write_text(lines)
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    write_parquet(folder, rows, "rows.parquet")
    data = [{"bytes": (folder / name).read_bytes(), "path": name} for name in names]
    write_parquet(folder, [{**one, "image": of} for one, of in zip(rows, data, strict=True)], "stored.parquet")
    for name in ("shard.tar", "shard.tar.gz"):
        with tarfile.open(folder / name, "w:gz" if name.endswith("gz") else "w") as tar:
            for number, picture in enumerate(names):
                told = json.dumps(row(number, SEE, TELL)).encode()
                for member, of in ((f"{number}.json", told), (f"{number}.png", (folder / picture).read_bytes())):
                    info = tarfile.TarInfo(member)
                    info.size = len(of)
                    tar.addfile(info, BytesIO(of))
    return folder


@pytest.fixture(scope="module")
def stored(here: Path, s3_server: str) -> str:  # noqa: F811
    """The same on S3, put there once."""
    with pytest.MonkeyPatch.context() as environment:
        system = reach(s3_server, environment)
        system.mkdir("stored")
        put(system, here, "stored")
    return "s3://stored/stream"


@pytest.fixture
def there(stored: str, s3: Any) -> str:  # noqa: F811
    """The same on S3, as it is found by the environment."""
    return stored


@pytest.fixture
def mine(stored: str, s3: Any) -> str:  # noqa: F811
    """Some of it in a bucket of the test's own, to be changed."""
    for name in ("rows.json", "rows.jsonl", "stored.parquet", "0 ü.png"):
        s3.copy(f"{stored}/{name}", f"{URL}/{name}")
    return URL


def put(s3: Any, folder: Path, bucket: str = "bucket") -> None:  # noqa: F811
    for file in folder.rglob("*"):
        if file.is_file():
            s3.put_file(str(file), f"{bucket}/{folder.name}/{file.relative_to(folder)}")


def same(here: Path, url: str, **settings: Any) -> int:
    """Reads both, and returns how many samples there are."""
    local, bad, reader = read(here, **settings)
    remote, bad_there, reader_there = read(url, **settings)
    assert [content(one, reader.folder) for one in local] == [content(one, reader_there.folder) for one in remote]
    assert [one["id"] for one in local] == [one["id"] for one in remote]
    moved = [
        [{**i, "path": i["path"] and i["path"].replace(reader.folder, reader_there.folder)} for i in one["images"]]
        for one in local
    ]
    assert moved == [one["images"] for one in remote]
    assert [one.id for one in bad] == [one.id for one in bad_there]
    assert vars(reader.counts) == vars(reader_there.counts)
    for one, other in zip(local, remote, strict=True):
        for image, same_image in zip(one["images"], other["images"], strict=True):
            assert open_image(image).tobytes() == open_image(same_image).tobytes()
            assert image_hash(image) == image_hash(same_image)
    return len(local)


@pytest.mark.parametrize("name", FILES)
def test_a_release_on_s3_is_read_as_the_same_files_on_disk(name: str, here: Path, there: str) -> None:
    assert same(here / name, f"{there}/{name}") == 24
    local, remote = release(here / name), release(f"{there}/{name}")
    assert count(local) == count(remote)
    assert about(local) == about(remote)
    assert size_of(place(remote.path)) == (here / name).stat().st_size


def test_so_it_is_on_anything_that_fsspec_reaches(here: Path) -> None:
    import fsspec

    fsspec.filesystem("memory").put(str(here), "/stream", recursive=True)
    try:
        assert same(here / "rows.jsonl", "memory://stream/rows.jsonl") == 24
    finally:
        fsspec.filesystem("memory").rm("/stream", recursive=True)


@pytest.mark.parametrize(
    ("path", "settings"),
    [
        ("", {"format": "llava"}),
        ("/a-b", {"recursive": True}),
        ("", {"recursive": True, "split": "test"}),
        ("/", {"recursive": True, "split": "val"}),
        ("/*.json", {}),
        ("/**/?.json", {}),
        ("/*/a.json", {}),
        ("/train-0000?-of-00002.json", {}),
    ],
)
def test_the_files_of_a_folder_or_pattern_are_the_same(path: str, settings: Any, tmp_path: Path, s3: Any) -> None:  # noqa: F811
    folder = tmp_path / "stream"
    names = (
        "train-00000-of-00002.json",
        "train-00001-of-00002.json",
        "test.json",
        "a/a.json",
        "a-b/a.json",
        "a/val/c.json",
    )
    for name in (*names, ".hidden.json", "a/.cache/d.json", "dataset_info.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("[]")
    put(s3, folder)
    s3.touch("bucket/stream/a/")  # as consoles of S3 make folders
    local = files_of(release(f"{folder}{path}", **settings))
    remote = files_of(release(f"{URL}{path}", **settings))
    assert local
    assert [str(file).removeprefix(f"{folder}/") for file in local] == [
        str(file).removeprefix(f"{URL}/") for file in remote
    ]


def test_what_a_folder_holds_below_is_named(tmp_path: Path, s3: Any) -> None:  # noqa: F811
    s3.pipe_file("bucket/stream/deep/a.json", b"[]")
    with pytest.raises(
        ValueError, match=r"release mine: s3://bucket/stream holds no such file itself; its subfolders deep may"
    ):
        files_of(release(URL))


@pytest.mark.parametrize(
    "given", ["../a.png", "deep/../../a.png", "/etc/passwd", "..", "s3://other/a.png", "s3://bucket/stream/../a.png"]
)
def test_an_image_path_does_not_leave_its_folder(given: str) -> None:
    with pytest.raises(ValueError, match=r"image path leaves its folder|image is a URL"):
        resolve(URL, given)
    assert resolve(URL, "deep/./x/../a.png") == resolve(f"{URL}/", f"{URL}/deep/a.png") == f"{URL}/deep/a.png"


def test_annotations_and_images_may_lie_on_different_storage(here: Path, there: str) -> None:
    (sample, *_), _, _ = read(here / "rows.jsonl", images=there)
    assert sample["images"] == [{"path": f"{there}/0 ü.png", "bytes": None}]
    (sample, *_), _, _ = read(f"{there}/rows.jsonl", images=str(here))
    assert sample["images"] == [{"path": str(here / "0 ü.png"), "bytes": None}]


def test_what_has_vanished_is_one_line_that_names_it(mine: str, s3: Any) -> None:  # noqa: F811
    (sample, *_), _, _ = read(f"{mine}/rows.jsonl")
    s3.rm_file("bucket/stream/0 ü.png")
    with pytest.raises(ValueError, match=r"missing image file: 's3://bucket/stream/0 ü.png': does not exist"):
        open_image(sample["images"][0])
    s3.pipe_file("bucket/stream/0 ü.png", b"")
    with pytest.raises(ValueError, match=r"empty image file: 's3://bucket/stream/0 ü.png'"):
        open_image(sample["images"][0])
    for url in (f"{mine}/gone.json", "s3://no-bucket/a.json", f"{mine}/gone/*.json"):
        with pytest.raises(ValueError, match=rf"^release mine: .*{re.escape(url)}[^\n]*$"):
            files_of(release(url))
    with pytest.raises(ValueError, match=r"^s3://no-bucket/a: does not exist \(The specified bucket does not exist\)$"):
        Remote("s3://no-bucket/a").read_bytes()
    (file,) = files_of(release(f"{mine}/rows.json"))
    s3.rm_file("bucket/stream/rows.json")
    with pytest.raises(RemoteError, match=r"s3://bucket/stream/rows.json: does not exist"):
        file.open()


def test_a_file_that_is_another_now_is_seen_without_reading_it(mine: str, s3: Any) -> None:  # noqa: F811
    one = release(f"{mine}/rows.jsonl")
    before = contents_of(one)
    assert before == contents_of(one)
    assert list(before) == [f"{mine}/rows.jsonl"]
    s3.pipe_file("bucket/stream/rows.jsonl", s3.cat_file("bucket/stream/rows.jsonl").replace(b"seven", b"eight"))
    assert contents_of(one) != before


def test_a_file_that_changes_while_it_is_read_is_not_read_on(mine: str, s3: Any) -> None:  # noqa: F811
    with Remote(f"{mine}/stored.parquet").open() as stream:
        stream.read(10)
        s3.pipe_file("bucket/stream/stored.parquet", b"x" * size_of(place(f"{mine}/stored.parquet")))
        with pytest.raises(RemoteError, match=r"s3://bucket/stream/stored.parquet: "):
            stream.read()


def test_a_missing_package_is_named_with_what_installs_it() -> None:
    with pytest.raises(ValueError, match=r"^gs://bucket/a: a package for gs:// is missing: pip install gcsfs$"):
        Remote("gs://bucket/a").read_bytes()


@pytest.fixture
def guarded(s3_server: str, there: str) -> Iterator[str]:  # noqa: F811
    """The server while it asks everybody who they are."""

    def ask(after: bytes) -> None:
        urlopen(
            Request(f"{s3_server}/moto-api/reset-auth", after, {"Content-Type": "text/plain"}, method="POST")
        ).close()

    ask(b"0")
    yield s3_server
    ask(b"inf")


def test_wrong_credentials_and_none_are_one_line_that_names_the_place(
    guarded: str, there: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    s3fs = type(reach(guarded, monkeypatch))
    for name in ("rows.jsonl", "rows.parquet", "shard.tar", "*.json", ""):
        with pytest.raises(
            ValueError, match=r"s3://stored/stream[^\n]*: access is refused \([^\n]*\): credentials come"
        ):
            files_of(release(f"{there}/{name}"))
    with pytest.raises(
        ValueError, match=r"^missing image file: 's3://stored/stream/0 ü.png': access is refused [^\n]*$"
    ):
        open_image({"path": f"{there}/0 ü.png", "bytes": None})
    for name in KEYS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    s3fs.clear_instance_cache()
    with pytest.raises(ValueError, match=r"release mine: s3://stored/stream/rows.json: [^\n]*credentials"):
        files_of(release(f"{there}/rows.json"))


@pytest.fixture
def faltering(s3_server: str) -> Iterator[str]:  # noqa: F811
    """The server behind one that is overloaded at every third request."""
    seen = iter(range(10**9))

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            if next(seen) % 3 == 2:
                body = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
                self.send_response(503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else body)
                return
            inner = http.client.HTTPConnection(urlsplit(s3_server).netloc)
            inner.request(self.command, self.path, headers=dict(self.headers))
            answer = inner.getresponse()
            body = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "connection", "server", "date"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            inner.close()

        do_GET = do_HEAD = _answer

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", free_port()), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["stored.parquet", "shard.tar"])
def test_what_passes_is_tried_again(
    name: str, here: Path, there: str, faltering: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reach(faltering, monkeypatch)
    assert same(here / name, f"{there}/{name}") == 24
    for picture in ("0 ü.png", "2 ü.png", "4 ü.png"):
        assert place(f"{there}/{picture}").read_bytes() == (here / picture).read_bytes()


def test_the_doctor_looks_from_every_node_at_what_is_on_object_storage(there: str, tmp_path: Path) -> None:
    releases = [
        {"name": "one", "path": f"{there}/rows.jsonl"},
        {"name": "two", "path": f"{there}/shard.tar", "images": there},
    ]
    config = Config.model_validate({"output": str(tmp_path), "stream": {"kind": "files", "releases": releases}})
    labels = paths_of_data(config)
    assert labels[f"{there}/rows.jsonl"] == "one"
    assert labels[there] == "images of two"
    seen = look([], [*labels, f"{there}/gone.png"], None)["paths"]
    assert seen[there] == -1
    assert seen[f"{there}/rows.jsonl"] > 0
    assert "FileNotFoundError" in seen[f"{there}/gone.png"]
