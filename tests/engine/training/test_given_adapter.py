"""A stream goes on from an adapter that a team has: of the shape that training makes, else every difference is said."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from liit.engine.health.at_hand import look_for_models
from liit.engine.preflight import check_model
from liit.engine.run.fingerprints import fingerprint
from liit.engine.run.store import Made, Store
from liit.engine.settings.config import Config, ConfigError, read
from liit.engine.settings.sections import Model
from liit.engine.settings.settling import settle
from liit.engine.training.given_adapter import check_given, given
from tests.engine.training.given_adapters import save_adapter, save_other

PLAIN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


@pytest.fixture(scope="module")
def adapter(tiny_llava: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that fits `configured`."""
    return save_adapter(tiny_llava, tmp_path_factory.mktemp("given") / "adapter")


def configured(model: str, folder: Path, **training: Any) -> Config:
    lora = {"r": 4, "alpha": 8, "dropout": 0.1}
    return Config.model_validate(
        {"model": {"path": model, "adapter": str(folder)}, "training": {"lora": lora, **training}}
    )


def refusal(config: Config) -> str:
    with pytest.raises(ConfigError, match=r"^model\.adapter ") as refused:
        check_given(config)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def edited(adapter: Path, folder: Path, **changes: Any) -> Path:
    """A copy with other entries in its configuration."""
    shutil.copytree(adapter, folder)
    about = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(about | changes))
    return folder


def test_one_that_fits_is_taken_for_what_is_in_it_wherever_it_lies(
    tiny_llava: str, adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    check_model(configured(tiny_llava, adapter))
    found = given(configured(tiny_llava, adapter))
    assert found is not None
    assert found.path == adapter
    moved = given(configured(tiny_llava, Path(shutil.copytree(adapter, tmp_path / "moved"))))
    assert moved is not None
    assert moved.fingerprint == found.fingerprint
    weights = load_file(adapter / WEIGHTS)
    first = next(iter(weights))
    save_file(weights | {first: weights[first] * 1.0001}, tmp_path / "moved" / WEIGHTS)
    other = given(configured(tiny_llava, tmp_path / "moved"))
    config = given(configured(tiny_llava, edited(adapter, tmp_path / "edited", peft_version="0")))
    assert other is not None
    assert config is not None
    assert len({found.fingerprint, other.fingerprint, config.fingerprint}) == 3
    assert given(Config()) is None
    check_given(Config())


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"r": 2}, [r"training\.lora\.r is 4, the adapter's is 2"]),
        (
            {"r": 2, "alpha": 16.5},
            [r"lora\.r is 4, the adapter's is 2; training\.lora\.alpha is 8, the adapter's is 16\.5"],
        ),
        ({"dropout": 0.0}, [r"training\.lora\.dropout is 0\.1, the adapter's is 0"]),
        (
            {"targets": ("q_proj",)},
            [r"does not adapt model\.language_model\.layers\.0\.mlp\.down_proj, .* and 15 more, which training does"],
        ),
        (
            {"projector": True},
            [r"it adapts model\.multi_modal_projector\.linear_1, .*linear_2, which training does not"],
        ),
    ],
)
def test_another_shape_is_refused_with_every_difference(
    tiny_llava: str, tmp_path: Path, made: dict[str, Any], says: list[str]
) -> None:
    found = refusal(configured(tiny_llava, save_adapter(tiny_llava, tmp_path / "adapter", **made)))
    assert all(re.search(one, found) for one in says), found


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"target_modules": PLAIN}, r"it adapts model\.vision_tower\..*, which training does not"),
        ({"target_modules": r".*language_model.*_proj", "use_rslora": True}, r"its use_rslora is True, which the LoRA"),
        (
            {"target_modules": r".*language_model.*_proj", "alpha_pattern": {"q_proj": 4}},
            r"its alpha_pattern is \{'q_proj': 4\}",
        ),
    ],
)
def test_what_peft_can_and_training_here_cannot_is_refused(
    tiny_llava: str, tmp_path: Path, made: dict[str, Any], says: str
) -> None:
    found = refusal(configured(tiny_llava, save_other(tiny_llava, tmp_path / "adapter", **made)))
    assert re.search(says, found), found


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"init_lora_weights": "pissa"}, "its init_lora_weights is 'pissa', which changes the base model"),
        ({"target_modules": [*PLAIN, "lm_head"]}, "lm_head"),
        ({"target_modules": ["nowhere"]}, "nowhere"),
        ({"peft_type": "IA3"}, "its peft_type is IA3; a stream goes on from LORA"),
        ({"an_option_of_tomorrow": 3}, "its an_option_of_tomorrow is 3, which the LoRA that is trained here has not"),
        ({"r": 2, "base_model_name_or_path": "acme/other"}, r"the adapter's is 2; it is of acme/other, model.path is "),
    ],
)
def test_a_configuration_that_says_otherwise_than_the_weights_is_refused(
    tiny_llava: str, adapter: Path, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    assert says in refusal(configured(tiny_llava, edited(adapter, tmp_path / "adapter", **changes)))


def test_weights_that_lack_or_have_another_size_are_refused(tiny_llava: str, adapter: Path, tmp_path: Path) -> None:
    folder = edited(adapter, tmp_path / "adapter")
    weights = load_file(folder / WEIGHTS)
    name = next(one for one in sorted(weights) if "lora_A" in one)
    save_file({one: value for one, value in weights.items() if one != name}, folder / WEIGHTS)
    assert f"{name}: in one of the two alone" in refusal(configured(tiny_llava, folder))
    save_file(weights | {name: weights[name][:, :8].contiguous()}, folder / WEIGHTS)
    assert f"{name} is of shape (4, 8), this model's of (4, " in refusal(configured(tiny_llava, folder))
    (folder / WEIGHTS).write_bytes(b"torn")
    assert f"{WEIGHTS} cannot be read" in refusal(configured(tiny_llava, folder))
    (folder / WEIGHTS).rename(folder / "adapter_model.bin")
    assert "its weights are pickled; save them as safetensors" in refusal(configured(tiny_llava, folder))
    (folder / CONFIG).write_text("{")
    (folder / "adapter_model.bin").rename(folder / WEIGHTS)
    assert f"{CONFIG} is damaged" in refusal(configured(tiny_llava, folder))
    assert "no adapter_config.json there" in refusal(configured(tiny_llava, tmp_path))


def test_what_is_trained_or_scored_beside_the_lora_must_be_there(
    tiny_llava: str, adapter: Path, tmp_path: Path
) -> None:
    assert "it does not adapt model.multi_modal_projector" in refusal(
        configured(tiny_llava, adapter, projector_learning_rate=1e-5)
    )
    check_given(
        configured(tiny_llava, save_adapter(tiny_llava, tmp_path / "p", projector=True), projector_learning_rate=1)
    )
    assert "and it has no modules.safetensors" in refusal(configured(tiny_llava, adapter, modules=("a:b",)))
    folder = edited(adapter, tmp_path / "adapter")
    (folder / "modules.safetensors").touch()
    assert "training.modules are [], and it has a modules.safetensors" in refusal(configured(tiny_llava, folder))
    sketch = {"gradient": {"gradient": "adam", "parameters": "lora"}}
    config = Config.model_validate(configured(tiny_llava, adapter).model_dump() | {"scoring": sketch})
    assert "it has no moments.safetensors, which adam gradients are made with" in refusal(config)


def test_another_base_model_of_the_same_shape_is_said(
    tiny_llava: str, adapter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("liit.engine.training.given_adapter.log.propagate", True)
    check_given(configured(tiny_llava, adapter))
    assert not caplog.records
    check_given(configured(tiny_llava, edited(adapter, tmp_path / "adapter", base_model_name_or_path="acme/other")))
    [said] = {record.getMessage() for record in caplog.records}
    assert "it is of acme/other, model.path is " in said


def test_it_is_refused_with_experts_and_before_a_run_starts(
    tiny_llava: str, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from liit.engine.main import REFUSED, Wanted, main

    own = [f"model.path={tiny_llava}", f"model.adapter={adapter}", "training.lora={r: 8, alpha: 8, dropout: 0.1}"]
    with pytest.raises(ConfigError, match=r"model\.adapter is one adapter, which training\.experts begins without"):
        settle([*own, "training.experts={}"], None)
    assert main(Wanted(own, str(tmp_path / "run"))) == REFUSED
    assert "training.lora.r is 8, the adapter's is 4" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    wrong, lying = look_for_models(read(None, own))
    assert any("training.lora.r is 8, the adapter's is 4" in line for line in wrong)
    assert str(adapter) in lying, "every node has to see it"


def test_without_one_nothing_was_made_from_another_word_than_before(tmp_path: Path) -> None:
    assert fingerprint(Model(adapter="/somewhere").bare()) == fingerprint(Model().bare())
    assert Model().bare() == Model().model_dump(mode="json", exclude={"adapter"})
    store = Store(tmp_path / "run")
    outside = Made(tmp_path / "adapter", "mark")
    mine = store.make("t01/adapter", lambda partial, clock: partial.touch(), parents=(outside,))
    store.make("t02/adapter", lambda partial, clock: partial.touch(), parents=(mine,))
    parents = [json.loads((store.root / f"t0{t}/adapter.made.json").read_text())["parents"] for t in (1, 2)]
    assert parents == [[str(tmp_path / "adapter")], ["t01/adapter"]]
    store.close()
