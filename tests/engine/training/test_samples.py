"""What the training loop reads: rows in key order, fillers that do not count, bad rows named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from liit.engine.data.rows import write_rows
from liit.engine.models import loading
from liit.engine.run.tables import SAMPLE, key_of
from liit.engine.training.plan import MicroBatch
from liit.engine.training.samples import TrainingSamples

Read = Callable[..., TrainingSamples]


def row(name: str, answer: str = "yes") -> dict[str, Any]:
    turns = [{"role": "user", "text": f"is it {name}?"}, {"role": "assistant", "text": answer}]
    return {"id": name, "key": key_of(name), "conversation": turns, "images": [], "length": len(name)}


@pytest.fixture
def read(tiny_llama: str, tmp_path: Path) -> Read:
    def of(*rows: dict[str, Any], max_length: int = 200) -> TrainingSamples:
        path = tmp_path / "samples.arrow"
        write_rows(path, [pa.Table.from_pylist(list(rows), schema=SAMPLE)])
        return TrainingSamples(str(path), loading.load_processor(tiny_llama), max_length)

    return of


def test_rows_come_in_the_order_of_their_keys_whatever_the_file_says(read: Read) -> None:
    rows = [row(name) for name in ("a", "bb", "ccc", "dddd")]
    part = MicroBatch((0, 1, 2, 3), (1, 1, 1, 1))
    forward, backward = read(*rows), read(*reversed(rows))
    assert forward.lengths_N.tolist() == backward.lengths_N.tolist()
    assert forward.lengths_N.tolist() == [one["length"] for one in sorted(rows, key=lambda one: one["key"])]
    assert torch.equal(forward.batch(part)["input_ids"], backward.batch(part)["input_ids"])


def test_a_row_of_weight_zero_has_no_response_token_then_or_later(read: Read) -> None:
    samples = read(row("a"), row("b"))
    both = samples.batch(MicroBatch((0, 1), (1, 1)))["response"]
    filled = samples.batch(MicroBatch((0, 1), (1, 0)))["response"]
    assert torch.equal(filled[0], both[0])
    assert both[1].any()
    assert not filled[1].any()
    assert torch.equal(samples.batch(MicroBatch((0, 1), (1, 1)))["response"], both)


def test_what_cannot_be_trained_on_is_named(read: Read) -> None:
    with pytest.raises(ValueError, match="no rows: there is nothing to train on"):
        read()
    with pytest.raises(ValueError, match="repeats 1 ids"):
        read(row("a"), row("a"))
    with pytest.raises(ValueError, match=r"sample 'long' was good when selected: .* more than the context of 40"):
        read(row("long", "no" * 40), max_length=40).batch(MicroBatch((0,), (1,)))
