"""Any Hugging Face vision-language or language model, its processor, and the LoRA adapter that the stream trains.

Needs torch, transformers, peft only. How a sample becomes tokens is in `encoding.py`.
"""

import inspect
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BitsAndBytesConfig,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from liit.engine.models import processors
from liit.engine.models.anatomy import ModelError, decoder_name
from liit.engine.settings.specs import TemplateSpec

DIGITS = Path(__file__).parents[1] / "data" / "digits"
SHIPPED = {
    "digits-base": DIGITS / "base",
    "digits-proxy": DIGITS / "proxy",
    "digits-language": DIGITS / "language_model",
    "digits-captioned": DIGITS / "captioned",
}


def locate(path: str) -> str:
    """A shipped model's folder for its name; any other path or hub id as it is."""
    return str(SHIPPED.get(path, path))


def load_processor(path: str, revision: str | None = None, template: TemplateSpec | None = None) -> Any:
    """The processor of a vision-language model, or the tokenizer of a language model.

    Where it has no chat template it gets a plain one; what `template` says is written into it. Raises ModelError, one line,
    when the folder is missing, is not a model, or has no processor, or its chat template cannot be told the date.
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
    try:
        processor.chat_template = processors.settled(processors.template_of(processor), template or TemplateSpec())
    except ValueError as error:
        raise ModelError(f"model {path}: {error}") from error
    return processor


def load_model(
    path: str,
    *,
    revision: str | None = None,
    dtype: str = "float32",
    attention: str = "sdpa",
    adapter: str | None = None,
    trainable: bool = False,
    quantised: int | None = None,
) -> nn.Module:
    """The model in eval mode, with the adapter of a timestep on it where one is given.

    dtype: a name of torch's, or `auto`: what the weights are stored in. trainable: the adapter's parameters require gradients;
    every other parameter never does. quantised: bits of the decoder's linears, 4 (NF4, twice quantised). Raises ModelError for
    what cannot be loaded: an encoder-decoder, weights that are missing, an attention that the model does not have.
    """
    folder = locate(path)
    auto = AutoModelForImageTextToText if _takes_images(folder, revision) else AutoModelForCausalLM
    kind = dtype if dtype == "auto" else getattr(torch, dtype)
    options = {"revision": revision, "dtype": kind, "attn_implementation": attention}
    if quantised:
        options["quantization_config"] = _quantisation(outline(path, revision), kind)
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


def _quantisation(model: nn.Module, dtype: Any) -> BitsAndBytesConfig:
    """Of the linears of the decoder; the vision tower, the projector and the output head stay as they are."""
    inside = f"{decoder_name(model)}."
    others = [
        name for name, part in model.named_modules() if isinstance(part, nn.Linear) and not name.startswith(inside)
    ]
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=others,
    )


def outline(path: str, revision: str | None = None) -> nn.Module:
    """The model without weights, on torch's meta device: to count its parameters, of which none takes memory."""
    folder = locate(path)
    auto = AutoModelForImageTextToText if _takes_images(folder, revision) else AutoModelForCausalLM
    with torch.device("meta"):
        model: nn.Module = auto.from_config(AutoConfig.from_pretrained(folder, revision=revision))
    return model.requires_grad_(False)


def text_config(path: str, revision: str | None = None) -> Any:
    """The configuration of the language model inside, without loading weights."""
    return AutoConfig.from_pretrained(locate(path), revision=revision).get_text_config()


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


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
