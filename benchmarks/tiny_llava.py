"""A tiny LLaVA with a word-level tokenizer, and samples of exact lengths for it: what the benchmarks run on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from liit.engine.fleet.batching import plan

SPECIALS = ("<pad>", "<unk>", "</s>", "<image>", "USER", "ASSISTANT")
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }} {% if message['content'] is string %}"
    "{{ message['content'] }} {% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}</s> {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT {% endif %}"
)


@dataclass(frozen=True)
class Shape:
    """Sizes of the model and of its samples; text counts every token that is not an image's, the response included."""

    layers: int = 8
    hidden: int = 256
    intermediate: int = 688
    vocabulary: int = 4096
    image_side: int = 32
    patch: int = 4
    rank: int = 16
    head: int = 32
    vision_layers: int = 2
    vision_hidden: int = 64
    vision_intermediate: int = 128
    vision_heads: int = 2

    @property
    def image_tokens(self) -> int:
        return (self.image_side // self.patch) ** 2


LLAVA_7B = Shape(32, 4096, 11008, 32064, 336, 14, 128, 128, 24, 1024, 4096, 16)
"""LLaVA-1.5-7B's architecture, and the rank that it is tuned with."""


def configuration(shape: Shape) -> LlavaConfig:
    heads = max(1, shape.hidden // shape.head)
    vision = CLIPVisionConfig(
        hidden_size=shape.vision_hidden,
        intermediate_size=shape.vision_intermediate,
        num_hidden_layers=shape.vision_layers,
        num_attention_heads=shape.vision_heads,
        image_size=shape.image_side,
        patch_size=shape.patch,
    )
    text = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=4096,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=2,
    )
    return LlavaConfig(vision_config=vision, text_config=text, image_token_id=3, image_seq_length=shape.image_tokens)


def with_adapter(model: LlavaForConditionalGeneration, shape: Shape) -> PeftModel:
    """A LoRA on every linear of the language model, A and B both random."""
    lora = LoraConfig(
        r=shape.rank,
        lora_alpha=2 * shape.rank,
        init_lora_weights=False,
        target_modules=r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
    )
    return get_peft_model(model, lora)


def save_model(folder: Path, shape: Shape) -> None:
    """Random weights, a processor, and beside them in `adapter` a LoRA."""
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(configuration(shape))
    model.save_pretrained(folder)
    processor(shape).save_pretrained(folder)
    with_adapter(model, shape).save_pretrained(folder / "adapter")


def save_language_model(folder: Path, shape: Shape) -> None:
    """The language model alone, of random weights, and its tokenizer."""
    torch.manual_seed(0)
    LlamaForCausalLM(configuration(shape).text_config).save_pretrained(folder)
    tokenizer = processor(shape).tokenizer
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def processor(shape: Shape) -> LlavaProcessor:
    words = [*SPECIALS, *(f"w{index}" for index in range(shape.vocabulary - len(SPECIALS)))]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    side = shape.image_side
    return LlavaProcessor(
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side}),
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="<pad>",
            unk_token="<unk>",
            eos_token="</s>",
            extra_special_tokens={"image_token": "<image>"},
        ),
        patch_size=shape.patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )


def samples(folder: Path, shape: Shape, text_lengths: list[int], response: int, seed: int = 0) -> list[dict[str, Any]]:
    """One image and one turn each; `response` tokens at most half of the text."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for index, length in enumerate(text_lengths):
        answer = min(response, length // 2)
        path = folder / f"{index}.png"
        Image.fromarray(rng.integers(0, 255, (shape.image_side, shape.image_side, 3), dtype=np.uint8)).save(path)
        question = _words(rng, length - answer - 2, shape)  # USER and ASSISTANT count
        made.append(
            {
                "id": f"s{index}",
                "key": index,
                "conversation": [
                    {"role": "user", "text": f"<image> {question}"},
                    {"role": "assistant", "text": _words(rng, answer - 1, shape)},  # </s> counts
                ],
                "images": [{"path": str(path), "bytes": None}],
                "length": shape.image_tokens + length,
                "response": answer,
            }
        )
    return made


def spoken(mine: list[dict[str, Any]], shape: Shape) -> list[dict[str, Any]]:
    """The same samples without their images, for a language model."""
    return [
        one
        | {
            "conversation": [{**turn, "text": turn["text"].removeprefix("<image> ")} for turn in one["conversation"]],
            "images": [],
            "length": one["length"] - shape.image_tokens,
        }
        for one in mine
    ]


def _words(rng: np.random.Generator, count: int, shape: Shape) -> str:
    return " ".join(f"w{index}" for index in rng.integers(shape.vocabulary - len(SPECIALS), size=max(count, 0)))


def mixed_lengths(count: int, seed: int = 0) -> list[int]:
    """Text lengths as real data has them: log-normal, median 64, σ = 1, clipped to 16..1,024."""
    drawn = np.exp(np.random.default_rng(seed).normal(np.log(64), 1.0, size=count))
    return [int(length) for length in np.clip(drawn, 16, 1024)]


def planned(mine: list[dict[str, Any]], most: int, tokens: int) -> list[list[dict[str, Any]]]:
    """The batches that scoring would plan of samples."""
    keys, lengths = (np.array([sample[name] for sample in mine]) for name in ("key", "length"))
    batch_N = plan(keys, lengths, most, tokens)
    return [[mine[row] for row in np.flatnonzero(batch_N == number)] for number in range(batch_N.max() + 1)]
