"""What a server is given answers as the built-in engine does, in each form, before anything was trained too; or it is refused."""

import importlib.util
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from liit.engine.evaluation.answering import Answerer
from liit.engine.evaluation.served import Served
from liit.engine.handing.to_serve import to_serve
from liit.engine.models.loading import load_model
from liit.engine.settings.config import Config
from liit.engine.settings.streams import Server
from tests.engine.handing.made_up import questions, write_adapter

ROOT = Path(__file__).resolve().parents[3]
OF_ADAPTER = (
    f"env PYTHONPATH={ROOT} {sys.executable} -W ignore -m tests.engine.handing.adapter_server "
    "{model} {adapter} liit {port}"
)
OF_MERGED = (
    f"{Path(sys.executable).with_name('transformers')} serve {{merged}} --host 127.0.0.1 --port {{port}} --device cpu"
)
FORMS: dict[str, dict[str, Any]] = {
    "adapter": {"command": OF_ADAPTER, "name": "liit"},
    "merged": {"command": OF_MERGED},
}


def config_of(model: str = "digits-base", **more: Any) -> Config:
    return Config.model_validate({"model": {"path": model, "max_length": 400, **more}})


@pytest.mark.parametrize(
    ("form", "taught"), [("adapter", True), pytest.param("adapter", False, marks=pytest.mark.long), ("merged", False)]
)
def test_each_form_answers_as_the_built_in_engine_does_with_and_without_an_adapter(
    tmp_path: Path, form: str, taught: bool
) -> None:
    """The merged one with an adapter: tests/engine/evaluation/test_served.py."""
    needed = ("fastapi", "uvicorn", "openai") if form == "merged" else ()
    if lacking := [name for name in needed if importlib.util.find_spec(name) is None]:
        pytest.skip(f"`transformers serve` needs {lacking[0]}: pip install 'transformers[serving]'")
    write_adapter(tmp_path / "adapter", "digits-base", 0.03, seed=1)
    adapter, config = tmp_path / "adapter" if taught else None, config_of()
    rows = [{**row, "dataset": ""} for row in questions(tmp_path, 3)]
    told = config.model.model_dump(include={"path", "revision", "dtype", "attention"})
    own = Answerer(told, None if adapter is None else str(adapter), 400, {"": 12}).answer(rows)
    assert len(set(own)) > 1
    assert (own != Answerer(told, None, 400, {"": 12}).answer(rows)) == taught

    server = Server.model_validate({**FORMS[form], "in_flight": 2, "start_s": 300}).model_dump()
    places = to_serve(server["command"], adapter, config, tmp_path / "served")
    assert places == to_serve(server["command"], adapter, config, tmp_path / "served"), (
        "it is there, and is not made anew"
    )
    one = Served(server, places, str(tmp_path), {"": 12}, {"path": "digits-base", "revision": None})
    try:
        assert one.whole([rows])["answer"].to_pylist() == own
    finally:
        one.serving.stop()
    assert one.serving.ended


def test_a_fresh_adapter_changes_nothing_and_is_of_what_training_adapts(tiny_llava: str, tmp_path: Path) -> None:
    config = config_of(tiny_llava)
    places = to_serve("{model} {adapter} {port}", None, config, tmp_path)
    assert places == {"model": tiny_llava, "adapter": str(tmp_path / "adapter")}
    model: Any = load_model(tiny_llava, adapter=places["adapter"])
    adapted = {name for name, _ in model.named_parameters() if "lora_B" in name}
    assert len(adapted) == 3 * 7, "every linear of each layer of its language model, and of its vision tower none"
    weights = dict(model.named_parameters())
    assert not any(weights[name].any() for name in adapted)


def test_what_cannot_answer_as_the_engine_does_is_refused(tiny_llama: str, tmp_path: Path) -> None:
    made = get_peft_model(load_model(tiny_llama), LoraConfig(r=2, use_dora=True, target_modules=["q_proj"]))
    made.save_pretrained(tmp_path / "dora", save_embedding_layers=False)
    with pytest.raises(ValueError, match=r"no plain LoRA of a linear; use \{model\} and \{adapter\}"):
        to_serve("{merged} {port}", tmp_path / "dora", config_of(tiny_llama), tmp_path / "a")
    write_adapter(tmp_path / "small", tiny_llama, 1e-5, seed=1)
    with pytest.raises(ValueError, match="the cast to bfloat16 would lose"):
        to_serve("{merged} {port}", tmp_path / "small", config_of(tiny_llama, dtype="bfloat16"), tmp_path / "b")
    (tmp_path / "experts").mkdir()
    (tmp_path / "experts" / "experts.json").write_text("{}")
    with pytest.raises(ValueError, match="holds experts"):
        to_serve("{merged} {port}", tmp_path / "experts", config_of(tiny_llama), tmp_path / "c")
    with pytest.raises(ValueError, match=r"model.revision is 0123abc, which a server of \{model\} is not told"):
        to_serve("{model} {adapter} {port}", None, config_of("org/base", revision="0123abc"), tmp_path / "d")
    assert not any((tmp_path / name / "merged").exists() for name in "abcd")


def test_what_a_server_would_leave_out_of_an_adapter_is_said(
    tiny_llava: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "liit")
    write_adapter(tmp_path / "adapter", tiny_llava, 0.03, seed=1, projector=True)
    to_serve("{model} {adapter} {port}", tmp_path / "adapter", config_of(tiny_llava), tmp_path / "served")
    assert "vLLM refuses modules_to_save (multi_modal_projector)" in caplog.text
    weights = load_model(tiny_llava, adapter=str(tmp_path / "served" / "adapter")).state_dict()
    other = load_model(tiny_llava, adapter=str(tmp_path / "adapter")).state_dict()
    assert all(torch.equal(weights[name], other[name]) for name in other)
