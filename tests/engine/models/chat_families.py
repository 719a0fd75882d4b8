"""Published chat templates over small tokenizers of the kinds that their families have, and random conversations.

The templates are the texts that the families publish (some without their part for tools), in `templates/`.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers, processors, trainers
from tokenizers import decoders as token_decoders
from transformers import PreTrainedTokenizerFast

from liit.engine.models.loading import load_processor
from liit.engine.models.processors import settled
from liit.engine.settings.specs import TemplateSpec
from tests.engine.models import families

TEMPLATES = Path(__file__).parent / "templates"
TEXT = (
    "The the a an answer is not yes Yes no No two Two red blue cup of on in and image shows it It seven 7 12 345 3.5 "
    "question why Why how does this picture think therefore because code def return x = y + 1 None ( ) [ ] { } : , . ! ? ; "
    "Hello world über naïve 一 二 三 红色 日本 🙂 e\u0301 don't I'm we'll user assistant USER ASSISTANT System model"
)
WORDS = TEXT.split()
GAPS = [" "] * 12 + ["\n", "\n\n", "  ", "", "\t", " \n"]
SHOWN = [("", "")] * 3 + [("<image>\n", ""), ("", "\n<image>"), ("<image>", ""), ("see <image> and <image>", "")]
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
ADDED = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>"),
    *("<|eot_id|>", "<start_of_turn>", "<end_of_turn>", "<|end|>", "<｜User｜>", "<｜Assistant｜>"),
    *("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<end_of_utterance>", "<image>", "<|image_pad|>"),
    *("<|vision_start|>", "<|vision_end|>", "<start_of_image>", "<IMG_CONTEXT>", "<video>", "<|video_pad|>"),
    *("<fake_token_around_image>", "<global-img>", "<image_soft_token>", "<end_of_image>"),
)
THINKING = ("<think>", "</think>")
"""Tokens by definition, that decoding does not leave out."""
HEADERS = ("<|user|>", "<|assistant|>", "<|system|>")
"""Those of Phi-3 swallow the white space that follows them."""


@cache
def vocabulary(kind: str) -> Tokenizer:
    """kind: `qwen`, `gpt2`, `llama3` are byte-level BPE; `llama`, `phi3`, `gemma` are BPE over Metaspace with byte fallback."""
    corpus = [said(random.Random(seed)) for seed in range(1500)] + [
        "USER: ASSISTANT: Falcon: User: [INST] [/INST]"
    ] * 20
    whole = _byte_level(kind, corpus) if kind in ("qwen", "gpt2", "llama3") else _metaspace(kind, corpus)
    whole.add_special_tokens([AddedToken(token, normalized=False) for token in ADDED])
    whole.add_special_tokens([AddedToken(token, normalized=False, rstrip=kind == "phi3") for token in HEADERS])
    whole.add_tokens([AddedToken(token, normalized=False) for token in THINKING])
    return whole


def _byte_level(kind: str, corpus: list[str]) -> Tokenizer:
    whole = Tokenizer(models.BPE())
    words = pre_tokenizers.Split(Regex(GPT2 if kind == "gpt2" else QWEN), "isolated")
    spelled = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    whole.pre_tokenizer = pre_tokenizers.Sequence([words, spelled])
    whole.decoder = token_decoders.ByteLevel()
    whole.train_from_iterator(corpus, _trainer(SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    whole.post_processor = processors.ByteLevel(trim_offsets=kind == "llama3")
    return whole


def _metaspace(kind: str, corpus: list[str]) -> Tokenizer:
    prepend = "never" if kind == "gemma" else "first"
    whole = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    spaces = pre_tokenizers.Metaspace(prepend_scheme=prepend, split=True)
    whole.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"\n+"), "removed"), spaces])
    steps = [token_decoders.Replace("▁", " "), token_decoders.ByteFallback(), token_decoders.Fuse()]
    whole.decoder = token_decoders.Sequence(steps + ([token_decoders.Strip(" ", 1, 0)] if prepend == "first" else []))
    lines = ["\n", "\n\n"] if kind == "gemma" else []
    whole.train_from_iterator(corpus, _trainer([*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *lines]))
    whole.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend, split=False)  # SentencePiece: one long word
    return whole


def _trainer(special: list[str], **options: Any) -> trainers.BpeTrainer:
    return trainers.BpeTrainer(vocab_size=900, special_tokens=special, show_progress=False, **options)


def said(rng: random.Random) -> str:
    """Words with the white space, line breaks and punctuation that people write, at either end too."""
    return "".join(rng.choice(WORDS) + rng.choice(GAPS) for _ in range(rng.randint(1, 12)))


def conversation(
    rng: random.Random, system: bool = False, rounds: int = 4, images: bool = False
) -> list[dict[str, Any]]:
    """images: whether questions may hold pictures, before, after and amid their words."""

    def turn(role: str) -> dict[str, Any]:
        edge = rng.choice(["", "", "", "\n", " ", "\n\n"])
        before, after = rng.choice(SHOWN) if images and role == "user" else ("", "")
        return {"role": role, "text": before + edge + said(rng) + after}

    head = [turn("system")] if system and rng.random() < 0.4 else []
    return head + [turn(role) for _ in range(rng.randint(1, rounds)) for role in ("user", "assistant")]


Taken = Callable[[str, bool], str]
"""What a template writes of an answer, and whether it is the last one."""


def whole_text(answer: str, last: bool) -> str:
    return answer


def stripped(answer: str, last: bool) -> str:
    return answer.strip()


@dataclass(frozen=True)
class ChatFamily:
    """A published template and the kind of tokenizer that goes with it.

    answer: what the model must write for an answer, before `end`. bos, eos: the tokenizer's own tokens.
    """

    name: str
    kind: str
    end: str
    answer: Taken = whole_text
    bos: str = "<s>"
    eos: str = "</s>"

    @property
    def template(self) -> str:
        return (TEMPLATES / f"{self.name}.jinja").read_text(encoding="utf-8")

    def tokenizer(self, spec: TemplateSpec | None = None, **changes: Any) -> PreTrainedTokenizerFast:
        made = self.bare_tokenizer(**changes)
        made.chat_template = settled(self.template, spec or TemplateSpec())
        return made

    def bare_tokenizer(self, **changes: Any) -> PreTrainedTokenizerFast:
        """Without chat template."""
        special = {"bos_token": self.bos, "eos_token": self.eos, "unk_token": "<unk>", "pad_token": "<pad>"}
        return PreTrainedTokenizerFast(
            tokenizer_object=vocabulary(self.kind), clean_up_tokenization_spaces=False, **special, **changes
        )


def spaced(answer: str, last: bool) -> str:
    return f" {answer}"


def spaced_strip(answer: str, last: bool) -> str:
    return f" {answer.strip()}"


def _qwen3(answer: str, last: bool) -> str:
    return "<think>\n\n</think>\n\n" + answer.lstrip("\n") if last else answer


def _chatml(name: str, kind: str, answer: Taken = whole_text, eos: str = "<|im_end|>") -> ChatFamily:
    return ChatFamily(name, kind, "<|im_end|>", answer, eos=eos)


def _llama3(name: str) -> ChatFamily:
    return ChatFamily(name, "llama3", "<|eot_id|>", stripped, "<|begin_of_text|>", "<|eot_id|>")


def _idefics(name: str, kind: str, bos: str = "<s>") -> ChatFamily:
    return ChatFamily(name, kind, "<end_of_utterance>", spaced, bos, "<end_of_utterance>")


LANGUAGE = {
    family.name: family
    for family in (
        _chatml("qwen2_5", "qwen", eos="<|endoftext|>"),
        _chatml("qwen3", "qwen", _qwen3, eos="<|endoftext|>"),
        _chatml("smollm2", "gpt2"),
        _chatml("smollm3", "llama3", lambda answer, last: answer.lstrip("\n")),
        ChatFamily("llama2", "llama", " </s>", spaced_strip),
        _llama3("llama3"),
        _llama3("llama3_2"),
        ChatFamily("mistral", "llama", "</s>"),
        ChatFamily("mistral_v3", "llama", "</s>", spaced_strip),
        ChatFamily("gemma", "gemma", "<end_of_turn>", stripped, eos="<end_of_turn>"),
        ChatFamily("gemma3", "gemma", "<end_of_turn>", stripped, eos="<end_of_turn>"),
        ChatFamily("phi3", "phi3", "<|end|>", lambda answer, last: answer.lstrip(), eos="<|endoftext|>"),
        ChatFamily("vicuna", "llama", "</s>", spaced_strip),
        ChatFamily("zephyr", "llama", "</s>"),
        ChatFamily("deepseek_r1_distill", "qwen", "<｜end▁of▁sentence｜>", eos="<｜end▁of▁sentence｜>"),
        ChatFamily("falcon", "gpt2", "", spaced, eos="<|endoftext|>"),
    )
}
VISION = {
    family.name: (family, base)
    for family, base in (
        (ChatFamily("llava_1_5", "llama", "", spaced), "llava"),
        (ChatFamily("llava_next", "llama", "</s>", spaced), "llava"),
        (_chatml("llava_onevision", "qwen", lambda answer, last: f" \n{answer}"), "llava_onevision"),
        (_chatml("qwen2_vl", "qwen"), "qwen2_5_vl"),
        (_idefics("idefics3", "llama3", "<|begin_of_text|>"), "idefics3"),
        (_idefics("smolvlm", "gpt2"), "smolvlm"),
        (LANGUAGE["gemma3"], "gemma3"),
        (_chatml("internvl", "qwen"), "llava"),
    )
}
"""Each with the tiny model of `families.py` whose processor it goes with."""
IMAGE_TOKENS = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}


def vision_processor(name: str, folder: Path) -> Any:
    """The family's processor, loaded as a user's is, with its published template and a small tokenizer of its kind."""
    family, base = VISION[name]
    place = Path(families.build(base, folder))
    changes = {"extra_special_tokens": IMAGE_TOKENS} if base == "gemma3" else {}
    family.bare_tokenizer(**changes).save_pretrained(place)
    (place / "chat_template.jinja").write_text(family.template, encoding="utf-8")
    if name == "internvl":
        settings = json.loads((place / "processor_config.json").read_text())
        (place / "processor_config.json").write_text(json.dumps({**settings, "image_token": "<IMG_CONTEXT>"}))
    return load_processor(str(place))
