"""The curve of a training is for people who look: what keeps it from being written keeps nothing else."""

from pathlib import Path

import pytest
from tensorboardX.record_writer import RecordWriter

from liit.engine.training.live_loss import live_loss


def test_a_training_goes_on_where_its_curve_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("liit.engine.run.progress.log.propagate", True)
    with live_loss(tmp_path, 1, "") as show:
        show(1, 0.5)
    assert list((tmp_path / "tensorboard").iterdir())
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tensorboard").write_text("a file where the folder should be")
    with live_loss(tmp_path / "other", 1, "") as show:
        show(1, 0.5)
    assert f"t1: the loss is not in TensorBoard's files ({tmp_path / 'other' / 'tensorboard'})" in caplog.text


def test_a_disk_that_fills_up_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(writer: RecordWriter, *data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("liit.engine.run.progress.log.propagate", True)
    monkeypatch.setattr("liit.engine.training.live_loss.FLUSH_SECONDS", -1)
    with live_loss(tmp_path, 1, "") as show:
        show(1, 0.5)
        monkeypatch.setattr(RecordWriter, "flush", full)
        for step in (2, 3):
            show(step, 0.5)
    # by the record, not by the text: who configured the root logger before may have given it this handler twice
    said = {id(record): record.getMessage() for record in caplog.records if "the loss is not in" in record.getMessage()}
    assert len(said) == 1
    assert "No space left on device" in next(iter(said.values()))
