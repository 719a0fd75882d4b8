"""Merged weights are W + s B A in float32, cast once; what the cast loses is counted; nothing of the base stays behind."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from liit.engine.evaluation.answering import end_ids
from liit.engine.evaluation.merging import Cast, merge_into
from liit.engine.handing import handing_on
from liit.engine.handing.handing_on import hand_on
from liit.engine.models.loading import load_model, load_processor
from liit.engine.run.files import read_json, write_json
from tests.engine.handing.made_up import made_up_run, naive, write_adapter
from tests.killed import killed_everywhere


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("projector", [False, True])
def test_merged_weights_are_those_of_the_formula_cast_once(
    tiny_llava: str, tmp_path: Path, dtype: str, projector: bool
) -> None:
    write_adapter(tmp_path / "adapter", tiny_llava, 0.03, seed=1, projector=projector)
    base = load_model(tiny_llava, dtype=dtype)
    expected = naive(base, tmp_path / "adapter")
    before = {name: parameter.detach().clone() for name, parameter in base.named_parameters()}
    merged, cast = merge_into(base, tmp_path / "adapter")
    found = dict(merged.named_parameters())
    assert found.keys() == before.keys()
    exact = {name: weight for name, weight in expected.items() if not torch.equal(weight, before[name].float())}
    for name, weight in expected.items():
        torch.testing.assert_close(found[name], weight.to(before[name].dtype), rtol=1e-6, atol=1e-7)
    changed = {name: weight != before[name].float() for name, weight in exact.items()}
    lost = {name: changed[name] & (found[name] == before[name]) for name in exact}
    assert cast.dtype == dtype
    assert cast.updated == pytest.approx(sum(int(one.sum()) for one in changed.values()), rel=1e-3)
    assert cast.lost == pytest.approx(sum(int(one.sum()) for one in lost.values()), rel=1e-2)
    errors = {
        name: float((found[name].float() - weight).norm() / (weight - before[name].float()).norm())
        for name, weight in exact.items()
    }
    if dtype == "float32":
        assert (cast.error, cast.lost) == (0, 0)
    else:
        assert cast.error == pytest.approx(max(errors.values()), rel=1e-3)
        assert cast.where == max(errors, key=lambda name: errors[name])
    assert any("multi_modal_projector" in name for name in exact) == projector


def test_updates_smaller_than_a_rounding_step_are_counted_as_lost() -> None:
    before = torch.full((4,), 1.0, dtype=torch.bfloat16)
    cast = Cast()
    after = cast.add("w", before, torch.tensor([1.0, 1.0 + 2**-10, 1.0 + 2**-9, 1.5]))
    assert after.tolist() == [1.0, 1.0, 1.0, 1.5]  # a step of bfloat16 at 1 is 2^-7
    assert (cast.updated, cast.lost) == (3, 2)
    assert cast.lost_share == pytest.approx(2 / 3)
    assert cast.error == pytest.approx(((2**-20 + 2**-18) / (2**-20 + 2**-18 + 0.25)) ** 0.5)


def half(folder: Path, model: str) -> str:
    """The same model, stored in bfloat16."""
    load_model(model, dtype="bfloat16").save_pretrained(folder)  # type: ignore[operator]
    load_processor(model).save_pretrained(folder)
    return str(folder)


def test_a_merge_that_the_cast_undoes_is_refused_and_leaves_nothing(tiny_llama: str, tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run", half(tmp_path / "half", tiny_llama), scale=1e-10)
    with pytest.raises(ValueError, match=r"answers as its base does: the cast loses (9\d|100)\.\d% of the updates"):
        hand_on(run, tmp_path / "out", merged=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half", "run"]


def stored(folder: Path) -> list[str]:
    """The tensors in the files of a folder, each as often as it is there."""
    names: list[str] = []
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as held:
            names += held.keys()
    return names


@pytest.mark.parametrize("tied", [False, True])
def test_embeddings_are_stored_once_where_they_are_tied_and_twice_where_not(
    tiny_llama: str, tmp_path: Path, tied: bool
) -> None:
    base = AutoModelForCausalLM.from_pretrained(tiny_llama)
    if tied:
        base.config.tie_word_embeddings = True
        base.tie_weights()
    base.save_pretrained(tmp_path / "base")
    AutoTokenizer.from_pretrained(tiny_llama).save_pretrained(tmp_path / "base")
    run = made_up_run(tmp_path / "run", str(tmp_path / "base"))
    out = hand_on(run, tmp_path / "out", merged=True).folder
    names = stored(out)
    assert len(names) == len(set(names))
    assert ("lm_head.weight" in names, "model.embed_tokens.weight" in names) == (not tied, True)
    model = AutoModelForCausalLM.from_pretrained(out)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) == tied
    assert read_json(out / "config.json")["tie_word_embeddings"] == tied


def test_weights_are_in_shards_that_an_index_names(
    tiny_llama: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made_up_run(tmp_path / "run", tiny_llama)
    whole = hand_on(run, tmp_path / "whole", merged=True).folder
    monkeypatch.setattr(handing_on, "SHARD", "60KB")
    out = hand_on(run, tmp_path / "out", merged=True).folder
    index = read_json(out / "model.safetensors.index.json")["weight_map"]
    assert len(set(index.values())) == len(list(out.glob("model-*.safetensors"))) > 1
    together = {name: tensor for file in out.glob("*.safetensors") for name, tensor in load_file(file).items()}
    one = load_file(whole / "model.safetensors")
    assert together.keys() == one.keys() == index.keys()
    assert all(torch.equal(tensor, one[name]) for name, tensor in together.items())


def test_files_of_processor_and_licence_come_along_without_paths_of_others(tiny_llava: str, tmp_path: Path) -> None:
    base = Path(shutil.copytree(tiny_llava, tmp_path / "base"))
    (base / "LICENSE.txt").write_text("as you like\n")
    (base / "preprocessor_config.json").write_text(
        json.dumps(read_json(base / "processor_config.json")["image_processor"])
    )
    (base / "video_preprocessor_config.json").write_text("{}")
    (base / "trainer_state.json").write_text('{"best": "/data/best"}')
    told = read_json(base / "tokenizer_config.json")
    write_json(base / "tokenizer_config.json", told | {"name_or_path": "/root/their/model"})
    run = made_up_run(tmp_path / "run", str(base))
    out = hand_on(run, tmp_path / "out", merged=True).folder
    kept = {"LICENSE.txt", "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json"}
    assert kept <= {path.name for path in out.iterdir()}
    assert not (out / "trainer_state.json").exists()
    assert read_json(out / "tokenizer_config.json") == told
    for name in kept:
        assert (out / name).read_bytes() == (base / name).read_bytes()


def test_a_processor_that_does_not_read_as_the_run_s_is_refused(
    tiny_llava: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made_up_run(tmp_path / "run", tiny_llava)
    write = handing_on.write_base_files

    def forgetful(*arguments: object, **named: object) -> None:
        write(*arguments, **named)  # type: ignore[arg-type]
        held = read_json(tmp_path / ".out.partial" / "processor_config.json")
        held["image_processor"]["image_mean"] = [0.1, 0.1, 0.1]
        write_json(tmp_path / ".out.partial" / "processor_config.json", held)

    monkeypatch.setattr(handing_on, "write_base_files", forgetful)
    with pytest.raises(ValueError, match="a file of the base did not come along"):
        hand_on(run, tmp_path / "out", merged=True)


DATED = "{{ strftime_now('%d %B %Y') }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"  # noqa: E501


@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("template", [None, DATED], ids=["without a template", "one that asks for the date"])
def test_the_chat_template_is_the_run_s(tiny_llama: str, tmp_path: Path, template: str | None, merged: bool) -> None:
    base = Path(shutil.copytree(tiny_llama, tmp_path / "base"))
    told = read_json(base / "tokenizer_config.json")
    told.pop("chat_template", None)
    (base / "chat_template.jinja").unlink(missing_ok=True)
    write_json(base / "tokenizer_config.json", told | ({"chat_template": template} if template else {}))
    run = made_up_run(tmp_path / "run", str(base), model__date="2026-05-01")
    out = hand_on(run, tmp_path / "out", merged=merged, base="org/base").folder
    talk = [{"role": "user", "content": "Hi"}]
    text = AutoTokenizer.from_pretrained(out).apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
    assert text == ("01 May 2026[user] Hi</s>[assistant]" if template else "USER: Hi\nASSISTANT:")
    assert "chat_template" not in read_json(out / "tokenizer_config.json")


@pytest.mark.parametrize("merged", [False, True])
def test_generation_settings_are_the_base_s_with_the_end_of_a_turn(
    tiny_llama: str, tmp_path: Path, merged: bool
) -> None:
    base = Path(shutil.copytree(tiny_llama, tmp_path / "base"))
    published = {"temperature": 0.6, "top_p": 0.9, "do_sample": False, "eos_token_id": 7, "max_length": 99}
    write_json(base / "generation_config.json", published)  # which transformers itself refuses to save
    run = made_up_run(tmp_path / "run", str(base))
    out = hand_on(run, tmp_path / "out", merged=merged, base="org/base").folder
    found = read_json(out / "generation_config.json")
    ends = sorted(end_ids(load_model(str(base)), load_processor(str(base))))
    assert ends == [2, 7]
    assert found == published | {"eos_token_id": ends, "pad_token_id": 0}
    assert GenerationConfig.from_pretrained(out).eos_token_id == ends


def test_a_model_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    made_up_run(tmp_path / "start" / "run")

    def hand(room: Path) -> None:
        hand_on(room / "run", room / "model", base="org/base")

    for room in killed_everywhere(tmp_path / "start", tmp_path / "ends", hand, every=1000):
        if not (room / "model").exists():
            hand(room)
        assert {path.name for path in room.iterdir()} == {"run", "model"}
        assert files_in(room / "model") == files_in(tmp_path / "ends" / "whole" / "model")


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
