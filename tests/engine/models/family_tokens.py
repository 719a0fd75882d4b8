"""The vocabulary and chat template of the tiny models: every byte, and the special tokens of all families."""

from typing import Any

import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers import decoders as token_decoders

WORDS = [f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)]
SPECIALS = [
    *("<pad>", "<s>", "</s>", "<unk>", "<image>", "<video>", "<fake_token_around_image>", "<global-img>"),
    *("<end_of_utterance>", "<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", *WORDS),
]
PAD, BOS, EOS, IMAGE = (SPECIALS.index(token) for token in ("<pad>", "<s>", "</s>", "<image>"))
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
QWEN_TOKENS = {
    "image_token_id": SPECIALS.index("<|image_pad|>"),
    "video_token_id": SPECIALS.index("<|video_pad|>"),
    "vision_start_token_id": SPECIALS.index("<|vision_start|>"),
    "vision_end_token_id": SPECIALS.index("<|vision_end|>"),
}


def template(image: str = "<image>") -> str:
    """USER: ... ASSISTANT: ...</s>, contents as a string or as parts."""
    return (
        "{% for message in messages %}{{ message['role'].upper() }}: {% if message['content'] is string %}"
        "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        + image
        + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
        "{% if message['role'] == 'assistant' %}</s>{% endif %}\n{% endfor %}"
        "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
    )


def tokenizer(**changes: Any) -> hf.PreTrainedTokenizerFast:
    """Every byte is a token, so any text goes through; line breaks in a row are one, also beside an image."""
    tokens = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet()), "ĊĊ", "ĊĊĊ"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [("Ċ", "Ċ"), ("ĊĊ", "Ċ")]
    bytes_only = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>"))
    bytes_only.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    bytes_only.decoder = token_decoders.ByteLevel()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    wrapped = hf.PreTrainedTokenizerFast(tokenizer_object=bytes_only, **special, **changes)
    wrapped.add_special_tokens({"additional_special_tokens": SPECIALS[4:]})
    return wrapped
