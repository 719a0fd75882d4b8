"""An adapter that is handed on: named so that plain PEFT and servers find its modules, whole, and not silently the base."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel
from peft.tuners.tuners_utils import check_target_module_exists
from safetensors.torch import load_file, save_file

from liit.engine.evaluation.routed_model import RoutedModel
from liit.engine.handing import handing_on
from liit.engine.handing.adapter_folder import by_name
from liit.engine.handing.handing_on import hand_on
from liit.engine.handing.tensors import adapted
from liit.engine.models.experts import BASE, QUERIES, Experts
from liit.engine.models.loading import load_model
from liit.engine.run.files import read_json
from tests.engine.handing.made_up import change, made_up_run, questions, write_adapter

NAMES = st.lists(
    st.sampled_from(["tower", "model", "layers", "0", "1", "q_proj", "v_proj", "out"]), min_size=1, max_size=4
)


@given(st.sets(NAMES.map(".".join), min_size=1, max_size=14), st.data())
def test_names_and_exclusions_mean_exactly_the_adapted_modules_by_peft_s_own_rule(
    every: set[str], data: st.DataObject
) -> None:
    modules = data.draw(st.sets(st.sampled_from(sorted(every)), min_size=1))
    targets, excluded = by_name(modules, every)
    assert not [name for name in targets if "." in name]
    config = LoraConfig(target_modules=targets, exclude_modules=excluded)
    assert {name for name in every if check_target_module_exists(config, name)} == modules


@pytest.mark.parametrize("projector", [False, True])
def test_an_adapter_is_of_the_same_modules_and_tensors_and_names_its_base(
    tiny_llava: str, tmp_path: Path, projector: bool
) -> None:
    rate: dict[str, Any] = {"training__projector_learning_rate": 1e-3} if projector else {}
    run = made_up_run(tmp_path / "run", tiny_llava, **rate)
    handed = hand_on(run, tmp_path / "out", base="org/base")
    settings = read_json(handed.folder / "adapter_config.json")
    assert settings["base_model_name_or_path"] == "org/base"
    assert settings["target_modules"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert settings["exclude_modules"] == r"model\.vision_tower(\..*)?"  # whose linears have such names too
    mine, theirs = (load_file(one / "adapter_model.safetensors") for one in (handed.folder, run / "t02" / "adapter"))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())
    model = PeftModel.from_pretrained(load_model(tiny_llava), str(handed.folder))
    wrapped = {name.split(".lora_")[0] for name, _ in model.get_base_model().named_parameters() if ".lora_" in name}
    assert wrapped == adapted(mine)
    assert [line for line in handed.warnings if "vLLM refuses modules_to_save" in line] == handed.warnings[
        :1
    ] * projector


def test_tensors_that_are_empty_or_not_finite_are_named(tiny_llama: str, tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run", tiny_llama)
    held = load_file(run / "t02" / "adapter" / "adapter_model.safetensors")
    for merged in (False, True):
        change(run / "t01" / "adapter", layers__0__self_attn__q_proj__lora_B__weight=torch.empty(0))
        with pytest.raises(ValueError, match=r"tensors are empty: base_model.*layers\.0\.self_attn\.q_proj\.lora_B"):
            hand_on(run, tmp_path / "out", timestep=1, merged=merged, base="org/base")
        bad = torch.full_like(next(iter(held.values())), float("nan"))
        change(run / "t02" / "adapter", layers__1__mlp__up_proj__lora_A__weight=bad)
        with pytest.raises(ValueError, match=r"tensors are not finite: base_model.*layers\.1\.mlp\.up_proj\.lora_A"):
            hand_on(run, tmp_path / "out", merged=merged, base="org/base")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_an_adapter_that_answers_as_the_base_is_refused(tiny_llama: str, tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run", tiny_llama, scale=0)
    with pytest.raises(ValueError, match="answers a prompt as its base does"):
        hand_on(run, tmp_path / "out", base="org/base")


def test_names_that_the_base_does_not_know_are_refused(tiny_llama: str, tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run", tiny_llama)
    file = run / "t02" / "adapter" / "adapter_model.safetensors"
    save_file({name.replace("self_attn", "attention"): tensor for name, tensor in load_file(file).items()}, file)
    with pytest.raises(ValueError, match=r"the base has no module model\.layers\.0\.attention\.k_proj"):
        hand_on(run, tmp_path / "out", base="org/base")


def test_the_last_timestep_with_an_adapter_is_taken_and_others_by_name(tiny_llama: str, tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run", tiny_llama)
    assert hand_on(run, tmp_path / "last", base="org/base").t == 2
    assert hand_on(run, tmp_path / "first", timestep=1, base="org/base").t == 1
    with pytest.raises(ValueError, match="no adapter of timestep 0; those that have one are t1, t2"):
        hand_on(run, tmp_path / "none", timestep=0, base="org/base")


def test_what_cannot_be_named_or_written_is_refused_before_anything_is_loaded(tiny_llama: str, tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run", tiny_llama, training__modules=["made:up"])
    with pytest.raises(ValueError, match=r"an adapter names its base, and .* is a path of this machine"):
        hand_on(run, tmp_path / "out")
    with pytest.raises(ValueError, match=r"--base '/models/x' is a path of this machine"):
        hand_on(run, tmp_path / "out", base="/models/x")
    with pytest.raises(ValueError, match=r"training\.modules \(made:up\) are trained beside the model"):
        hand_on(run, tmp_path / "out", merged=True)
    assert "training.modules (made:up) are no part of" in hand_on(run, tmp_path / "out", base="org/base").warnings[0]
    with pytest.raises(ValueError, match="is there already and not empty"):
        hand_on(run, tmp_path / "out", base="org/base")
    (tmp_path / "empty").mkdir()
    assert any(hand_on(run, tmp_path / "empty", base="org/base").folder.iterdir())


@pytest.mark.parametrize("merged", [False, True])
def test_no_file_names_a_path_of_this_machine(tiny_llava: str, tmp_path: Path, merged: bool) -> None:
    own: dict[str, Any] = {"scoring__reference": tiny_llava, "tasks__image_encoder": str(tmp_path / "encoder")}
    run = made_up_run(tmp_path / "run", tiny_llava, **own)
    out = hand_on(run, tmp_path / "out", merged=merged, base="org/base").folder
    for file in out.rglob("*"):
        held = file.read_bytes()
        for place in (str(tmp_path), tiny_llava, str(Path.home()) + "/", str(Path.cwd())):
            assert place.encode() not in held, f"{file.name} names {place}"
    assert "reference: tiny-llava" in (out / "README.md").read_text()


def test_a_path_that_is_written_all_the_same_is_found(
    tiny_llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made_up_run(tmp_path / "run", tiny_llama)
    monkeypatch.setattr(handing_on, "write_card", lambda of, facts, to: (to / "README.md").write_text(str(run)))
    with pytest.raises(ValueError, match=r"README\.md would name"):
        hand_on(run, tmp_path / "out", base="org/base")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def experts(tmp_path: Path) -> Path:
    """A run on the digits with two experts of the language model, or of the projector."""
    run = made_up_run(tmp_path / "run", training__experts={"of": "language", "threshold": 1.0, "start": "base"})
    folder = run / "t02" / "adapter"
    for file in folder.iterdir():
        file.unlink()
    about = {
        "model": read_config(run)["model"] | {"path": "digits-base"},
        "tasks": {"image_encoder": None, "text_encoder": None},
    }
    draw = torch.Generator().manual_seed(0)
    tasks = {BASE: ("t0",), "words": ("t1",), "pairs": ("t2",)}
    keys = {name: {of: torch.randn(128, generator=draw).numpy() for of in QUERIES} for name in tasks}
    write_adapter(folder / "words", "digits-base", 0.05, seed=1)
    write_adapter(folder / "pairs", "digits-base", 0.05, seed=2, of="projector")
    Experts(folder, about, tasks, keys, ("pairs",)).save()
    return run


def read_config(run: Path) -> dict[str, dict[str, object]]:
    read: dict[str, dict[str, object]] = yaml.safe_load((run / "config.yaml").read_text())
    return read


def test_experts_are_an_adapter_each_with_their_keys(experts: Path, tmp_path: Path) -> None:
    handed = hand_on(experts, tmp_path / "out")
    asked = questions(tmp_path / "questions", 1)
    mine, theirs = RoutedModel(handed.folder), RoutedModel(experts / "t02" / "adapter")
    assert mine.route(asked) == theirs.route(asked)
    assert mine.answer(asked, 8) == theirs.answer(asked, 8)
    for name in ("words", "pairs"):
        PeftModel.from_pretrained(load_model("digits-base"), str(handed.folder), name, subfolder=name)
        settings = read_json(handed.folder / name / "adapter_config.json")
        assert settings["base_model_name_or_path"] == "digits-base"
    assert read_json(handed.folder / "pairs" / "adapter_config.json")["target_modules"] == ["linear_1", "linear_2"]
    assert [line.partition(":")[0] for line in handed.warnings] == ["expert pairs"]
    assert "linear_1" in handed.warnings[0]
    said = (handed.folder / "README.md").read_text()
    assert "- `words`: t1" in said
    assert 'subfolder="pairs"' in said


def test_experts_are_not_merged(experts: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds experts, of which each sample finds its own: no single set of weights"):
        hand_on(experts, tmp_path / "out", merged=True)


def test_the_card_says_what_the_run_says(tiny_llama: str, tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run", tiny_llama)
    results = read_json(run / "results.json")
    said = (hand_on(run, tmp_path / "out", base="org/base").folder / "README.md").read_text()
    assert said.startswith("---\nbase_model: org/base\nbase_model_relation: adapter\nlibrary_name: peft\n")
    assert "its licence is not known here" in said
    for t, (release, counts) in enumerate(zip(results["releases"], results["samples"], strict=True)):
        row = next(line for line in said.splitlines() if line.startswith(f"| t{t} | {release}"))
        assert f"| {counts['pool']} | {counts['quarantine']} | {counts.get('selection', 0)} |" in row
    for skill, value in results["accuracy"][-1].items():
        assert f"| {skill} | {results['per_skill'][skill]['base']:.1f} |" in said
        assert f"{value:.1f}" in said
    assert "Strategy `lite-adapt-inf`, budget 12 samples a timestep, pool pruned to 30 samples" in said
    assert "Made by LiIT 0.1.0, commit 912f73c, rules 1" in said
    early = (hand_on(run, tmp_path / "early", timestep=1, base="org/base").folder / "README.md").read_text()
    assert "| t1 | words" in early
    assert "| t2 |" not in early


def test_the_card_has_the_settings_of_its_timestep_and_no_word_of_what_was_withdrawn(
    tiny_llama: str, tmp_path: Path
) -> None:
    run = made_up_run(tmp_path / "run", tiny_llama, pool__withdrawals={1: ["id: words/7 # she asked"]})
    config = read_config(run) | {"from": {2: {"training.epochs": 3, "strategy": {"budget": 9}}}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    first, second = (
        (hand_on(run, tmp_path / f"out{t}", timestep=t, base="org/base").folder / "README.md").read_text()
        for t in (1, 2)
    )
    assert "budget 12 samples a timestep" in first
    assert "was trained on once.\n" in first
    assert "budget 9 samples a timestep" in second
    assert "was trained on 3 times. So it is at t2: other settings hold since t2" in second
    settings = yaml.safe_load(second.split("```yaml\n")[1].split("```")[0])
    assert settings["from"] == {2: {"training.epochs": 3, "strategy.budget": 9}}
    assert settings["training"]["epochs"] == 1
    assert "from" not in yaml.safe_load(first.split("```yaml\n")[1].split("```")[0])
    for said in (first, second):
        assert "she asked" not in said
        assert "withdraw" not in said


def test_a_base_s_own_card_says_its_licence(tiny_llama: str, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_llama, tmp_path / "base"))
    (base / "README.md").write_text("---\nlicense: other\nlicense_name: as-you-like\n---\n# Base\n")
    run = made_up_run(tmp_path / "run", str(base))
    said = (hand_on(run, tmp_path / "out", merged=True).folder / "README.md").read_text()
    assert "license: as-you-like" in said
    assert "`base` (its licence is as-you-like)" in said
    assert json.loads((tmp_path / "out" / "config.json").read_text()).get("_name_or_path") is None
