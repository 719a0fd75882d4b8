"""A GGUF becomes the folder of a dense model: every weight is its unpacked block, and digits are told apart."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from real.weights import convert, dense, split_digits
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.quantizers.auto import AutoHfQuantizer

LAYERS, WIDTH, INNER, HEADS, KEYS = 2, 64, 128, 4, 2
LETTERS = sorted(ByteLevel.alphabet())
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGED = ["4 2", "1 9"]
"""Numbers that byte pairs would make one token of."""
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tokenizer(pieces: list[str]) -> PreTrainedTokenizerFast:
    """Of bytes, and of two-digit numbers as one token each."""
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    backend = Tokenizer(BPE(vocab=vocabulary, merges=[(merge[0], merge[2]) for merge in MERGED]))
    backend.pre_tokenizer, backend.decoder = ByteLevel(add_prefix_space=False), ByteLevelDecoder()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_digits_are_told_apart_and_nothing_else_changes() -> None:
    pieces = [*SPECIAL, *LETTERS, "42", "19"]
    one = tokenizer(pieces)
    text = "In 1987, about 42x"
    before = one.tokenize(text)
    assert "42" in before
    split_digits(one)
    assert one.tokenize(text) == list("".join(before))
    assert one.decode(one.encode(text)) == text
    with pytest.raises(ValueError, match="digits are not told apart"):
        split_digits(tokenizer([*SPECIAL, *(letter for letter in LETTERS if letter != "7"), "42", "19"]))


def test_a_model_that_was_packed_is_saved_as_a_dense_one(tmp_path: Path) -> None:
    config = LlamaConfig(
        hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=32
    )
    model = LlamaForCausalLM(config)
    model.config.quantization_config = {"quant_method": "gguf", "gguf_file": "x.gguf"}
    model.hf_quantizer = AutoHfQuantizer.from_config(
        {"quant_method": "gguf", "gguf_file": "x.gguf"}, pre_quantized=True
    )
    model.is_quantized = True
    dense(model)
    model.save_pretrained(tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_every_weight_of_a_gguf_is_its_unpacked_block(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    file, unpacked = tmp_path / "tiny.gguf", {}
    written = writer(gguf, file)
    random = np.random.default_rng(0)
    for name, shape in tensors().items():
        values = random.standard_normal(shape).astype(np.float32)
        kind = gguf.GGMLQuantizationType.Q4_1 if len(shape) == 2 else gguf.GGMLQuantizationType.F32
        data = gguf.quants.quantize(values, kind)
        unpacked[name] = torch.from_numpy(gguf.quants.dequantize(data, kind)).to(torch.bfloat16)
        written.add_tensor(name, data, raw_dtype=kind)
    for step in ("write_header_to_file", "write_kv_data_to_file", "write_tensors_to_file", "close"):
        getattr(written, step)()
    convert(file, tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype="auto")
    assert "quantization_config" not in json.loads((tmp_path / "model" / "config.json").read_text())
    state = model.state_dict()
    for name, weight in unpacked.items():
        heads = {"attn_q": HEADS, "attn_k": KEYS}.get(name.split(".")[-2])
        if heads:  # halves of rotary embeddings lie apart in transformers and side by side in GGUF
            weight = weight.reshape(heads, -1, 2, WIDTH).swapaxes(1, 2).reshape(weight.shape)
        assert state[named(name)].dtype == torch.bfloat16
        assert torch.equal(state[named(name)], weight), name
    made = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert made.tokenize("a 42") == ["a", "Ġ", "4", "2"]
    talk = [{"role": "user", "content": "hi"}]
    assert made.apply_chat_template(talk, tokenize=False, add_generation_prompt=True).endswith(
        "<|im_start|>assistant\n"
    )
    assert made.eos_token == "<|im_end|>"


def tensors() -> dict[str, tuple[int, ...]]:
    """Shapes by GGUF's names."""
    keys = WIDTH * KEYS // HEADS
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (len(SPECIAL) + 256 + 2, WIDTH),
        "output_norm.weight": (WIDTH,),
    }
    for layer in range(LAYERS):
        here = {
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (keys, WIDTH),
            "attn_v": (keys, WIDTH),
            "attn_output": (WIDTH, WIDTH),
        }
        here |= {"ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER)}
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in here.items()}
        shapes |= {f"blk.{layer}.{name}.weight": (WIDTH,) for name in ("attn_norm", "ffn_norm")}
    return shapes


def named(name: str) -> str:
    """What transformers calls it."""
    known = {
        "token_embd": "embed_tokens",
        "output_norm": "norm",
        "attn_norm": "input_layernorm",
        "ffn_norm": "post_attention_layernorm",
    }
    known |= {f"attn_{one}": f"self_attn.{one[0]}_proj" for one in ("q", "k", "v", "output")}
    known |= {f"ffn_{one}": f"mlp.{one}_proj" for one in ("gate", "up", "down")}
    parts = ["layers" if part == "blk" else known.get(part, part) for part in name.split(".")]
    return ".".join(("model", *parts))


def writer(gguf: Any, file: Path) -> Any:
    """What a llama's GGUF says of its shape and its tokens."""
    written = gguf.GGUFWriter(file, "llama")
    written.add_block_count(LAYERS)
    written.add_context_length(64)
    written.add_embedding_length(WIDTH)
    written.add_feed_forward_length(INNER)
    written.add_head_count(HEADS)
    written.add_head_count_kv(KEYS)
    written.add_layer_norm_rms_eps(1e-5)
    written.add_rope_freq_base(10000.0)
    written.add_vocab_size(len(SPECIAL) + 256 + 2)
    written.add_tokenizer_model("gpt2")
    written.add_tokenizer_pre("smollm")
    written.add_token_list([*SPECIAL, *LETTERS, "42", "19"])
    written.add_token_types([gguf.TokenType.CONTROL] * len(SPECIAL) + [gguf.TokenType.NORMAL] * 258)
    written.add_token_merges(MERGED)
    written.add_bos_token_id(1)
    written.add_eos_token_id(2)
    written.add_unk_token_id(0)
    written.add_pad_token_id(2)
    written.add_chat_template(TEMPLATE)
    return written
