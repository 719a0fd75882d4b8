"""An adapter that a team already has, that t0 starts from: of the shape that `training.lora` makes of this model, or refused.

It is compared with the one that a first training would make, both without weights. PEFT itself passes over tensors that a model
has no place for, and begins afresh where a file has none.
"""

import json
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open

from liit.engine.models.adapters import MOMENTS, add_lora
from liit.engine.models.fingerprint import fingerprint
from liit.engine.models.loading import locate, outline
from liit.engine.run.files import read_json
from liit.engine.run.progress import log
from liit.engine.run.store import Made
from liit.engine.settings.config import Config, ConfigError
from liit.engine.training.job import MODULES_FILE

CONFIG, WEIGHTS, PICKLED = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
KEYS = {"r": "training.lora.r", "lora_alpha": "training.lora.alpha", "lora_dropout": "training.lora.dropout"}
APART = {
    *(
        "base_model_name_or_path",
        "revision",
        "peft_version",
        "peft_type",
        "task_type",
        "auto_mapping",
        "inference_mode",
    ),
    *(
        "target_modules",
        "exclude_modules",
        "modules_to_save",
        "layers_to_transform",
        "layers_pattern",
        "init_lora_weights",
    ),
    *(
        "fan_in_fan_out",
        "megatron_config",
        "megatron_core",
        "runtime_config",
        "ensure_weight_tying",
        "qalora_group_size",
    ),
}
"""Entries of a configuration that change nothing that is computed, or that show in the modules."""
PLAIN = (True, False, "gaussian", "orthogonal")
"""How LoRA weights may have begun: others change the weights of the model itself."""
FEW = 3

Shapes = Mapping[str, tuple[int, ...]]
"""Of every tensor of an adapter, by its name in the file."""


def given(config: Config) -> Made | None:
    """The adapter of `model.adapter`, by every byte of its files; None where the stream starts from the bare model.

    Raises ConfigError for what is no adapter's folder.
    """
    if config.model.adapter is None:
        return None
    folder = _folder(config.model.adapter)
    return Made(folder, fingerprint(str(folder)))


def check_given(config: Config) -> None:
    """Raises ConfigError, one line with every difference, where `model.adapter` is not what training would go on from."""
    if config.model.adapter is None:
        return
    folder = _folder(config.model.adapter)
    about, whose = _about(folder), f"model.adapter {config.model.adapter}"
    base = about.get("base_model_name_or_path")
    other = base not in (None, "", config.model.path, locate(config.model.path))
    of = f"it is of {base}, model.path is {config.model.path}"
    try:
        wrong = _differences(folder, about, config)
    except ValueError as error:
        raise ConfigError(f"{whose}: {str(error).splitlines()[0]}") from error
    if wrong:
        raise ConfigError(f"{whose}: {'; '.join([*wrong, *([of] if other else [])])}")
    if other:
        log.warning("%s: %s; it fits, and is taken to be of the same weights", whose, of)


def _folder(path: str) -> Path:
    folder = Path(path).expanduser().resolve()
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"model.adapter {path}: no {CONFIG} there; give a folder that PEFT has saved")
    if not (folder / WEIGHTS).is_file():
        pickled = (
            "its weights are pickled; save them as safetensors" if (folder / PICKLED).is_file() else f"no {WEIGHTS}"
        )
        raise ConfigError(f"model.adapter {path}: {pickled}")
    return folder


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = read_json(folder / CONFIG)
    except json.JSONDecodeError as error:
        raise ConfigError(f"model.adapter {folder}: {CONFIG} is damaged ({error})") from error
    kind = about.get("peft_type") if isinstance(about, dict) else None
    if kind != "LORA":
        raise ConfigError(f"model.adapter {folder}: its peft_type is {kind}; a stream goes on from LORA")
    return dict(about)


def _differences(folder: Path, about: Mapping[str, Any], config: Config) -> list[str]:
    """What would keep training from going on with the adapter, each in words."""
    training = config.training
    model: Any = add_lora(
        outline(config.model.path, config.model.revision),
        **training.lora.model_dump(),
        projector=training.projector_learning_rate is not None,
        seed=0,
    )
    wrong = _other_settings(about, model.peft_config["default"].to_dict())
    ours, stored = _shapes(model), _stored(folder / WEIGHTS)
    apart = _other_modules(_modules(ours), _modules(stored)) or _other_modules(
        _modules(ours), _configured(folder, config)
    )
    if not apart and about.get("r") == training.lora.r:
        apart = _other_sizes(ours, stored)
    wrong += apart
    return wrong + _other_files(folder, config)


def _other_settings(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    wrong = [
        f"{key} is {_said(ours[name])}, the adapter's is {_said(theirs.get(name))}"
        for name, key in KEYS.items()
        if theirs.get(name) != ours[name]
    ]
    more = sorted(theirs.keys() - KEYS.keys() - APART)
    wrong += [
        f"its {name} is {theirs[name]!r}, which the LoRA that is trained here has not"
        for name in more
        if (theirs[name] or None) != (ours.get(name) or None)
    ]
    begun = theirs.get("init_lora_weights", True)
    if begun not in PLAIN:
        wrong.append(f"its init_lora_weights is {begun!r}, which changes the base model; convert it to a plain LoRA")
    return wrong


def _other_modules(ours: set[str], theirs: set[str]) -> list[str]:
    wrong = []
    if missing := ours - theirs:
        wrong.append(f"it does not adapt {_few(missing)}, which training does")
    if more := theirs - ours:
        wrong.append(f"it adapts {_few(more)}, which training does not")
    about = "training.lora.targets and training.projector_learning_rate say which modules are trained"
    return [*wrong, about] if wrong else []


def _other_sizes(ours: Shapes, theirs: Shapes) -> list[str]:
    """In modules that are the same."""
    if lacking := ours.keys() ^ theirs.keys():
        return [f"{_few(lacking)}: in one of the two alone"]
    wrong = [name for name in sorted(ours) if ours[name] != theirs[name]]
    return [f"{wrong[0]} is of shape {theirs[wrong[0]]}, this model's of {ours[wrong[0]]}"] if wrong else []


def _other_files(folder: Path, config: Config) -> list[str]:
    """Beside the LoRA: modules of the user's own, and second moments."""
    wrong, own = [], (folder / MODULES_FILE).is_file()
    if own != bool(config.training.modules):
        wrong.append(
            f"training.modules are {list(config.training.modules)}, and it has {'a' if own else 'no'} {MODULES_FILE}"
        )
    sketches = (config.scoring.gradient, *config.scoring.sketches.values())
    if any(one.gradient == "adam" for one in sketches) and not (folder / MOMENTS).is_file():
        wrong.append(f"it has no {MOMENTS}, which adam gradients are made with; take sgd gradients")
    return wrong


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def _stored(file: Path) -> dict[str, tuple[int, ...]]:
    """From the header alone."""
    try:
        with safe_open(file, framework="pt") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file.name} cannot be read ({error})") from error


def _configured(folder: Path, config: Config) -> set[str]:
    """The modules that its configuration adapts in this model, whatever its file holds."""
    with warnings.catch_warnings():  # of entries that PEFT does not know, which `_other_settings` says
        warnings.simplefilter("ignore")
        theirs = LoraConfig.from_pretrained(str(folder))
    theirs.base_model_name_or_path, theirs.init_lora_weights = None, False
    return _modules(_shapes(get_peft_model(outline(config.model.path, config.model.revision), theirs)))


def _modules(tensors: Iterable[str]) -> set[str]:
    """Names of what is adapted or saved whole."""
    return {
        name.partition(".lora_")[0].removesuffix(".weight").removesuffix(".bias").removeprefix("base_model.model.")
        for name in tensors
    }


def _few(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:FEW]) + (f" and {len(shown) - FEW} more" if len(shown) > FEW else "")


def _said(value: object) -> object:
    return f"{value:g}" if isinstance(value, float) else value
