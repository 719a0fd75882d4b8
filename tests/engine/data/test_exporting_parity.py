"""What is exported is what the other trainers' own loaders make of it; those that are not installed are said.

LLaVA's trainer is in no package: its rules are stated here (llava/train/train.py, `LazySupervisedDataset`,
`preprocess_multimodal`, `preprocess_v1`).
"""

import json
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from tests.engine.data.exports import Seen, exported, made, seen, wanted

pytestmark = pytest.mark.filterwarnings("default")
"""Other packages' warnings are theirs."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, value in {
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "MODELSCOPE_CACHE": str(tmp_path / "ms"),
    }.items():
        monkeypatch.setenv(name, value)
    return made(tmp_path)


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    found = pytest.importorskip("datasets", reason="datasets is not installed")
    monkeypatch.setattr(found.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return found


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """LLaMA-Factory imports torchaudio for sound, which no sample has; its absence must not keep the rest from being run."""
    pytest.importorskip("llamafactory", reason="llamafactory is not installed")
    if find_spec("torchaudio") is None:
        import transformers.utils.import_utils as known

        known.is_torchaudio_available()  # its answer is kept
        absent = ModuleType("torchaudio")
        absent.__spec__ = ModuleSpec("torchaudio", None)
        monkeypatch.setitem(sys.modules, "torchaudio", absent)


@pytest.mark.parametrize("copy", [True, False], ids=["copied", "referenced"])
def test_llava_is_what_its_trainer_reads(copy: bool, run: Path, tmp_path: Path) -> None:
    path = exported(run, "llava", tmp_path / "out", *(["--copy-images"] if copy else []))
    expected = wanted(run, "llava")
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert {row["id"] for row in rows} == set(expected)
    for row in rows:
        turns, pictures = expected[row["id"]]
        assert [turn["from"] for turn in row["conversations"]] == ["human", "gpt"] * (len(turns) // 2)
        assert [turn["value"] for turn in row["conversations"]] == [text for _, text, _ in turns]
        assert ("image" in row) == bool(pictures)
        assert sum(turn["value"].count("<image>") for turn in row["conversations"]) == len(pictures)
        if pictures:
            assert Path(row["image"]).is_absolute() != copy
            assert seen(str(tmp_path / "out" / row["image"])) == pictures[0]


@pytest.mark.parametrize("copy", [True, False], ids=["copied", "referenced"])
@pytest.mark.usefixtures("silent")
def test_sharegpt_is_what_llama_factory_reads(copy: bool, run: Path, tmp_path: Path, datasets: Any) -> None:
    loader = import_module("llamafactory.data.loader")
    plugins, parser = import_module("llamafactory.data.mm_plugin"), import_module("llamafactory.data.parser")

    output = tmp_path / "out"
    exported(run, "sharegpt", output, *(["--copy-images"] if copy else []))
    (entry,) = parser.get_dataset_list(["run-t01-sharegpt"], str(output))
    data = SimpleNamespace(dataset_dir=str(output), media_dir=str(output), preprocessing_num_workers=None)
    data.streaming, data.max_samples, data.overwrite_cache = False, None, True
    model = SimpleNamespace(cache_dir=str(tmp_path / "cache"), hf_hub_token=None)
    read = loader._load_single_dataset(entry, model, data, SimpleNamespace(local_process_index=0))
    names = [row["id"] for row in json.loads((output / "run-t01-sharegpt.json").read_text(encoding="utf-8"))]
    found: dict[str, Seen] = {}
    for name, row in zip(names, read, strict=True):
        spoken, images = row["_prompt"] + row["_response"], row["_images"] or []
        assert len(row["_response"]) == 1, "it skips a broken sample by emptying it"
        plugins.get_mm_plugin("llava", image_token="<image>")._validate_messages(spoken, images, [], [])
        system = [("system", row["_system"], False)] if row["_system"] else []
        found[name] = system + [(t["role"], t["content"], False) for t in spoken], [seen(image) for image in images]
    assert found == wanted(run, "sharegpt")


def test_swift_is_what_ms_swift_reads(run: Path, tmp_path: Path, datasets: Any) -> None:
    swift = pytest.importorskip("swift.dataset", reason="ms-swift is not installed")
    inputs = import_module("swift.template").StdTemplateInputs

    path = exported(run, "swift", tmp_path / "out")
    names = [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]
    read, _ = swift.load_dataset(str(path), strict=True, load_from_cache_file=False)
    found: dict[str, Seen] = {}
    for name, row in zip(names, read, strict=True):
        given = inputs.from_dict(row)
        turns = [(turn["role"], turn["content"], turn.get("loss") is False) for turn in given.messages]
        system = [("system", given.system, False)] if given.system is not None else []
        found[name] = system + turns, [seen({**image}) for image in given.images]
    assert found == wanted(run, "swift")


def test_what_is_context_has_no_loss_in_ms_swift(run: Path, tmp_path: Path) -> None:
    scale = pytest.importorskip("swift.loss_scale", reason="ms-swift is not installed")
    kind = import_module("swift.template.utils").ContextType

    path = exported(run, "swift", tmp_path / "out")
    rows = {row["id"]: row for row in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    messages = rows["words/told"]["messages"]
    kinds = [kind.OTHER, kind.RESPONSE] * 2
    told, weights = scale.LossScale("default")([turn["content"] for turn in messages], kinds, messages)
    assert dict(zip(told, weights, strict=True)) == {"A?": 0.0, "a": 0.0, "B?": 0.0, "b": 1.0}


def test_trl_is_what_its_collator_is_given(run: Path, tmp_path: Path, datasets: Any) -> None:
    trl = pytest.importorskip("trl.data_utils", reason="trl is not installed")

    path = exported(run, "trl", tmp_path / "out")
    read = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"))
    assert read.features["images"] in (datasets.Sequence(datasets.Image()), [datasets.Image()])
    found: dict[str, Seen] = {}
    for row in read:
        assert trl.is_conversational(row)
        turns, pictures = [], []
        for message in trl.prepare_multimodal_messages(row["messages"], images=row["images"]):
            shown = [part["image"] for part in message["content"] if part["type"] == "image"]
            assert all(isinstance(image, Image.Image) for image in shown)
            pictures += [image.convert("RGB").tobytes() for image in shown]
            text = "".join("<image>" if part["type"] == "image" else part["text"] for part in message["content"])
            turns.append((message["role"], text, False))
        found[row["id"]] = turns, pictures
    assert found == wanted(run, "trl")
