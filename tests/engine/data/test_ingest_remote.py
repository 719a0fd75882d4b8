"""A release on S3 enters the pool as the same release on a disk does, pictures opened by actors of Ray."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.engine.data.object_storage import s3, s3_server  # noqa: F401
from tests.engine.data.readers.written import SEE, TELL, png, row

ROOT = Path(__file__).resolve().parents[3]
INGEST = """
import sys
from pathlib import Path
import ray
from liit.engine.data.ingest import ingest
from liit.engine.run.store import Clock
from liit.engine.settings.config import Config
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
for told in sys.argv[1:]:
    config = Config.model_validate_json(told)
    out = Path(config.output)
    out.mkdir()
    clock = Clock(out / "note", {})
    ingest(config.stream.releases, 0, config, out / "release.parquet", out / "bad.parquet", "mine", clock, out)
"""


def configured(model: str, path: str, output: Path) -> str:
    config = {
        "output": str(output),
        "model": {"path": model, "max_length": 200},
        "stream": {"kind": "files", "releases": [{"name": "mine", "path": path}]},
        "resources": {"num_cpus": 2, "cpus_per_actor": 0.5},
        "max_bad_share": 0.5,
    }
    return json.dumps(config)


def test_a_release_on_s3_enters_the_pool_as_one_on_a_disk(tiny_llava: str, tmp_path: Path, s3: Any) -> None:  # noqa: F811
    here = tmp_path / "stream"
    here.mkdir()
    for number in range(6):
        (here / f"{number}.png").write_bytes(png(40 * number))
    (here / "torn.png").write_bytes(b"no picture")
    names = [*(f"{number}.png" for number in range(6)), "torn.png", "gone.png"]
    rows = [row(number, SEE, TELL, image=name) for number, name in enumerate(names)]
    (here / "rows.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in rows))
    for file in here.iterdir():
        s3.put_file(str(file), f"bucket/stream/{file.name}")
    configs = [
        configured(tiny_llava, f"{here}/rows.jsonl", tmp_path / "here"),
        configured(tiny_llava, "s3://bucket/stream/rows.jsonl", tmp_path / "there"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # by which Ray's workers find the storage, too
    done = subprocess.run([sys.executable, "-c", INGEST, *configs], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    local, remote = (pq.read_table(tmp_path / name / "release.parquet").to_pylist() for name in ("here", "there"))
    bad, bad_there = (pq.read_table(tmp_path / name / "bad.parquet").to_pylist() for name in ("here", "there"))
    for one in local:
        one["images"] = [
            {**image, "path": image["path"].replace(str(here), "s3://bucket/stream")} for image in one["images"]
        ]
    assert remote == local
    assert len(remote) == 6
    hashes = [pq.read_table(next((tmp_path / name).rglob("images/*"))).to_pylist() for name in ("here", "there")]
    assert hashes[0] == hashes[1]
    assert {one["id"] for one in bad} == {one["id"] for one in bad_there}
    (gone,) = [one["reason"] for one in bad_there if one["id"] == "mine/7"]
    assert gone == "missing image file: 's3://bucket/stream/gone.png': does not exist"
