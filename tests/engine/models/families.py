"""Tiny random models of several families, made from their configs and saved with a processor, as a user's folder holds them.

Every config asks for dropout, which eval mode must keep out.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from tests.engine.models.family_tokens import (
    BOS,
    EOS,
    IMAGE,
    PAD,
    QWEN_IMAGE,
    QWEN_TOKENS,
    SPECIALS,
    template,
    tokenizer,
)

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
TEXT = {
    **SIZES,
    "vocab_size": 320,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "pad_token_id": PAD,
    "bos_token_id": BOS,
    "eos_token_id": EOS,
    "attention_dropout": 0.4,
}
EYE = {
    "hidden_size": 24,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 4,
    "initializer_range": 0.2,
    "attention_dropout": 0.4,
}


def llama(folder: Path) -> None:
    hf.LlamaForCausalLM(hf.LlamaConfig(**TEXT)).save_pretrained(folder)
    tokenizer(chat_template=template()).save_pretrained(folder)


def qwen2(folder: Path) -> None:
    config = hf.Qwen2Config(**TEXT, use_sliding_window=True, sliding_window=16, max_window_layers=1)
    hf.Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer(chat_template=template()).save_pretrained(folder)


def qwen3(folder: Path) -> None:
    hf.Qwen3ForCausalLM(hf.Qwen3Config(**TEXT, head_dim=16, tie_word_embeddings=True)).save_pretrained(folder)
    tokenizer(chat_template=template()).save_pretrained(folder)


def llava(folder: Path) -> None:
    vision = hf.CLIPVisionConfig(**EYE | {"patch_size": 8}, image_size=16)
    config = hf.LlavaConfig(
        vision_config=vision, text_config=hf.LlamaConfig(**TEXT), image_token_id=IMAGE, vision_feature_layer=-1
    )
    hf.LlavaForConditionalGeneration(config).save_pretrained(folder)
    hf.LlavaProcessor(
        image_processor=hf.CLIPImageProcessorPil(
            size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}, do_center_crop=True
        ),
        tokenizer=tokenizer(),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=template(),
    ).save_pretrained(folder)


def llava_onevision(folder: Path) -> None:
    """Images in up to four tiles of 16 x 16 beside the whole; several images of a sample are not tiled."""
    grid = [[16, 16], [16, 32], [32, 16], [32, 32]]
    config = hf.LlavaOnevisionConfig(
        vision_config=hf.SiglipVisionConfig(**EYE, image_size=16),
        text_config=hf.Qwen2Config(**TEXT),
        image_token_index=IMAGE,
        video_token_index=SPECIALS.index("<video>"),
        image_grid_pinpoints=grid,
    )
    hf.LlavaOnevisionForConditionalGeneration(config).save_pretrained(folder)
    images = hf.LlavaOnevisionImageProcessorPil(size={"height": 16, "width": 16}, image_grid_pinpoints=grid)
    settings = {"num_image_tokens": 16, "vision_feature_select_strategy": "full"}
    _save(folder, images, tokenizer(), template(), "LlavaOnevisionProcessor", settings)


def qwen2_5_vl(folder: Path) -> None:
    """Images of any size in patches of 4 x 4, four of which become a token; three-axis rotary positions."""
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "patch_size": 4,
        "window_size": 16,
        "out_hidden_size": SIZES["hidden_size"],
        "fullatt_block_indexes": [1],
        "initializer_range": 0.2,
    }
    rope = {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [1, 1, 2]}
    config = hf.Qwen2_5_VLConfig(vision_config=vision, text_config={**TEXT, "rope_parameters": rope}, **QWEN_TOKENS)
    hf.Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    _save(folder, _patches(), tokenizer(), template(QWEN_IMAGE), "Qwen2_5_VLProcessor", {})


def qwen3_vl(folder: Path) -> None:
    """As Qwen2.5-VL, and the eye's early layers are added to the language model's."""
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "patch_size": 4,
        "out_hidden_size": SIZES["hidden_size"],
        "deepstack_visual_indexes": [0],
        "num_position_embeddings": 36,
        "initializer_range": 0.2,
    }
    rope = {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [2, 3, 3]}
    config = hf.Qwen3VLConfig(
        vision_config=vision, text_config={**TEXT, "head_dim": 16, "rope_parameters": rope}, **QWEN_TOKENS
    )
    hf.Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    _save(folder, _patches(), tokenizer(), template(QWEN_IMAGE), "Qwen3VLProcessor", {})


def gemma3(folder: Path) -> None:
    """Line breaks around images; image tokens see one another both ways, and the text through a sliding window."""
    begin, end = "<|vision_start|>", "<|vision_end|>"
    text = {**TEXT, "head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}
    config = hf.Gemma3Config(
        vision_config={**EYE, "model_type": "siglip_vision_model", "image_size": 16},
        text_config=text,
        mm_tokens_per_image=4,
        image_token_index=IMAGE,
        boi_token_index=SPECIALS.index(begin),
        eoi_token_index=SPECIALS.index(end),
    )
    model = hf.Gemma3ForConditionalGeneration(config)
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=0.2)  # a fresh one is zero
    model.save_pretrained(folder)
    names = tokenizer(extra_special_tokens={"boi_token": begin, "eoi_token": end, "image_token": "<image>"})
    images = hf.Gemma3ImageProcessorPil(size={"height": 16, "width": 16})
    _save(folder, images, names, template(begin), "Gemma3Processor", {"image_seq_length": 4})


def idefics3(folder: Path) -> None:
    """Images cut into rows and columns of 16 x 16 beside the whole, each of four tokens."""
    config = hf.Idefics3Config(
        vision_config={**EYE, "image_size": 16}, text_config=hf.LlamaConfig(**TEXT), image_token_id=IMAGE
    )
    hf.Idefics3ForConditionalGeneration(config).save_pretrained(folder)
    hf.Idefics3Processor(_tiles(hf.Idefics3ImageProcessorPil), tokenizer(), 4, template()).save_pretrained(folder)


def smolvlm(folder: Path) -> None:
    config = hf.SmolVLMConfig(
        vision_config={**EYE, "image_size": 16}, text_config=hf.LlamaConfig(**TEXT), image_token_id=IMAGE
    )
    hf.SmolVLMForConditionalGeneration(config).save_pretrained(folder)
    tiles = _tiles(hf.SmolVLMImageProcessorPil)
    _save(folder, tiles, tokenizer(), template(), "SmolVLMProcessor", {"image_seq_len": 4})


def instructblip(folder: Path) -> None:
    """One image a sample, as three tokens before the text; its Q-Former reads the instruction."""
    _instructblip(hf.LlamaConfig(**TEXT)).save_pretrained(folder)
    hf.InstructBlipProcessor(
        hf.BlipImageProcessorPil(size={"height": 16, "width": 16}), tokenizer(), tokenizer(), num_query_tokens=3
    ).save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(template())


def instructblip_t5(folder: Path) -> None:
    """With an encoder-decoder for a language model."""
    t5 = {"d_model": 32, "d_ff": 48, "num_layers": 2, "num_heads": 2, "d_kv": 8, "vocab_size": 320}
    _instructblip(hf.T5Config(**t5)).save_pretrained(folder)


def _instructblip(text: Any) -> Any:
    qformer = {
        **SIZES,
        "vocab_size": 320,
        "num_hidden_layers": 2,
        "encoder_hidden_size": EYE["hidden_size"],
        "initializer_range": 0.2,
        "hidden_dropout_prob": 0.4,
        "attention_probs_dropout_prob": 0.4,
    }
    config = hf.InstructBlipConfig(
        vision_config={**EYE, "image_size": 16},
        qformer_config=qformer,
        text_config=text,
        num_query_tokens=3,
        image_token_index=IMAGE,
    )
    model = hf.InstructBlipForConditionalGeneration(config)
    torch.nn.init.normal_(model.query_tokens)  # all the same in a fresh model
    return model


def _patches() -> Any:
    return hf.Qwen2VLImageProcessorPil(patch_size=4, size={"shortest_edge": 8 * 8, "longest_edge": 24 * 24})


def _tiles(processor: Any) -> Any:
    return processor(size={"longest_edge": 32}, max_image_size={"longest_edge": 16})


def _save(folder: Path, images: Any, text: Any, chat: str, name: str, settings: dict[str, Any]) -> None:
    """What `save_pretrained` of a processor writes whose class cannot be built here, for want of torchvision."""
    text.save_pretrained(folder)
    images.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(chat)
    (folder / "processor_config.json").write_text(json.dumps({"processor_class": name, **settings}))


LANGUAGE: dict[str, Callable[[Path], None]] = {"llama": llama, "qwen2": qwen2, "qwen3": qwen3}
VISION: dict[str, Callable[[Path], None]] = {
    "llava": llava,
    "llava_onevision": llava_onevision,
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "gemma3": gemma3,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "instructblip": instructblip,
}


def build(family: str, folder: Path) -> str:
    """Write the model into a new folder `family` of `folder`; returns its path."""
    torch.manual_seed(0)
    place = folder / family
    place.mkdir()
    {**LANGUAGE, **VISION, "instructblip_t5": instructblip_t5}[family](place)
    return str(place)
