"""What trackers show of a finished run: the values of its results, at their timesteps."""

import json
import shutil
import struct
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from liit.engine.lifelong import run
from liit.engine.pages.tracking import track
from liit.engine.pages.tracking_mlflow import mlflow_client
from liit.engine.run.store import Store
from liit.engine.settings.config import Config


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Tag to step to value, of all TensorBoard files of a folder, read as framed: length, checksum, event, checksum."""
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for path in folder.glob("events.out.tfevents.*"):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += length + 16
            for value in event.summary.value:
                assert event.step not in found[value.tag], f"{value.tag} is there twice"
                found[value.tag][event.step] = value.simple_value
    return found


def test_tensorboard_has_every_skill_and_every_loss(finished: Path) -> None:
    shown, results = scalars(finished / "tensorboard"), json.loads((finished / "results.json").read_text())
    for skill in ("colour", "sum"):
        assert shown[f"skill/{skill}"] == pytest.approx({t: row[skill] for t, row in enumerate(results["accuracy"])})
    for t in (1, 2):
        losses = json.loads((finished / f"t{t:02d}" / "adapter" / "training.json").read_text())["losses"]
        assert shown[f"training/loss_t{t:02d}"] == pytest.approx(dict(enumerate(losses, start=1)))
    assert shown["stream/average_accuracy"][2] == pytest.approx(results["average_accuracy"])
    assert shown["stream/forgetting_rate"][2] == pytest.approx(results["forgetting_rate"])
    assert shown["seconds/profile"][1] == pytest.approx(results["seconds"]["t01/profile"])
    assert shown["samples/selection"] == {1: 12, 2: 12}


def test_mlflow_has_the_same_and_a_timestep_is_not_logged_twice(
    finished: Path, settings: dict[str, Any], tmp_path: Path
) -> None:
    place, note = str(finished.with_name("mlflow")), json.loads((finished / "mlflow.json").read_text())
    client, results = mlflow_client(place), json.loads((finished / "results.json").read_text())
    history = client.get_metric_history(note["run"], "skill/colour")
    assert [(one.step, one.value) for one in history] == [(t, r["colour"]) for t, r in enumerate(results["accuracy"])]
    told = client.get_run(note["run"]).data.params
    assert told["strategy.name"] == "lite-adapt-inf"
    shutil.copytree(finished, tmp_path / "again")
    store = Store(tmp_path / "again")
    run(Config.model_validate(settings | {"tracking": {"mlflow": place}}), store)
    store.close()
    assert len(client.get_metric_history(note["run"], "skill/colour")) == 3


def test_a_tracking_server_that_is_gone_costs_a_line_not_the_run(
    finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(finished, tmp_path / "again")
    (tmp_path / "file").write_text("no folder")
    store = Store(tmp_path / "again")
    with caplog.at_level("WARNING", "liit"):
        track(store, Config.model_validate({"tracking": {"mlflow": str(tmp_path / "file")}}), 1)
    store.close()
    assert "t1 is not in MLflow" in caplog.text
    assert scalars(tmp_path / "again" / "tensorboard")["skill/sum"].keys() == {0, 1, 2}


def test_every_stage_is_logged_when_it_began_and_when_it_finished(finished: Path) -> None:
    lines = [json.loads(line) for line in (finished / "stages.jsonl").read_text().splitlines()]
    made = {str(p.relative_to(finished)).removesuffix(".made.json") for p in finished.rglob("*.made.json")}
    for event in ("began", "finished"):
        assert {line["result"] for line in lines if line["event"] == event} == made
    assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)
    seconds = json.loads((finished / "results.json").read_text())["seconds"]
    for line in lines:
        if line["event"] == "finished":
            assert line["seconds"] == pytest.approx(seconds[line["result"]], abs=0.5)
