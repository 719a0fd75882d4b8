"""What Weights & Biases shows of a finished run, in its offline mode: the same values, one W&B run, resumed at every timestep."""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from liit.engine.lifelong import run
from liit.engine.pages import tracking_wandb
from liit.engine.pages.tracking import track
from liit.engine.preflight import check_tracking
from liit.engine.run.store import Store
from liit.engine.settings.config import Config, ConfigError

wandb = pytest.importorskip("wandb", reason="Weights & Biases is an extra: pip install 'liit[wandb]'")

BLOCK, HEADER = 32768, 7
"""Bytes of a block of W&B's log, and of what stands before a piece of a record: checksum (4), length (2), kind of piece (1)."""
WATCHED = Config.model_validate({"tracking": {"wandb": "lifelong"}})


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """W&B as on a new machine: no key, no settings; it reads its environment once, so it is ended with the test."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    wandb.teardown()
    yield monkeypatch
    wandb.teardown()


def records(path: Path) -> Iterator[Any]:
    """What W&B wrote down, read as framed: blocks of pieces. Kind 1 is a whole record, 2 begins one, 3 goes on, 4 ends it."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # too short for another piece
            at += BLOCK - at % BLOCK
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):
            yield Record.FromString(whole)
            whole = b""


def sent(folder: Path) -> tuple[dict[str, dict[int, float]], list[int], list[Any]]:
    """Value by name and its own axis, W&B's steps in order, and all records, of a run folder's W&B files."""
    axes: dict[str, str] = {}
    values: dict[str, dict[int, float]] = defaultdict(dict)
    steps = []
    everything = [one for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")) for one in records(path)]
    for record in everything:
        if record.HasField("metric"):
            axes[record.metric.glob_name.removesuffix("*")] = record.metric.step_metric
        elif record.HasField("history"):
            row = {"".join([item.key, *item.nested_key]): json.loads(item.value_json) for item in record.history.item}
            steps.append(row["_step"])
            for name in row:
                axis = axes.get(name.partition("/")[0] + "/")
                if axis:
                    assert row[axis] not in values[name], f"{name} is there twice"
                    values[name][row[axis]] = row[name]
    return dict(values), steps, everything


@pytest.fixture
def shown(
    finished: Path, settings: dict[str, Any], tmp_path: Path, environment: pytest.MonkeyPatch
) -> tuple[Path, Config]:
    """A finished run that was continued with W&B asked for, offline."""
    environment.setenv("WANDB_MODE", "offline")
    shutil.copytree(finished, tmp_path / "run")
    config = Config.model_validate(settings | {"tracking": {"wandb": "lifelong"}})
    check_tracking(config)
    again(tmp_path / "run", config)
    return tmp_path / "run", config


def again(folder: Path, config: Config) -> None:
    """The run goes on in its folder."""
    store = Store(folder)
    run(config, store)
    store.close()


def test_wandb_has_every_skill_by_timestep_and_every_loss_by_optimizer_step(shown: tuple[Path, Config]) -> None:
    folder, config = shown
    values, steps, everything = sent(folder)
    results = json.loads((folder / "results.json").read_text())
    for skill in ("colour", "sum"):
        assert values[f"skill/{skill}"] == {t: row[skill] for t, row in enumerate(results["accuracy"])}
    assert values["stream/average_accuracy"][2] == pytest.approx(results["average_accuracy"])
    assert values["samples/selection"] == {1: 12, 2: 12}
    for t in (1, 2):
        history = json.loads((folder / f"t{t:02d}" / "adapter" / "training.json").read_text())
        assert values[f"training/loss_t{t:02d}"] == dict(enumerate(history["losses"], start=1))
        assert values[f"training/rate_t{t:02d}"] == dict(enumerate(history["rates"], start=1))
    assert steps == list(range(len(steps))), "W&B drops what is not later than what it has"
    runs = [record.run for record in everything if record.HasField("run")]
    note = json.loads((folder / "wandb.json").read_text())
    assert {(one.run_id, one.project, one.display_name) for one in runs} == {(note["run"], "lifelong", config.name)}
    told = {item.key: json.loads(item.value_json) for item in runs[0].config.update}
    assert told["strategy"]["name"] == "lite-adapt-inf"


def test_a_timestep_is_not_sent_twice_and_a_changed_one_goes_to_the_same_run(shown: tuple[Path, Config]) -> None:
    folder, config = shown
    note, files = json.loads((folder / "wandb.json").read_text()), set(folder.glob("wandb/offline-run-*"))
    again(folder, config)
    assert set(folder.glob("wandb/offline-run-*")) == files
    training = folder / "t01" / "adapter" / "training.json"
    history = json.loads(training.read_text())
    training.write_text(json.dumps(history | {"losses": [2 * loss for loss in history["losses"]]}))
    again(folder, config)
    (new,) = set(folder.glob("wandb/offline-run-*")) - files
    assert note["run"] in new.name
    after = json.loads((folder / "wandb.json").read_text())
    assert (after["run"], after["rows"]) == (note["run"], note["rows"] + 1 + len(history["losses"]))


def test_asking_for_a_tracker_makes_no_stage_anew(finished: Path, shown: tuple[Path, Config]) -> None:
    folder, _ = shown
    for name in ("stages.jsonl", *(str(path.relative_to(finished)) for path in finished.rglob("*.made.json"))):
        assert (folder / name).read_bytes() == (finished / name).read_bytes()


def test_a_wandb_server_that_is_gone_costs_a_line_at_every_timestep_and_not_the_run(
    finished: Path, tmp_path: Path, environment: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    environment.setattr(tracking_wandb, "PATIENCE", 2)
    environment.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # the port of `discard`, where nothing listens
    environment.setenv("WANDB_API_KEY", "0" * 40)
    check_tracking(WATCHED)
    shutil.copytree(finished, tmp_path / "run")
    store = Store(tmp_path / "run")
    with caplog.at_level("WARNING", "liit"):
        for t in (1, 2):
            track(store, WATCHED, t)
    store.close()
    lines = [record.getMessage() for record in caplog.records if record.name == "liit"]
    for t, line in enumerate(lines, start=1):
        assert line.startswith(f"t{t} is not in W&B (lifelong): "), "the second timestep asks the server again"
        assert line.endswith("connection refused")
    assert len(lines) == 2
    assert json.loads((tmp_path / "run" / "wandb.json").read_text())["logged"] == {}


def test_a_run_that_would_stop_to_ask_for_a_key_is_refused(environment: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"tracking.wandb needs a login: `wandb login`, WANDB_API_KEY, or WANDB_MODE"):
        check_tracking(WATCHED)
    environment.setenv("WANDB_API_KEY", "short")
    with pytest.raises(ValueError, match=r"tracking.wandb: WANDB_API_KEY invalid"):
        check_tracking(WATCHED)
