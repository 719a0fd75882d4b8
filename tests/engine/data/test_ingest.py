"""A release passes whole from its files to the run folder, whatever is held of it in memory; nothing is lost on the way."""

import json
import logging
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from liit.engine.data import ingest as module
from liit.engine.data import reading, spool
from liit.engine.data.ingest import TooManyBadSamples, ingest
from liit.engine.data.pool import grow
from liit.engine.data.readers import json_text
from liit.engine.data.reading import Taken, take_all
from liit.engine.fleet.parts import read_chunks
from liit.engine.run.files import files_of, read_table
from liit.engine.run.progress import log
from liit.engine.run.store import Clock
from liit.engine.run.tables import SAMPLE, key_of, sort_by_key
from liit.engine.settings.config import Config
from liit.engine.settings.sections import Pool
from liit.engine.settings.streams import EvaluationSet, FileStream
from tests.engine.data.published import publish, rows

SIZES = {"spool.ROWS": 3, "spool.BYTES": 500, "spool.BYTES_OF_A_PART": 1500, "reading.HERE": 0, "json_text.PIECE": 600}


def configured(model: str, path: Path, **more: Any) -> Config:
    releases = [{"name": "mine", "path": str(path)}]
    resources = {"num_cpus": 2, "cpus_per_actor": 0.5}
    values = {"model": {"path": model, "max_length": 200}, "stream": {"kind": "files", "releases": releases}}
    return Config.model_validate({**values, "resources": resources, "max_bad_share": 0.5, **more})


def ingested(config: Config, folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Kept and quarantined rows."""
    folder.mkdir(parents=True)
    partial, bad = folder / "release.parquet", folder / "quarantine.parquet"
    clock = Clock(folder / "note.json", {})
    assert isinstance(config.stream, FileStream)
    ingest(config.stream.releases, 0, config, partial, bad, "mine", clock)
    assert sorted(path.name for path in folder.iterdir()) == ["note.json", "quarantine.parquet", "release.parquet"]
    for part in read_chunks([partial]):
        assert part.schema.equals(SAMPLE)
        assert part["key"].to_pylist() == sorted(part["key"].to_pylist())
    return sort_by_key(read_table(partial)).to_pylist(), pq.read_table(bad).to_pylist()


def made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is held or read at a time."""
    modules = {"spool": spool, "reading": reading, "json_text": json_text}
    for name, size in SIZES.items():
        monkeypatch.setattr(modules[name.split(".")[0]], name.split(".")[1], size)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(log, "propagate", True)
    caplog.set_level(logging.INFO, log.name)
    return caplog


def test_in_is_kept_and_quarantined_and_equal(
    ray_cluster: None, tiny_llava: str, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    kept, bad = ingested(configured(tiny_llava, publish(tmp_path / "data")), tmp_path / "run")
    assert (len(rows()), len(kept), len(bad)) == (31, 24, 5)
    assert [row["key"] for row in kept] == sorted(key_of(row["id"]) for row in kept)
    assert {row["stage"] for row in bad if row["id"].startswith("mine/torn")} == {"check"}
    assert all(row["length"] > 0 and len(row["content"]) == 16 for row in kept)
    (context,) = [row for row in kept if row["id"] == "mine/c"]
    assert [turn["context"] for turn in context["conversation"]] == [None, True, None, None]
    lines = [record.getMessage() for record in said.records]
    assert (
        "mine: 31 samples in = 24 kept + 5 quarantined + 2 equal to another (1 JSON file, chat by conversations)"
        in lines
    )
    assert "mine: leading assistant turn dropped: 1 (mine/l)" in lines
    assert "mine: rows equal to an earlier one, one sample: 2 (mine/1, mine/t2)" in lines
    assert "mine: ids told apart: 13 (mine/0, mine/0, ...)" in lines
    assert "mine: not read: model (11)" in lines
    assert "mine: quarantined 2 (mine/torn0, mine/torn1): damaged image" in lines


def test_how_much_is_held_at_a_time_changes_nothing(
    ray_cluster: None, tiny_llava: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does the order of the rows."""
    config = configured(tiny_llava, publish(tmp_path / "data"))
    expected = ingested(config, tmp_path / "run")
    made_small(monkeypatch)
    monkeypatch.setattr(reading, "HERE", 8 << 20)  # what tasks hold is not made small
    small = ingested(config, tmp_path / "small")
    assert small == expected
    assert len(files_of(tmp_path / "small" / "release.parquet")) > 3
    mixed = [rows()[at] for at in np.random.default_rng(0).permutation(31)]
    publish(tmp_path / "data", given=mixed)
    kept, bad = ingested(config, tmp_path / "mixed")
    assert kept == expected[0]
    assert sorted(row["id"] for row in bad) == sorted(row["id"] for row in expected[1])


def test_in_however_many_splits_a_file_is_read_all_is_the_same(
    ray_cluster: None, tiny_llava: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: pytest.LogCaptureFixture
) -> None:
    """Ids that repeat across splits are told apart, equal rows are one, and the same is said of them."""
    path = publish(tmp_path / "data")
    as_lines = path.with_name("lines.jsonl")
    as_lines.write_text("".join(f"{json.dumps(row)}\n" for row in rows()) + '{"id": torn\n')
    config = configured(tiny_llava, as_lines)
    expected = ingested(config, tmp_path / "run")
    words = [record.getMessage() for record in said.records if record.getMessage().startswith("mine: ")]
    assert len(expected[0]) == 24
    said.clear()
    made_small(monkeypatch)
    assert ingested(config, tmp_path / "split") == expected
    lines = [record.getMessage() for record in said.records]
    assert [line for line in lines if line in words] == words
    assert any(line.startswith("read mine: 7 pieces") for line in lines)
    monkeypatch.setattr(reading, "HERE", 8 << 20)
    assert ingested(config, tmp_path / "here") == expected


def test_what_was_read_before_a_kill_is_not_read_again(
    ray_cluster: None, tiny_llava: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_small(monkeypatch)
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows()))
    config, work = configured(tiny_llava, path), tmp_path / "work"
    assert isinstance(config.stream, FileStream)
    releases = config.stream.releases

    def read() -> tuple[list[int], Taken]:
        (taken,), spooled = take_all(releases, 0, work, config.resources, lambda: None)
        return spooled.keys.tolist(), taken

    before, spools = read(), sorted(work.rglob("*.arrow"))
    times = [spool.stat().st_mtime_ns for spool in spools]
    next(work.rglob("part-000002.parquet")).unlink()
    spools[2].unlink()
    assert read() == before
    changed = [spool.stat().st_mtime_ns != then for spool, then in zip(spools, times, strict=True)]
    assert changed == [at == 2 for at in range(len(spools))]


def test_what_stops_a_run_in_a_task_is_one_line(
    ray_cluster: None, tiny_llava: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_text('{"question": 1}\n' * 100)
    monkeypatch.setattr(reading, "HERE", 0)
    with pytest.raises(ValueError, match=r"^.*lines\.jsonl has columns question, but none of: "):
        ingested(configured(tiny_llava, path), tmp_path / "run")


def test_a_share_of_bad_rows_stops_a_run_before_anything_is_decoded(
    tiny_llava: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "checked", lambda *_: pytest.fail("pictures were decoded"))
    config = configured(tiny_llava, publish(tmp_path / "data"), max_bad_share=0.09)
    with pytest.raises(
        TooManyBadSamples, match=r"mine: 3 of 31 samples are bad, more than max_bad_share=0.09 .*quarantine"
    ):
        ingested(config, tmp_path / "run")
    assert len(pq.read_table(tmp_path / "run" / "quarantine.parquet")) == 3


def test_a_share_of_bad_pictures_stops_a_run_after_that(ray_cluster: None, tiny_llava: str, tmp_path: Path) -> None:
    config = configured(tiny_llava, publish(tmp_path / "data"), max_bad_share=0.1)
    with pytest.raises(TooManyBadSamples, match="mine: 5 of 31 samples are bad"):
        ingested(config, tmp_path / "run")


@pytest.mark.parametrize("given", [[], [{"id": 1, "conversations": []}]], ids=["nothing", "nothing good"])
def test_a_release_without_a_sample_stops_the_run(tiny_llava: str, tmp_path: Path, given: list[Any]) -> None:
    config = configured(tiny_llava, publish(tmp_path / "data", given=given), max_bad_share=0.5)
    with pytest.raises((ValueError, TooManyBadSamples), match=r"holds no sample|1 of 1 samples are bad"):
        ingested(config, tmp_path / "run")


def test_the_metric_of_a_row_is_carried(ray_cluster: None, tiny_llava: str, tmp_path: Path) -> None:
    asked = [
        {"id": n, "conversations": [{"from": "human", "value": f"{n}?"}], "references": [n], "metric": "vqa"}
        for n in range(2)
    ]
    path = publish(tmp_path / "data", given=[*asked, {**asked[0], "id": "plain", "metric": None}])
    sets = [EvaluationSet(name="mine", path=str(path), skill="s", metric="number")]
    clock = Clock(tmp_path / "note.json", {})
    ingest(sets, 0, configured(tiny_llava, path), tmp_path / "exam.parquet", tmp_path / "bad.parquet", "exam", clock)
    table = read_table(tmp_path / "exam.parquet").to_pylist()
    assert {row["id"]: row["metric"] for row in table} == {"mine/0": "vqa", "mine/1": "vqa", "mine/plain": None}
    assert {row["conversation"][-1]["text"] for row in table} == {"0", "1"}


def test_a_picture_is_known_by_its_bytes_from_ingest_on_and_what_shows_it_is_withdrawn(
    ray_cluster: None, tiny_llava: str, tmp_path: Path
) -> None:
    config, run = configured(tiny_llava, publish(tmp_path / "data")), tmp_path / "run"
    release, step = run / "releases" / "00-mine.parquet", run / "t00"
    for folder in (release.parent, step):
        folder.mkdir(parents=True)
    assert isinstance(config.stream, FileStream)
    partial, aside = release.with_name(f"{release.name}.partial"), step / "quarantine.parquet"
    ingest(config.stream.releases, 0, config, partial, aside, "mine", Clock(run / "note.json", {}), run)
    partial.rename(release)
    kept = read_table(release).to_pylist()
    shown = {(row["id"], Path(image["path"]).name) for row in kept for image in row["images"]}
    assert len(shown) == 12, "without one that is equal to another, and two that are torn"
    marks = {name: sha256((tmp_path / "data" / name).read_bytes()).digest() for _, name in shown}
    table = pq.read_table(run / "images" / release.name).to_pylist()
    assert {(row["id"], row["image"]) for row in table} == {(name, marks[image]) for name, image in shown}

    rules = Pool(withdrawals={0: (f"image: {marks['1.png'].hex()}",)})
    grow(None, [release], [], rules, step / "pool.parquet", 0)
    gone = {name for name, image in shown if image == "1.png"}
    left = {row["id"]: row["reason"] for row in pq.read_table(step / "copies.parquet").to_pylist()}
    pool = set(pq.read_table(step / "pool.parquet")["id"].to_pylist())
    assert {name for name, reason in left.items() if reason == "withdrawn"} == gone
    assert len(gone) == 3
    equal, bad = 2, pq.read_metadata(aside).num_rows
    assert len(rows()) == len(pool) + bad + equal + len(left), "kept, quarantined, equal, removed and withdrawn"
