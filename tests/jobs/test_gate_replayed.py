"""A run with a gate is replayed by its `config.yaml` alone, whatever was asked, and judged how, when its adapters were made."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from liit.engine.data.readers.formats import read as rows_of
from liit.engine.lasting.continuing import continued
from liit.engine.lifelong import run
from liit.engine.main import begin
from liit.engine.plan import plan
from liit.engine.run.store import Store
from liit.engine.settings.config import Config, read
from liit.engine.settings.streams import EvaluationSet
from tests.engine.training.given_adapters import save_taught

pytestmark = [pytest.mark.long, pytest.mark.usefixtures("ray_cluster")]


@pytest.fixture(scope="module")
def judged(settings: dict[str, Any], tiny_llava: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A run from an adapter that knows the colours, whose timesteps lose them and fall: what it was told."""
    folder = tmp_path_factory.mktemp("judged")
    exam = EvaluationSet.model_validate(settings["stream"]["evaluations"][0])
    adapter = save_taught(tiny_llava, folder / "team", [dict(one) for one in rows_of(exam)], steps=60)  # type: ignore[arg-type]
    gate = [{"skill": "*", "drop": 5}]
    told = settings | {
        "model": settings["model"] | {"adapter": str(adapter)},
        "training": settings["training"] | {"learning_rate": 1.0, "gate": gate},
        "output": str(folder / "run"),
    }
    assert go(continued(Config.model_validate(told)))["gate"]["stands"] == [0, 0, 0]
    return told


def go(config: Config) -> dict[str, Any]:
    found, store = plan(config), Store(config.output)
    begin(config, store, found)
    results = run(config, store)
    store.close()
    return results


def trained(folder: Path) -> dict[str, str]:
    files = [*folder.glob("t*/adapter/*.safetensors"), *folder.glob("t*/selection.parquet")]
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_what_fell_by_a_set_that_is_gone_falls_in_a_replay_too(judged: dict[str, Any], tmp_path: Path) -> None:
    folder = Path(judged["output"])
    before, verdicts = trained(folder), [json.loads((folder / f"t0{t}/gate.json").read_text()) for t in (1, 2)]
    fewer = judged | {"stream": judged["stream"] | {"evaluations": judged["stream"]["evaluations"][1:]}}
    config = continued(Config.model_validate(fewer))
    assert not plan(config).superseding
    assert go(config)["gate"]["stands"] == [0, 0, 0]
    assert trained(folder) == before

    again = continued(read(folder / "config.yaml", [f"output={tmp_path / 'again'}"]))
    assert sorted(again.verdicts) == [1, 2]
    results = go(again)
    assert list(results["accuracy"][0]) == ["sum"], "nothing of today asks for colours"
    assert results["gate"]["stands"] == [0, 0, 0]
    assert [json.loads((tmp_path / f"again/t0{t}/gate.json").read_text()) for t in (1, 2)] == verdicts
    assert trained(tmp_path / "again") == before
    assert continued(read(tmp_path / "again/config.yaml", [])).verdicts == again.verdicts


def test_a_verdict_is_of_the_adapter_and_the_bounds_that_were_judged(judged: dict[str, Any]) -> None:
    told = continued(Config.model_validate(judged))
    assert set(told.verdicts) == {1, 2}
    other = judged | {"training": judged["training"] | {"gate": [{"skill": "*", "drop": 100}]}}
    found = plan(continued(Config.model_validate(other)))
    assert found.verdicts["t01/gate.json"].state == "extended"
    assert "t01/adapter has a part in it now" in found.verdicts["t02/adapter"].reasons, "judged anew, it stands"
