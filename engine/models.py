"""Any Hugging Face vision-language or language model, its processor, and the LoRA adapter that the stream trains.

Needs torch, transformers, peft only. How a sample becomes tokens is in `encoding.py`.
"""

import hashlib
import inspect
import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from liit.engine import processors

SHIPPED = {
    "digits-base": Path(__file__).parent / "digits" / "base",
    "digits-proxy": Path(__file__).parent / "digits" / "proxy",
    "digits-language": Path(__file__).parent / "digits" / "language_model",
    "digits-captioned": Path(__file__).parent / "digits" / "captioned",
}


class ModelError(ValueError):
    """The model folder cannot be used; the message names it and says what is missing."""


def locate(path: str) -> str:
    """A shipped model's folder for its name; any other path or hub id as it is."""
    return str(SHIPPED.get(path, path))


def load_processor(path: str, revision: str | None = None) -> Any:
    """The processor of a vision-language model, or the tokenizer of a language model.

    Where it has no chat template it gets a plain one. Raises ModelError, one line, when the folder is missing, is not a
    model, or has no processor.
    """
    folder = locate(path)
    if folder.startswith(("/", ".")) and not (Path(folder) / "config.json").is_file():
        raise ModelError(f"model {path}: no config.json in {folder}")
    takes_images = _takes_images(folder, revision)
    load = processors.load if takes_images else AutoTokenizer.from_pretrained
    try:
        processor = load(folder, revision=revision)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise ModelError(f"model {path}: its processor cannot be loaded ({_first_line(error)})") from error
    if takes_images and not hasattr(processor, "image_processor"):
        raise ModelError(f"model {path}: its folder has no image processor (preprocessor_config.json)")
    if processor.chat_template is None:
        processor.chat_template = processors.plain_template(processor)
        logging.getLogger("liit").info(
            "model %s has no chat template: turns are lines of USER: and ASSISTANT:, to be written so ever after", path
        )
    return processor


def load_model(
    path: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    attention: str = "sdpa",
    adapter: str | None = None,
    trainable: bool = False,
) -> nn.Module:
    """The model in eval mode, with the adapter of a timestep on it where one is given.

    trainable: the adapter's parameters require gradients; every other parameter never does. Raises ModelError for what
    cannot be loaded: an encoder-decoder, weights that are missing, an attention that the model does not have.
    """
    folder = locate(path)
    auto = AutoModelForImageTextToText if _takes_images(folder, revision) else AutoModelForCausalLM
    options = {"revision": revision, "dtype": getattr(torch, dtype), "attn_implementation": attention}
    try:
        model = auto.from_pretrained(folder, use_safetensors=True, **options)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"model {path}, attention {attention}: cannot be loaded ({_first_line(error)})") from error
    model.requires_grad_(False)
    if inspect.signature(model.forward).parameters.get("pixel_values", _OPTIONAL).default is inspect.Parameter.empty:
        _read_text_alone(model)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter, is_trainable=trainable)
    return model.eval()


def add_lora(
    model: nn.Module,
    *,
    r: int,
    alpha: float,
    dropout: float,
    targets: tuple[str, ...],
    projector: bool,
    seed: int,
    of: str = "language",
) -> PeftModel:
    """A fresh LoRA adapter (A random from the seed, B zero); with `projector`, the projector is trained and saved too.

    of: whose linears it is of, the language model's or the projector's. Raises ValueError that lists the linears when a
    target names none of them.
    """
    if of == "projector":
        linears = projector_linears(model)
        config = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=dropout, target_modules=linears)
        torch.manual_seed(seed)
        return get_peft_model(model, config)
    decoder = decoder_name(model)
    linears = sorted({name.rpartition(".")[2] for name in _linears(model, decoder)})
    unknown = sorted(set(targets) - set(linears))
    if unknown:
        raise ValueError(f"training.lora.targets: no linear is named {unknown}; the language model has {linears}")
    config = LoraConfig(
        r=r,
        lora_alpha=alpha,
        lora_dropout=dropout,
        target_modules=rf"{re.escape(decoder)}\..*\.({'|'.join(targets or linears)})",
        modules_to_save=[projector_name(model)] if projector else None,
    )
    torch.manual_seed(seed)
    return get_peft_model(model, config)


def unwrapped(model: nn.Module) -> Any:
    """The Hugging Face model inside a PEFT wrapper."""
    return model.get_base_model() if isinstance(model, PeftModel) else model


def text_config(path: str, revision: str | None = None) -> Any:
    """The configuration of the language model inside, without loading weights."""
    return AutoConfig.from_pretrained(locate(path), revision=revision).get_text_config()


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The transformer blocks of the language model, in order. Raises ModelError where there are none made of linears."""
    base = unwrapped(model)
    count = base.config.get_text_config().num_hidden_layers
    for module in base.get_decoder().modules():
        if isinstance(module, nn.ModuleList) and len(module) == count and _has_linears(module):
            return module
    raise ModelError(
        f"{type(base).__name__}: no list of {count} decoder layers made of nn.Linear is in its language model"
    )


def decoder_name(model: nn.Module) -> str:
    """Dotted name of the language model's decoder inside the Hugging Face model."""
    base = unwrapped(model)
    decoder = base.get_decoder()
    return next(name for name, module in base.named_modules() if module is decoder)


def projector(model: nn.Module) -> nn.Module:
    """The module between the vision tower and the language model, whose rows become image tokens in their order.

    Raises ValueError where there is none, and for models that cut and reorder its rows (LLaVA-NeXT, LLaVA-OneVision).
    """
    name, base = projector_name(model), unwrapped(model)
    if any(of.endswith("image_newline") for of, _ in base.named_parameters()):
        raise ValueError(
            f"{type(base).__name__} cuts and reorders what its projector makes; take vectors of the decoder"
        )
    return next(module for full, module in unwrapped(model).named_modules() if full.rpartition(".")[2] == name)


def image_token(model: nn.Module) -> int:
    """The id that stands for image features in the text; -1, which no token has, in a language model."""
    config = unwrapped(model).config
    return int(getattr(config, "image_token_id", getattr(config, "image_token_index", -1)))


def projector_name(model: nn.Module) -> str:
    """Name of the module between the vision tower and the language model. Raises ValueError where there is none."""
    for name, _ in unwrapped(model).named_modules():
        if name.rpartition(".")[2] in ("multi_modal_projector", "connector", "merger", "language_projection"):
            return name.rpartition(".")[2]
    raise ValueError(f"{type(unwrapped(model)).__name__} has no multimodal projector")


def projector_linears(model: nn.Module) -> list[str]:
    """Full names of the linears at or below the projector, which experts adapt and sketches are of.

    Raises ValueError where there are none.
    """
    name = projector_name(model)
    named = unwrapped(model).named_modules()
    found = [full for full, module in named if isinstance(module, nn.Linear) and name in full.split(".")]
    if not found:
        raise ValueError(f"the projector {name} of {type(unwrapped(model)).__name__} has no linears")
    return found


def fingerprint(path: str, revision: str | None = None) -> str:
    """A short hash of what the model is: the files' names and sizes, the configs' content, each weight file's header."""
    digest = hashlib.sha256(f"{path if path in SHIPPED else ''}:{revision}".encode())
    folder = Path(locate(path))
    if not folder.is_dir():
        digest.update(path.encode())
        return digest.hexdigest()[:16]
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".jinja", ".model", ".safetensors"):
            with file.open("rb") as stream:
                digest.update(f"{file.name}:{file.stat().st_size}".encode())
                digest.update(stream.read(1 << 20))
    return digest.hexdigest()[:16]


def _takes_images(folder: str, revision: str | None) -> bool:
    try:
        config = AutoConfig.from_pretrained(folder, revision=revision)
    except (OSError, ValueError) as error:
        raise ModelError(f"model {folder}: not a model folder or hub id ({_first_line(error)})") from error
    if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
        raise ModelError(f"model {folder}: {config.model_type} with an encoder-decoder; take one with a decoder alone")
    return type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING


_OPTIONAL = inspect.Parameter("pixel_values", inspect.Parameter.KEYWORD_ONLY, default=None)


def _read_text_alone(model: Any) -> None:
    """BLIP-2 and InstructBLIP insist on an image; without one, let their language model answer, which is the same."""
    for name in ("forward", "generate"):
        whole, alone = getattr(model, name), getattr(model.language_model, name)
        setattr(model, name, partial(_whole_or_alone, whole, alone))


def _whole_or_alone(whole: Callable[..., Any], alone: Callable[..., Any], *args: Any, **inputs: Any) -> Any:
    return whole(*args, **inputs) if args or "pixel_values" in inputs else alone(**inputs)


def _has_linears(module: nn.Module) -> bool:
    return any(isinstance(part, nn.Linear) for part in module.modules())


def _linears(model: nn.Module, decoder: str) -> list[str]:
    named = unwrapped(model).named_modules()
    return [name for name, module in named if isinstance(module, nn.Linear) and name.startswith(f"{decoder}.")]


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
