"""What stands between the profiler and a timestep's profile: the lowest loss on record, and the model that is sketched."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from liit.engine.models import adapters, loading
from liit.engine.run.files import write_table
from liit.engine.run.profiles import unpacked
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Prepared
from liit.engine.scoring.scoring import ProfileWorker, _best_nll
from liit.engine.scoring.specification import profiler_spec
from liit.engine.settings.config import Config
from liit.engine.training import zero
from liit.engine.training.job import TrainJob


@pytest.mark.parametrize("seed", range(5))
def test_forgetting_is_above_the_lowest_loss_of_all_timesteps_before(seed: int, tmp_path: Path) -> None:
    """Four timesteps, some samples coming late, one not profiled once; the record is written out as a running minimum."""
    nll_TN = np.random.default_rng(seed).uniform(0.1, 5, (4, 6)).astype(np.float32)
    first_N = np.array([0, 0, 0, 0, 1, 2])
    keys_N, lowest_N, previous = np.arange(6, dtype=np.uint64), np.full(6, np.inf, np.float32), None
    for t, nll_N in enumerate(nll_TN):
        there_N = first_N <= t
        best = np.array(_best_nll(previous, keys_N[there_N]).to_pylist(), dtype=np.float32)
        seen_N = np.isfinite(lowest_N[there_N])
        assert (np.isnan(best) == ~seen_N).all()
        np.testing.assert_allclose(best[seen_N], lowest_N[there_N][seen_N], rtol=1e-5)
        forgetting = np.where(np.isnan(best), 0, nll_N[there_N] - best).astype(np.float32)
        previous = tmp_path / f"t{t}"
        previous.mkdir()
        rows = {"id": pa.array(map(str, keys_N[there_N])), "key": keys_N[there_N], "status": ["ok"] * there_N.sum()}
        write_table(previous / "part-0.parquet", pa.table(rows | {"nll": nll_N[there_N], "forgetting": forgetting}))
        lowest_N[there_N] = np.minimum(lowest_N[there_N], nll_N[there_N])


def test_lora_is_sketched_at_t1_as_training_begins_it(tiny_llama: str, tmp_path: Path) -> None:
    config = Config.model_validate(
        {
            "seed": 7,
            "model": {"path": tiny_llama},
            "training": {"lora": {"r": 4, "alpha": 8, "targets": ["q_proj", "up_proj"]}},
            "scoring": {"gradient": {"parameters": "lora"}},
        }
    )
    spec = profiler_spec(config, None, ("nll",), ("sketch",))
    sketched = adapters.add_lora(loading.load_model(tiny_llama), **(spec.lora or {}))
    job = TrainJob(config.model, config.training, config.seed + 1, "", None, "", "", "")  # as `teach` seeds t1
    trained = dict(zero._model(job).named_parameters())
    for name, weight in sketched.named_parameters():
        torch.testing.assert_close(weight, trained[name], rtol=0, atol=0)


@pytest.fixture
def samples(tmp_path: Path) -> list[dict[str, Any]]:
    """Five, one of them of a picture that is not there."""
    Image.new("RGB", (20, 16), "red").save(tmp_path / "red.png")
    paths = [tmp_path / "red.png", None, tmp_path / "gone.png", None, tmp_path / "red.png"]
    return [
        {
            "id": f"d/{at}",
            "key": at,
            "conversation": [
                {"role": "user", "text": ("<image>" if path else "") + "Why? " * at},
                {"role": "assistant", "text": "so"},
            ],
            "images": [{"path": str(path), "bytes": None}] if path else [],
        }
        for at, path in enumerate(paths)
    ]


def worker_of(model: str) -> ProfileWorker:
    spec = ProfilerSpec(
        model,
        max_length=200,
        reference=model,
        scores=("nll", "image_grounding", "learnability"),
        vectors=("embedding",),
    )
    return ProfileWorker(asdict(spec), "m")


def test_a_slice_of_a_prepared_batch_is_what_its_samples_give_alone(
    samples: list[dict[str, Any]], tiny_llava: str
) -> None:
    """Tensors, those without images and of the reference model, and failures, each with its own sample."""
    worker = worker_of(tiny_llava)
    whole = worker.prepare(samples)
    assert len(whole) == 5
    assert whole.nbytes == sum(whole[at : at + 1].nbytes for at in range(5)) > 0
    assert whole.beside[0].nbytes < whole.nbytes
    for some in (slice(0, 2), slice(2, 5), slice(2, 3)):
        mine, alone = whole[some], worker.prepare(samples[some])
        for one, other in ((mine, alone), (mine.beside[0], alone.beside[0])):
            assert [one.samples, dict(one.failed)] == [samples[some], dict(other.failed)]
            assert list(one.encoded) == list(other.encoded)
            assert list(one.blind) == list(other.blind)
            for at, encoded in one.encoded.items():
                assert torch.equal(encoded.input_ids, other.encoded[at].input_ids)


def test_rows_of_a_halved_batch_are_those_of_the_whole_and_one_that_does_not_fit_says_so(
    samples: list[dict[str, Any]], tiny_llava: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = worker_of(tiny_llava)
    whole, run = worker(worker.prepare(samples)), worker.profiler.run

    def in_little_memory(prepared: Prepared) -> Any:
        if len(prepared) > 2 or prepared.samples[0]["id"] == "d/3":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return run(prepared)

    monkeypatch.setattr(worker.profiler, "run", in_little_memory)
    halved = worker(worker.prepare(samples))
    assert halved["id"].to_pylist() == whole["id"].to_pylist()
    status = halved["status"].to_pylist()
    assert (status[0], status[1], status[4]) == ("ok", "ok", "ok")
    assert "gone.png" in status[2]
    assert status[3].startswith("does not fit in the device's memory, alone with its ")
    for name in ("nll", "image_grounding", "learnability"):
        fits = [0, 1, 4]
        np.testing.assert_allclose(halved[name].take(fits), whole[name].take(fits), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(unpacked(halved["embedding"])[4], unpacked(whole["embedding"])[4], atol=2e-3)
    assert "a batch of 5 samples does not fit" in caplog.records[0].getMessage()
