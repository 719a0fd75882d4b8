"""The shape of the base models, a CLIP tower, an MLP projector and a Llama, all small; and their processor."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from liit.engine.data.digits.canvas import CELL, GRID, SIDE
from liit.engine.data.digits.evaluation import SETS
from liit.engine.data.digits.language import PRETRAINING
from liit.engine.data.digits.releases import RELEASES
from liit.engine.data.digits.tokenizer import EOS, IMAGE, PAD, make_tokenizer

MAX_LENGTH = 2048
TEXTS_PER_TASK = 400
ROPE_THETA = 1e6
"""Heads are 32 wide; with the usual 1e4 much of that turns too fast to match a word with a patch 50 tokens before it."""
INITIAL_SPREAD = 0.05
"""Standard deviation of the first weights, of the order of one over the root of the width."""


@dataclass(frozen=True)
class Shape:
    """Widths and depths of the tower and of the language model; every attention has four heads."""

    tower_width: int
    tower_layers: int
    width: int
    layers: int


SHAPES = {"base": Shape(96, 3, 128, 4), "proxy": Shape(64, 2, 96, 3), "captioned": Shape(96, 3, 128, 4)}


def make_processor() -> LlavaProcessor:
    """The processor of both models: the same tokenizer, images brought to 32×32 and scaled to -1..1."""
    images = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    tokenizer = make_tokenizer(_texts(), MAX_LENGTH)
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=CELL,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )


def make_model(shape: Shape, processor: LlavaProcessor, seed: int) -> LlavaForConditionalGeneration:
    """A model of this shape with random weights. The tower's last layer is used, its class token dropped."""
    tokenizer = processor.tokenizer
    tower = CLIPVisionConfig(
        hidden_size=shape.tower_width,
        intermediate_size=4 * shape.tower_width,
        num_hidden_layers=shape.tower_layers,
        num_attention_heads=4,
        image_size=SIDE,
        patch_size=CELL,
    )
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.width,
        intermediate_size=11 * shape.width // 4,
        num_hidden_layers=shape.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(EOS),
        tie_word_embeddings=False,
        initializer_range=INITIAL_SPREAD,
    )
    config = LlavaConfig(
        vision_config=tower,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        image_seq_length=GRID * GRID,
        initializer_range=INITIAL_SPREAD,
        tie_word_embeddings=False,
    )
    torch.manual_seed(seed)
    model = LlavaForConditionalGeneration(config)
    model.generation_config.pad_token_id = text.pad_token_id
    model.generation_config.eos_token_id = text.eos_token_id
    return model


def save_language_model(model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: Path) -> None:
    """The language model alone with its tokenizer, as `AutoModelForCausalLM` loads it."""
    alone = LlamaForCausalLM(model.config.get_text_config())
    alone.model.load_state_dict(model.model.language_model.state_dict())
    alone.lm_head.load_state_dict(model.lm_head.state_dict())
    alone.generation_config = model.generation_config
    alone.save_pretrained(folder)
    processor.tokenizer.save_pretrained(folder)


def _texts() -> Iterator[str]:
    """Texts that hold every word of the stream: a few hundred samples of every task, and the template's own words."""
    tasks = dict.fromkeys(
        [
            *PRETRAINING,
            *(task for release in RELEASES for task, _ in release.tasks),
            *(task for one in SETS for task in one.tasks),
        ]
    )
    yield from ("USER:", " ASSISTANT:", "\n")
    for position, task in enumerate(tasks):
        rng = np.random.default_rng([1, position])
        for _ in range(TEXTS_PER_TASK):
            for question, answer in task.ask(rng, task.compose(rng, "training")):
                yield from _spaced(question.split(IMAGE))
                yield f" {answer}"


def _spaced(parts: Iterable[str]) -> Iterator[str]:
    """A part as it follows a line break, and as it follows `USER:`."""
    for part in parts:
        yield part
        yield f" {part}"
