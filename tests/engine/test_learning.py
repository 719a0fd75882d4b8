"""Which adapter a training goes on from: the last that stands, or where the stream began."""

from pathlib import Path
from typing import Any

import pytest

from liit.engine import learning as module
from liit.engine.learning import Learning
from liit.engine.run.files import read_json, write_table
from liit.engine.run.store import Store
from liit.engine.run.tables import SELECTION
from liit.engine.settings.config import Config
from liit.engine.stages import Stages
from liit.engine.training.given_adapter import given
from tests.engine.training.given_adapters import save_adapter


@pytest.mark.parametrize("strategy", ["multi-task", "sequential"])
@pytest.mark.parametrize("begun", [True, False], ids=["from an adapter", "from the bare model"])
def test_what_starts_from_the_base_starts_from_the_adapter_that_was_given(
    tiny_llava: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, begun: bool
) -> None:
    """And what does not goes on from the last timestep's."""
    folder = save_adapter(tiny_llava, tmp_path / "theirs") if begun else None
    began: list[Path | None] = []

    def taught(rows: Any, count: int, t: int, parent: Path | None, config: Config, partial: Path, *_: object) -> None:
        began.append(parent)
        partial.mkdir()

    monkeypatch.setattr(module, "teach", taught)
    model = {"path": tiny_llava, "adapter": None if folder is None else str(folder)}
    later = {2: {"strategy": strategy}}
    config = Config.model_validate({"model": model, "strategy": {"name": "random"}, "from": later})
    store = Store(tmp_path / "run")
    base = given(config)
    learning = Learning(Stages(config, store), base)
    chosen = store.make("t01/selection.parquet", lambda partial, clock: write_table(partial, SELECTION.empty_table()))
    first = learning.train(1, chosen, base)
    learning.train(2, chosen, first)
    store.close()
    last = first.path if strategy == "sequential" else folder
    assert began == [folder, last]
    for t, start in ((1, folder), (2, last)):
        inside = "t01/adapter" if start == first.path else str(start)
        wanted = ["t01/selection.parquet", *([] if start is None else [inside])]
        assert read_json(store.root / f"t0{t}/adapter.made.json")["parents"] == wanted
