"""Merged weights written as a folder that transformers loads."""

from pathlib import Path
from typing import Any

from transformers import GenerationConfig

SHARD = "5GB"
"""Of merged weights, at most; what the hub takes well."""


def save_merged(model: Any, folder: Path, shard: str) -> None:
    """Write weights in safetensors, none above `shard`, tied ones once, and config.json; no path of this machine.

    The generation settings are left to `base_files`: transformers refuses to save some that bases are published with.
    """
    generation, model.generation_config = model.generation_config, GenerationConfig()
    model.config._name_or_path = ""
    model.save_pretrained(folder, max_shard_size=shard)
    model.generation_config = generation
    (folder / "generation_config.json").unlink(missing_ok=True)
