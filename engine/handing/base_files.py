"""What of the base stands beside weights or an adapter: processor, tokenizer, chat template, generation settings, licence.

Files are copied as the base has them, for whoever reads them by name, and the chat template is the one that the run used.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Protocol

from transformers import GenerationConfig

from liit.engine.evaluation.answering import end_ids
from liit.engine.models import processors
from liit.engine.models.encoding import pad_id_of
from liit.engine.run.files import read_json, write_json

STARTS = (
    "added_tokens",
    "chat_template",
    "merges",
    "normalizer",
    "preprocessor_config",
    "processor_config",
    "sentencepiece",
    "special_tokens_map",
    "spiece",
    "tekken",
    "tokenizer",
    "video_preprocessor_config",
    "vocab",
)
"""How the names of a processor's files begin."""
LICENCES = ("license", "notice", "use_policy")
FOLDERS = ("additional_chat_templates", "qformer_tokenizer")
TEMPLATE = "chat_template.jinja"
PATHS = ("_name_or_path", "name_or_path", "special_tokens_map_file", "tokenizer_file")
"""Keys of a JSON file under which older versions left paths of whoever saved it."""


class Based(Protocol):
    """A base: where its files lie here, and its processor as a run used it."""

    @property
    def folder(self) -> Path: ...

    @property
    def processor(self) -> Any: ...


def write_base_files(source: Based, model: Any, folder: Path, adapter: bool) -> None:
    """Write all of these beside the weights in `folder`; model: the base, whose generation settings count."""
    for file in sorted(source.folder.iterdir()):
        if file.is_dir() and file.name in FOLDERS:
            (folder / file.name).mkdir()
            for inner in sorted(file.iterdir()):
                _copy(inner, folder / file.name / inner.name)
        elif file.is_file() and _belongs(file.name, adapter):
            _copy(file, folder / file.name)
    _settle_template(source, folder)
    _write_generation(source, model, folder)


def _belongs(name: str, adapter: bool) -> bool:
    if adapter and name == "added_tokens.json":
        return False  # SGLang takes it for tokens that the adapter adds
    return name.startswith(STARTS) or (not adapter and name.lower().startswith(LICENCES))


def _copy(file: Path, target: Path) -> None:
    """The same bytes, but for paths under known keys of a JSON file."""
    if file.suffix == ".json" and file.name != "tokenizer.json":
        held = read_json(file)
        strange = [key for key in PATHS if isinstance(held, dict) and str(held.get(key) or "").startswith(("/", "~"))]
        if strange:
            write_json(target, {key: value for key, value in held.items() if key not in strange})
            return
    shutil.copyfile(file, target)  # follows links, which the cache of the hub is made of


def _settle_template(source: Based, folder: Path) -> None:
    """Where the run's chat template is another than the base's (it had none, or is told a date): that one, in its own file."""
    used = source.processor.chat_template
    own = _own_template(source)
    if own == used:
        return
    (folder / "chat_template.json").unlink(missing_ok=True)
    for name in ("tokenizer_config.json", "processor_config.json"):
        held = read_json(folder / name) if (folder / name).is_file() else {}
        if held.pop("chat_template", None) is not None:
            write_json(folder / name, held)
    (folder / TEMPLATE).write_text(used, encoding="utf-8")
    others = {name: text for name, text in own.items() if name != "default"} if isinstance(own, dict) else {}
    for name, text in others.items():
        (folder / FOLDERS[0]).mkdir(exist_ok=True)
        (folder / FOLDERS[0] / f"{name}.jinja").write_text(text, encoding="utf-8")


def _own_template(source: Based) -> Any:
    """The chat template that whoever loads the base's files gets: a text, several by name, or none."""
    from transformers import AutoTokenizer

    if hasattr(source.processor, "image_processor"):
        return processors.load(str(source.folder)).chat_template
    return AutoTokenizer.from_pretrained(source.folder).chat_template


def _write_generation(source: Based, model: Any, folder: Path) -> None:
    """generation_config.json as the base has it, with every token that ended an answer of the run, and the one that pads.

    As JSON: `save_pretrained` refuses what bases are published with, such as a temperature without sampling.
    """
    file = source.folder / "generation_config.json"
    held = read_json(file) if file.is_file() else json.loads(GenerationConfig().to_json_string())
    ends = sorted(end_ids(model, source.processor))
    held |= {"eos_token_id": ends if len(ends) != 1 else ends[0]} if ends else {}
    if held.get("pad_token_id") is None:
        held["pad_token_id"] = pad_id_of(source.processor)
    write_json(folder / "generation_config.json", {key: value for key, value in held.items() if key not in PATHS})
