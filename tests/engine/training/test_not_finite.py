"""A training whose loss or gradient is no number ends on all workers, names the samples, and leaves nothing of that step."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from liit.engine.data.rows import Rows, write_rows
from liit.engine.run.store import Clock, Store
from liit.engine.run.tables import SAMPLE
from liit.engine.settings.config import Config
from liit.engine.settings.sections import Model
from liit.engine.training.finite import NAMED, NotFinite, at_fault, leave_note, refuse_noted
from liit.engine.training.job import TrainJob
from liit.engine.training.plan import Plan
from liit.engine.training.ray_train import train
from liit.engine.training.teaching import teach
from tests.engine.training.test_training import EXTRAS, history, job_of, needs_float16, private_copy, pytestmark  # noqa: F401
from tests.engine.training.training_extras import MARK

INF, NAN = float("inf"), float("nan")


def test_the_first_figure_that_is_no_number_is_at_fault() -> None:
    assert at_fault(1.0, 0.0, 2.0) is None
    assert at_fault(INF, NAN, NAN) == ("loss", INF)
    assert at_fault(1.0, -INF, NAN) == ("penalty", -INF)
    assert at_fault(1.0, 0.0, INF) == ("norm of the gradient", INF)


def test_a_note_is_one_line_that_names_a_few_samples_and_says_what_to_do(tmp_path: Path) -> None:
    note = tmp_path / "stopped.json"
    refuse_noted(note)
    leave_note(note, 17, 96, ("loss", NAN), ["gqa/123", "vqav2/77"])
    with pytest.raises(
        NotFinite, match=r"^the loss is nan at step 17 of 96, of samples gqa/123, vqav2/77; nothing of"
    ) as one:
        refuse_noted(note)
    assert "\n" not in str(one.value)
    assert "lower training.learning_rate, or leave these samples out" in str(one.value)
    many = [f"d/{number}" for number in range(NAMED + 3)]
    leave_note(note, 1, 2, ("norm of the gradient", INF), many)
    with pytest.raises(NotFinite, match=r"d/7 and 3 more \(all in .*stopped\.json\)"):
        refuse_noted(note)
    assert json.loads(note.read_text())["samples"] == many
    leave_note(note, 3, 6, ("penalty", INF), [])
    with pytest.raises(NotFinite, match=r"step 3 of 6; nothing .* look at training\.penalties"):
        refuse_noted(note)


def marked(job: TrainJob, step: int) -> str:
    """Put the mark into a sample of this step; its id."""
    settings, rows = job.training, Rows(Path(job.samples))
    sizes = settings.epochs, settings.batch_size, settings.micro_batch_size
    row = int(Plan(rows.lengths_N, rows.pictured_N, job.seed, *sizes).batch(step)[0])
    samples: list[dict[str, Any]] = [rows[at] for at in range(len(rows))]
    samples[row]["conversation"][0]["text"] += MARK
    columns = [{name: sample[name] for name in SAMPLE.names} for sample in samples]
    write_rows(Path(job.samples), [pa.Table.from_pylist(columns, schema=SAMPLE)])
    return str(samples[row]["id"])


@pytest.mark.long
def test_two_workers_stop_at_a_loss_that_is_no_number_and_go_on_from_the_checkpoint(
    tiny_llama: str, tmp_path: Path
) -> None:
    model, modules = private_copy(tiny_llama, tmp_path), (f"{EXTRAS}:poison_marked",)
    job = job_of(tmp_path, model, workers=2, micro_batch_size=1, modules=modules)
    name = marked(job, 2)
    seen: list[int] = []
    for steps in ([1, 2], []):
        with pytest.raises(NotFinite, match=rf"^the loss is nan at step 3 of 6, of samples {name}; nothing"):
            train(job, lambda step, steps, loss: seen.append(step))
        assert seen == steps
        assert not Path(job.output).exists()
        assert not job.partial.exists()
        assert sum(path.is_dir() for path in job.folder.glob("checkpoint_*")) == 1
        seen.clear()
    (Path(model) / "cured").touch()
    train(job, lambda step, steps, loss: seen.append(step))
    assert seen == [3, 4, 5, 6]
    assert np.isfinite(history(job)["losses"]).all()
    assert not job.folder.exists()


@pytest.mark.parametrize("stage", [0, 2])
def test_a_gradient_that_is_no_number_stops_the_training_in_place_of_a_step_that_is_passed_over(
    tiny_llama: str, tmp_path: Path, stage: int
) -> None:
    job = job_of(tmp_path, tiny_llama, penalties=(f"{EXTRAS}:steep_from_third",), zero_stage=stage)
    with pytest.raises(
        NotFinite, match=r"^the norm of the gradient is (inf|nan) at step 3 of 6, of samples d/\d+, .*d/"
    ):
        train(job, lambda step, steps, loss: None)
    assert not Path(job.output).exists()
    rows = Rows(Path(job.samples))
    plan = Plan(rows.lengths_N, rows.pictured_N, job.seed, 2, 8, 16)
    assert set(json.loads(job.stopped.read_text())["samples"]) == {rows[row]["id"] for row in plan.batch(2)}


@needs_float16
def test_in_float16_a_gradient_may_overflow_until_it_is_not_scaled_any_more(tiny_llama: str, tmp_path: Path) -> None:
    sizes = {"batch_size": 1, "micro_batch_size": 1, "epochs": 2, "checkpoint_every": 50}
    job = job_of(tmp_path, tiny_llama, penalties=(f"{EXTRAS}:steep_from_third",), **sizes)
    job = replace(job, model=Model(path=tiny_llama, dtype="float16"))
    seen: list[int] = []
    with pytest.raises(
        NotFinite, match=r"^the norm of the gradient is inf at step \d+ of 42, of samples d/\d+; nothing"
    ):
        train(job, lambda step, steps, loss: seen.append(step))
    assert 16 <= len(seen) < 42, "a scale of 65536 is halved sixteen times"


def test_a_timestep_that_stops_says_which_it_is_and_is_a_failed_stage(tiny_llama: str, tmp_path: Path) -> None:
    penalties = (f"{EXTRAS}:infinite_at_third",)
    job = job_of(tmp_path, tiny_llama, penalties=penalties)
    config = Config.model_validate({"model": {"path": tiny_llama}, "training": job.training.model_dump()})
    rows, store = Rows(Path(job.samples)), Store(tmp_path / "run")
    columns = [{name: rows[at][name] for name in SAMPLE.names} for at in range(len(rows))]

    def work(partial: Path, clock: Clock) -> None:
        teach([pa.Table.from_pylist(columns, schema=SAMPLE)], len(rows), 3, None, config, partial, clock)

    with pytest.raises(NotFinite, match=r"^t3: the penalty is inf at step 3 of 6; nothing of this step was saved"):
        store.make("t03/adapter", work)
    store.close()
    assert not (store.root / "t03/adapter").exists()
    event = json.loads((store.root / "stages.jsonl").read_text().splitlines()[-1])
    assert event["event"] == "failed"
    assert "the penalty is inf at step 3 of 6" in event["error"]
