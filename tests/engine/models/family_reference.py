"""A family of models with its samples, and the naive reference of what a profile says: one sample, softmax, autograd.

The reference asks the model's own processor, cuts responses out by tokenizing every prefix of the conversation, and writes
softmax and one-hot out. Legend: S positions, V vocabulary.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from liit.engine.data.readers.images import open_image
from liit.engine.models import anatomy, loading
from liit.engine.models.anatomy import linears
from liit.engine.models.encoding import encode, without_images
from liit.engine.models.processors import image_token, tokenizer_of
from liit.engine.scoring.profile_spec import ProfilerSpec
from liit.engine.scoring.profiler import Profiler, Row
from liit.engine.scoring.sketches import SketchSpec
from tests.engine.models import families

LENGTH = 700
END = "\x01"
SCORES = ("nll", "el2n", "entropy", "grad_norm", "image_grounding")
Sample = dict[str, Any]


@dataclass
class Family:
    name: str
    folder: str
    samples: list[Sample]
    processor: Any = field(init=False)
    model: Any = field(init=False)

    def __post_init__(self) -> None:
        self.processor, self.model = loading.load_processor(self.folder), loading.load_model(self.folder)

    def profile(self, samples: list[Sample], side: str = "right") -> list[Row]:
        sketches = {"sketch": SketchSpec(dimension=64)}
        spec = ProfilerSpec(self.folder, max_length=LENGTH, sketches=sketches, padding_side=side, scores=SCORES)
        return Profiler(spec).profile(samples)


def samples_for(name: str, folder: Path) -> list[Sample]:
    """Text between images of other sizes, several of them, early and late turns; without what the family cannot read."""
    rng = np.random.default_rng(0)
    paths = []
    for number, size in enumerate([(16, 16, 3), (40, 12, 3), (20, 33, 3)]):
        paths.append(folder / f"{number}.png")
        Image.fromarray(rng.integers(0, 255, size, dtype=np.uint8)).save(paths[-1])

    def sample(identifier: str, images: list[int], *turns: str) -> Sample:
        roles = ["user", "assistant"] * len(turns)
        return {
            "id": identifier,
            "conversation": [{"role": r, "text": t} for r, t in zip(roles, turns, strict=False)],
            "images": [{"path": str(paths[number]), "bytes": None} for number in images],
        }

    text = [
        sample("text", [], "What is two and two?", "four"),
        sample("chat", [], "Hello", "hi", "Which colour is it, please?", "蓝色", "And the other, further on?", "red"),
    ]
    one = [
        sample("one", [0], "<image>\nWhat is this?", "a red box"),
        sample("wide", [1], "Look at this: <image>", "very wide", "Why?", "nobody knows"),
    ]
    several = [
        sample("two", [1, 2], "Compare <image> with <image> now.", "the first is larger"),
        sample("late", [2, 0], "<image>\nHello", "hi", "Now this\n<image>", "hi"),
    ]
    if name in families.LANGUAGE:
        return text
    return [text[0], *one, text[1], *([] if name == "instructblip" else several)]


def naive_inputs(family: Family, conversation: list[dict[str, str]], images: list[Any]) -> dict[str, Any]:
    """What the model's own processor makes of the text up to the end of `conversation`, and of its images."""
    first = family.name == "instructblip"
    messages = []
    for turn in without_images(conversation) if first else conversation:
        parts = turn["text"].split("<image>")
        content: list[dict[str, str]] = [{"type": "text", "text": parts[0]}]
        for part in parts[1:]:
            content += [{"type": "image"}, {"type": "text", "text": part}]
        plain = family.name in families.LANGUAGE
        messages.append({"role": turn["role"], "content": turn["text"] if plain else content})
    writes = conversation[-1]["role"] == "user"
    text = family.processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=writes)
    if not images:
        return dict(tokenizer_of(family.processor)([text], return_tensors="pt"))
    if not first and (later := len(images) - text.count(image_token(family.processor))):
        text += END + image_token(family.processor) * later  # how an image is cut may depend on how many there are
    inputs = dict(family.processor(text=[text], images=[images], return_tensors="pt"))
    if first and len(conversation) > 1:
        asked = naive_inputs(family, conversation[:1], images)
        inputs |= {name: value for name, value in asked.items() if name.startswith("qformer")}
    return inputs


def naive_length(family: Family, conversation: list[dict[str, str]], images: list[Any]) -> int:
    ids = naive_inputs(family, conversation, images)["input_ids"][0].tolist()
    (end,) = tokenizer_of(family.processor)(END, add_special_tokens=False)["input_ids"]
    return ids.index(end) if end in ids else len(ids)


def naive(family: Family, sample: Sample, with_images: bool = True) -> dict[str, Any]:
    """Scores and weight gradients of the middle layer, from a batch of one."""
    conversation = sample["conversation"] if with_images else without_images(sample["conversation"])
    images = [open_image(image) for image in sample["images"]] if with_images else []
    inputs = naive_inputs(family, conversation, images)
    ids = inputs["input_ids"][0]
    where: list[int] = []
    for turn, message in enumerate(conversation):
        if message["role"] == "assistant":
            start, stop = (naive_length(family, conversation[: turn + more], images) for more in (0, 1))
            where += range(start, stop)
    weights: list[Any] = [module.weight for _, module in linears(anatomy.decoder_layers(family.model)[1])]
    for weight in weights:
        weight.requires_grad_(True)
    logits_SV = whole(family, images)(**inputs).logits[0]
    p = logits_SV[torch.tensor(where) - 1].double().softmax(-1)
    y = torch.nn.functional.one_hot(ids[where], p.shape[-1])
    loss = -(p * y).sum(-1).log().mean()
    gradients = torch.autograd.grad(loss, weights)
    for weight in weights:
        weight.requires_grad_(False)
    return {
        "response": where,
        "ids": ids.tolist(),
        "nll": float(loss.detach()),
        "el2n": float((p - y).norm(dim=-1).mean().detach()),
        "entropy": float(-(p * p.log()).sum(-1).mean().detach()),
        "grad_norm": float(torch.cat([g.flatten() for g in gradients]).norm()),
        "gradients": gradients,
    }


def whole(family: Family, images: list[Any]) -> Any:
    """The model, or its language model where the rest needs an image."""
    return family.model.language_model if family.name == "instructblip" and not images else family.model


def encoded(family: Family, sample: Sample) -> Any:
    images = [open_image(image) for image in sample["images"]]
    return encode(family.processor, sample["conversation"], images, LENGTH)
