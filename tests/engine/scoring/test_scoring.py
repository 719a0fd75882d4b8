"""What stands between the profiler and a timestep's profile: the lowest loss on record, and the model that is sketched."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from liit.engine.models import adapters, loading
from liit.engine.run.files import write_table
from liit.engine.scoring.scoring import _Best
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
        chunk = pa.table({"key": keys_N[there_N]})
        best = np.array(_Best(previous).beside(chunk)["best_nll"].to_pylist(), dtype=np.float32)
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
