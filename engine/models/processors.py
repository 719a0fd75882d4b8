"""The processor of a vision-language model, loaded without what only video needs, and where families of models differ.

Needs torch, transformers only. No torchvision: images go through Pillow, and video, which LiIT does not read, is dropped
where a model's own processor would insist on it.
"""

import re
from collections.abc import Mapping
from datetime import date
from typing import Any

import torch
from transformers import AutoConfig, AutoProcessor, Idefics3Processor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

from liit.engine.settings.specs import TemplateSpec

VIDEO_FREE = {"SmolVLMProcessor": Idefics3Processor}
"""Processors that cannot be built without video, and the one that does the same to images and text."""


class SampleError(ValueError):
    """One sample cannot be used; the message is the reason that its quarantine row gets."""


def load(folder: str, revision: str | None = None) -> Any:
    """The processor of the vision-language model in `folder`. Raises what transformers raises where it cannot be built."""
    try:
        processor = AutoProcessor.from_pretrained(folder, revision=revision)
    except ImportError as error:
        processor = _without_video(folder, revision, error)
    if processor.chat_template is None and hasattr(processor, "tokenizer"):
        processor.chat_template = processor.tokenizer.chat_template  # the processor of InstructBLIP forgets it
    return processor


def tokenizer_of(processor: Any) -> Any:
    """The tokenizer inside a processor, or the tokenizer itself for a language model."""
    return getattr(processor, "tokenizer", processor)


def image_token(processor: Any) -> str:
    """The token that stands for an image in a text before the processor writes as many as the image has."""
    return str(getattr(processor, "image_token", "<image>"))


def template_of(processor: Any) -> str:
    """The chat template; of several the one that is for plain talk. Raises ValueError where none is."""
    template = processor.chat_template
    if isinstance(template, dict) and "default" not in template:
        raise ValueError(f"of its chat templates {sorted(template)} none is called default")
    return str(template["default"] if isinstance(template, dict) else template)


def asks_for(template: str, name: str) -> bool:
    """Whether a chat template has an argument of this name."""
    return re.search(rf"\b{name}\b", template) is not None


def settled(template: str, spec: TemplateSpec) -> str:
    """The template with its arguments and its date written into it, so that whoever renders it writes the same.

    Arguments that it does not ask for are left out. Raises ValueError for a date whose format the template computes.
    """
    day = date.fromisoformat(spec.date)
    text = re.sub(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)", lambda call: repr(day.strftime(call[2])), template)
    if re.search(r"strftime_now\s*\(", text):
        raise ValueError("its chat template writes today's date in a format that it computes; write the format into it")
    told = {name: value for name, value in spec.template_kwargs.items() if asks_for(template, name)}
    return "".join(f"{{% set {name} = {value!r} %}}\n" for name, value in told.items()) + text


def plain_template(processor: Any) -> str:
    """A chat template for a model that has none, as base models have not: a line for each turn, `USER:` and `ASSISTANT:`."""
    tokenizer = tokenizer_of(processor)
    opens = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    begin, image, end = (
        text.replace("'", "\\'")
        for text in (tokenizer.bos_token if opens else "", image_token(processor), tokenizer.eos_token or "")
    )
    return (
        f"{{{{ '{begin}' }}}}"
        "{% for message in messages %}{{ message['role'] | upper }}: "
        "{% if message['content'] is string %}{{ message['content'] }}"
        "{% else %}{% for part in message['content'] %}"
        f"{{% if part['type'] == 'image' %}}{{{{ '{image}' }}}}{{% else %}}{{{{ part['text'] }}}}{{% endif %}}"
        "{% endfor %}{% endif %}"
        f"{{% if message['role'] == 'assistant' %}}{{{{ '{end}' }}}}{{% endif %}}{{{{ '\n' }}}}{{% endfor %}}"
        "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )


def puts_images_first(processor: Any) -> bool:
    """BLIP-2 and InstructBLIP: the one image's tokens stand before the text, which has no placeholder."""
    return hasattr(processor, "num_query_tokens")


def image_id_of(processor: Any, ids: list[int], images: int) -> int:
    """The id that stands for an image in `ids`, a text whose images are not yet expanded; -1 for a language model.

    Raises SampleError unless the text has one for each image, or where the model reads fewer.
    """
    if not hasattr(processor, "image_processor"):
        if images:
            raise SampleError(f"{images} images, but a language model reads none")
        return -1
    known = tokenizer_of(processor).convert_tokens_to_ids(image_token(processor))
    image_id = -1 if known is None else int(known)
    found = ids.count(image_id)
    if puts_images_first(processor):
        if images > 1:
            raise SampleError(f"{images} images, but this model reads one")
        found += images
    if found != images:
        raise SampleError(f"{found} image tokens in the text for {images} images")
    return image_id


def instruction(processor: Any, before: str) -> dict[str, torch.Tensor]:
    """What the Q-Former of InstructBLIP reads (Dai et al. 2023, section 2.3): the text before the first response.

    The processor would have it read the response too, and the image's tokens would then give the response away.
    """
    read = processor.qformer_tokenizer([before], return_tensors="pt")
    return {f"qformer_{name}": read[name] for name in ("input_ids", "attention_mask")}


def tensors(out: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """What a processor made of one sample, token types without their axis of one. Raises SampleError for no tensor."""
    for name, value in out.items():
        if not isinstance(value, torch.Tensor):
            raise SampleError(f"the processor gives {name} as {type(value).__name__}; only tensors can be batched")
    return {name: value[0] if name.endswith("token_type_ids") else value for name, value in out.items()}


def _without_video(folder: str, revision: str | None, error: ImportError) -> Any:
    whole = PROCESSOR_MAPPING[type(AutoConfig.from_pretrained(folder, revision=revision))]
    parts = [part for part in whole.get_attributes() if part != "video_processor"]
    if parts == whole.get_attributes():
        raise error
    whole = VIDEO_FREE.get(whole.__name__, whole)
    still: Any = type(whole.__name__, (whole,), {"get_attributes": classmethod(lambda cls: parts)})
    return still.from_pretrained(folder, revision=revision)
