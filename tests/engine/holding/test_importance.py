"""Importance of weights: per-sample gradients against a loop over samples, and how old tasks' importances are put together."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load, load_file, save, save_file
from torch import nn
from transformers import FalconConfig, FalconForCausalLM

from liit.engine.holding import importance
from liit.engine.holding.anchoring import adapter_weights, combined
from liit.engine.holding.importance import ROWS, ImportanceWorker, _grouped, importance_sums
from liit.engine.models import adapters, loading
from liit.engine.models.encoding import encode
from liit.engine.run.store import Clock
from liit.engine.run.tables import SAMPLE
from liit.engine.scoring.passes import Batch
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Prepared
from liit.engine.settings.config import Config

LORA: dict[str, Any] = {"r": 3, "alpha": 6, "dropout": 0.5, "targets": (), "projector": False, "seed": 3}
PLAIN: dict[str, Any] = {"scores": ("nll",), "vectors": (), "sketches": {}, "lora": LORA, "merge": False}
TEXTS = (
    ("Two and two?", "four"),
    ("Say hello to them all", "hello, all of you"),
    ("Yes or no?", "y"),
    ("?", "why not"),
)


def conversation(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "text": question}, {"role": "assistant", "text": answer}]


@pytest.fixture
def model(tiny_llama: str) -> nn.Module:
    """With an adapter that has been trained a little: B is not zero."""
    model = adapters.add_lora(loading.load_model(tiny_llama), **LORA).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 10)
    return model


@pytest.mark.parametrize("kind", ["ewc", "mas"])
def test_sums_are_of_each_samples_own_gradient(kind: str, model: nn.Module, tiny_llama: str) -> None:
    processor = loading.load_processor(tiny_llama)
    encoded = [encode(processor, conversation(*text), [], 200) for text in TEXTS]
    weights = {name: weight for name, (_, weight) in adapter_weights(model).items()}
    expected = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    of_batch = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for one in encoded:
        logits = model(input_ids=one.input_ids[None]).logits[0]
        places = [at for at in range(len(one.input_ids)) if one.response[at]]
        if kind == "ewc":
            values = [-logits[at - 1].log_softmax(-1)[one.input_ids[at]] for at in places]
        else:
            values = [(logits[at - 1] ** 2).sum() for at in places]
        gradients = torch.autograd.grad(torch.stack(values).mean(), list(weights.values()))
        for name, gradient in zip(weights, gradients, strict=True):
            expected[name] += gradient.square() if kind == "ewc" else gradient.abs()
            of_batch[name] += gradient / len(encoded)
    found = importance_sums(model.requires_grad_(False), Batch(encoded, processor, "right", model), kind)
    assert found.keys() == weights.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-7)
    if kind == "ewc":  # the square of a batch's mean gradient is another thing, and a smaller one
        batch_fisher = sum(float(one.square().sum()) for one in of_batch.values())
        assert batch_fisher < 0.5 * sum(float(one.sum()) for one in expected.values()) / len(encoded)


def test_importance_fits_an_adapter_whose_blocks_are_not_called_layers(tiny_llama: str) -> None:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    falcon = FalconForCausalLM(FalconConfig(vocab_size=320, pad_token_id=0, **sizes))
    model, processor = adapters.add_lora(falcon, **LORA).eval(), loading.load_processor(tiny_llama)
    weights = adapter_weights(model)
    encoded = [encode(processor, conversation(*text), [], 200) for text in TEXTS]
    found = importance_sums(model.requires_grad_(False), Batch(encoded, processor, "right", model), "ewc")
    assert found.keys() == weights.keys()
    assert {"layers.0.mlp.dense_h_to_4h.lora_A", "layers.1.self_attention.dense.lora_B"} <= found.keys()
    assert all(found[name].shape == weight.shape for name, (_, weight) in weights.items())


def test_a_batch_split_in_two_adds_up_and_a_bad_sample_is_named(tiny_llama: str) -> None:
    worker = ImportanceWorker(ProfilerSpec(tiny_llama, max_length=80, **PLAIN), "ewc")
    rows = [
        {"id": f"{at}", "key": at, "conversation": conversation(*text), "images": []} for at, text in enumerate(TEXTS)
    ]
    whole, *parts = (worker.whole([worker.prepare(some)]) for some in (rows, rows[:1], rows[1:]))
    assert whole["status"].to_pylist() == ["ok"] * 4
    all_of, first, rest = (sums_of(table) for table in (whole, *parts))
    assert all(whole[name].null_count == 3 for name in all_of)
    for name, values in all_of.items():
        assert values.dtype == torch.float64
        torch.testing.assert_close(first[name] + rest[name], values, rtol=1e-4, atol=1e-8)
    long = worker.whole([worker.prepare([rows[0] | {"conversation": conversation("?", "long " * 20)}])])
    assert "80" in long["status"][0].as_py()
    assert not sums_of(long)


def sums_of(table: pa.Table) -> dict[str, torch.Tensor]:
    """Of a group, by weight."""
    return {name: load(table[name][0].as_py())[name] for name in table.column_names if name not in ROWS.names}


def test_batches_that_are_halved_for_lack_of_memory_add_up_to_the_same(
    tiny_llama: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker, rows = ImportanceWorker(ProfilerSpec(tiny_llama, max_length=80, **PLAIN), "ewc"), samples_of(4)
    whole, summed = worker.whole([worker.prepare(rows)]), worker._summed

    def in_little_memory(prepared: Prepared) -> Any:
        if len(prepared) > 1 or prepared.samples[0]["id"] == "9":
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return summed(prepared)

    monkeypatch.setattr(worker, "_summed", in_little_memory)
    halved = worker.whole([worker.prepare(rows)])
    assert halved.select(ROWS.names).equals(whole.select(ROWS.names))
    for name, values in sums_of(whole).items():
        torch.testing.assert_close(sums_of(halved)[name], values, rtol=1e-4, atol=1e-8)
    alone = worker.whole([worker.prepare([rows[0] | {"id": "9"}])])
    assert "does not fit" in alone["status"][0].as_py()


def samples_of(count: int) -> list[dict[str, Any]]:
    """Texts of several lengths, so many."""
    texts = [(question, f"{answer} {at // 4}") for at in range(count) for question, answer in [TEXTS[at % 4]]]
    return [
        {"id": f"{at}", "key": at, "length": sum(map(len, text)), "conversation": conversation(*text), "images": []}
        for at, text in enumerate(texts)
    ]


@pytest.mark.parametrize("counts", [(1,), (64,), (65, 3), (1024, 70), (5000,)])
def test_a_task_has_sixteen_groups_at_most_of_each_of_its_samples_once(counts: tuple[int, ...]) -> None:
    names = np.random.default_rng(0).permutation(np.repeat([f"task {at}" for at in range(len(counts))], counts))
    groups = _grouped(names)
    assert sorted(np.concatenate([rows for _, rows in groups]).tolist()) == list(range(sum(counts)))
    for name, rows in groups:
        assert set(names[rows]) == {name}
    for at, count in enumerate(counts):
        sizes = [len(rows) for name, rows in groups if name == f"task {at}"]
        assert len(sizes) <= 16
        assert min(sizes[:-1], default=64) >= 64
        assert sum(sizes) == count


@pytest.mark.usefixtures("ray_cluster")
def test_groups_add_up_to_one_sum_over_all_whatever_the_actors(
    tiny_llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importance, "LEAST_SAMPLES", 3)
    spec = ProfilerSpec(tiny_llama, max_length=80, **PLAIN)
    rows, names = samples_of(22), np.array(["a"] * 17 + ["b"] * 5)
    chosen = pa.Table.from_pylist(rows, schema=pa.schema([SAMPLE.field(n) for n in rows[0]]))
    found, written = {}, []
    monkeypatch.setattr(importance, "remove", lambda path: written.append(sorted(path.glob("*.parquet"))))
    for actors in (1, 2):
        config = Config.model_validate(
            {
                "model": {"path": tiny_llama},
                "training": {"lora": {"r": 3}, "regulariser": {"kind": "ewc"}},
                "scoring": {"samples_per_batch": 2},
                "resources": {"actors": actors, "cpus_per_actor": 0.4},
            }
        )
        folder = tmp_path / f"{actors}"
        rule = config.training.weighed_by()
        assert rule is not None
        importance.measure(chosen, names, spec, rule, config, folder, "weigh", Clock(tmp_path / "clock", {}))
        found[actors] = {task: load_file(folder / f"{task}.safetensors") for task in "ab"}
    assert [len(files) for files in written if files] == [8, 8], "six groups of three, and two"
    worker = ImportanceWorker(spec, "ewc")
    for task, of in found[1].items():
        mine = [row for row, name in zip(rows, names, strict=True) if name == task]
        each = [sums_of(worker.whole([worker.prepare([row])])) for row in mine]
        for name, values in of.items():
            assert torch.equal(values, found[2][task][name])
            expected = torch.stack([one[name] for one in each]).mean(0)
            torch.testing.assert_close(values.double(), expected, rtol=1e-4, atol=1e-10)


def test_the_sums_of_groups_are_the_sum_over_all_in_float64(tmp_path: Path) -> None:
    """To 1e-6, where sums in float32 would be 1e-3 off."""
    generator = torch.Generator().manual_seed(0)
    each = torch.rand(4000, 5, generator=generator, dtype=torch.float64) * 10 ** torch.arange(0, 10, 2)
    each[0] *= 1e7
    parts = []
    for at, group in enumerate(each.split(250)):
        columns = {"id": ["x"], "key": pa.array([at], pa.uint64()), "status": ["ok"]}
        table = pa.table({**columns, "w": pa.array([save({"w": group.sum(0)})], pa.large_binary())})
        parts.append(tmp_path / f"{at:02d}.parquet")
        pq.write_table(table, parts[-1])
    found = importance._means(parts, len(each))["w"]
    torch.testing.assert_close(found.double(), each.mean(0), rtol=1e-6, atol=0)


def test_a_model_in_bfloat16_has_importance_too(tiny_llama: str) -> None:
    """Its adapter is in float32, as PEFT keeps it."""
    rows = [{"id": "0", "key": 0, "conversation": conversation(*TEXTS[0]), "images": []}]
    exact, rough = (
        ImportanceWorker(ProfilerSpec(tiny_llama, dtype=dtype, max_length=80, **PLAIN), "ewc")
        for dtype in ("float32", "bfloat16")
    )
    sums = [sums_of(worker.whole([worker.prepare(rows)])) for worker in (exact, rough)]
    totals = [sum(float(values.sum()) for values in one.values()) for one in sums]
    assert totals[1] == pytest.approx(totals[0], rel=0.1)


def test_old_tasks_are_weighted_from_their_own_raw_values_and_never_compound(tmp_path: Path) -> None:
    """Over three tasks: what the second task's similarity did to the first one's importance leaves no trace at the third."""
    raw = [torch.rand(4, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    files = [str(tmp_path / f"{at}.safetensors") for at in range(3)]
    for file, values in zip(files, raw, strict=True):
        save_file({"w": values}, file)
    before = [Path(file).read_bytes() for file in files]
    combined([(files[0], 0.1)])
    combined([(files[0], 0.2), (files[1], 0.3)])
    weights = (0.9, 0.5, 0.7)
    found = combined(list(zip(files, weights, strict=True)))["w"]
    scaled = torch.stack([values / values.mean() for values in raw])
    each = scaled * torch.tensor(weights)[:, None, None]
    torch.testing.assert_close(found, each.max(0).values / scaled.max(0).values.mean())
    unweighted = combined([(file, 1.0) for file in files])["w"]
    assert unweighted.mean() == pytest.approx(1), "as strong as for one task"
    assert [Path(file).read_bytes() for file in files] == before


def test_importances_of_different_adapters_are_refused(tmp_path: Path) -> None:
    for name in "ab":
        save_file({name: torch.ones(2)}, tmp_path / name)
    with pytest.raises(ValueError, match="another adapter"):
        combined([(str(tmp_path / "a"), 1.0), (str(tmp_path / "b"), 1.0)])
