"""How many samples files hold is known before they are read, to a few percent; and how many of them are scored."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from liit.engine.forecast import about, forecast
from liit.engine.settings.config import Config
from liit.engine.settings.streams import Release
from tests.engine.data.readers.test_webdataset import tar
from tests.engine.data.readers.written import png, row

COUNT = 3000
SIZES = (400, 600, 200, 50)
ROWS = [
    row(n, {"from": "human", "value": f"{n} + 1? " * (n % 7 + 1)}, {"from": "gpt", "value": str(n + 1)})
    for n in range(COUNT)
]


def written(folder: Path, name: str) -> Path:
    """The rows in a file of the kind that its name says; in a tar with pictures of a few kilobytes."""
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif name.endswith(".tar"):
        stored = [(f"{n}.json", json.dumps(one).encode()) for n, one in enumerate(ROWS)]
        pictures = [(f"{n}.png", png(n % 256) * 60) for n in range(COUNT)]
        return tar(folder, [member for pair in zip(stored, pictures, strict=True) for member in pair], name)
    else:
        text = (json.dumps(ROWS) if name.startswith("list") else "\n".join(map(json.dumps, ROWS))).encode()
        with pa.output_stream(str(path), compression="detect") as stream:
            stream.write(text)
    return path


@pytest.mark.parametrize(
    "name", ["list.json", "lines.jsonl", "lines.jsonl.gz", "lines.jsonl.zst", "a.parquet", "a.tar"]
)
def test_rows_are_counted_or_reckoned_from_the_first(tmp_path: Path, name: str) -> None:
    release = Release(name="a", path=str(written(tmp_path, name)))
    few = 100
    slack = 0 if name.endswith("parquet") else 0.15 if name.endswith((".json", ".jsonl")) else 0.45
    assert about(release, few) == pytest.approx(COUNT, rel=slack or 1e-9)
    assert about(release, COUNT) == COUNT


def test_where_rows_are_kept_the_forecast_is_what_is_new_and_the_share() -> None:
    releases = [
        {"name": name, "path": f"{name}.json", "samples": size} for name, size in zip("abcd", SIZES, strict=True)
    ]
    told = {"stream": {"kind": "files", "releases": releases}, "strategy": {"name": "adapt-inf", "budget": 10}}
    whole = forecast(Config.model_validate(told))
    kept = forecast(Config.model_validate(told | {"scoring": {"refresh": {"share": 0.1}}}))
    assert [step.scored for step in whole] == [0, 1000, 1200, 1250]
    assert [step.scored for step in kept] == [0, 1000, 200 + 100, 50 + 120]
    assert [step.profiled for step in kept] == [step.profiled for step in whole] == [step.scored for step in whole]
    assert [step.sketch_bytes for step in kept] == [step.sketch_bytes for step in whole]
