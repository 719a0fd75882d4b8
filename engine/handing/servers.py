"""What vLLM and SGLang would make of an adapter, by its names and settings: what they refuse, and what they silently leave out.

Their rules, as of vllm/lora (lora_model.py, peft_helper.py, utils.py; config/lora.py) and sglang/srt/lora (lora_config.py,
lora_manager.py, utils.py): a tensor is `base_model.model.<module>.lora_A.weight`; the module's last name is one that they
have a LoRA layer for, alone or packed with others; a whole trained module is none. A module by another name is refused, or
never looked at, and then the base answers.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What `--max-lora-rank` of vLLM may be; 16 by default."""
DEFAULT_RANK = 16
PACKED = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
}
"""Linears that servers keep as one, and the names that an adapter has them by."""
KNOWN = {*PACKED, *(part for parts in PACKED.values() for part in parts), "o_proj", "down_proj"}
"""Last names of linears that decoders have under these names in both servers."""
TENSOR = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<part>[AB])\.weight")
LAYER = re.compile(r"(^|\.)layers\.\d+\.")


def warnings(names: Iterable[str], settings: Mapping[str, Any]) -> list[str]:
    """A line for each thing that a server would refuse, ignore or has to be told; none where it serves the adapter as it is.

    names: of the adapter's tensors. settings: its adapter_config.json.
    """
    names = sorted(names)
    found = {name: TENSOR.fullmatch(name) for name in names}
    modules = sorted({match["module"] for match in found.values() if match})
    strange = [name for name, match in found.items() if match is None]
    return [*_of_settings(settings, strange), *_of_modules(modules), *_of_halves(found.values())]


def _of_settings(settings: Mapping[str, Any], strange: list[str]) -> list[str]:
    lines, whole = [], settings.get("modules_to_save") or []
    if whole:
        lines.append(
            f"vLLM refuses modules_to_save ({', '.join(whole)}), SGLang leaves it out and answers with the base's; "
            "for a server hand the model on with --merged"
        )
    elif strange:
        lines.append(f"vLLM refuses tensors that are no LoRA of a linear: {_some(strange)}")
    ranks = [int(settings["r"]), *map(int, (settings.get("rank_pattern") or {}).values())]
    if max(ranks) > RANKS[-1]:
        lines.append(f"rank {max(ranks)} is above {RANKS[-1]}, the largest that vLLM serves; hand it on with --merged")
    elif max(ranks) > DEFAULT_RANK:
        fits = min(rank for rank in RANKS if rank >= max(ranks))
        lines.append(f"rank {max(ranks)}: vLLM needs --max-lora-rank {fits}, SGLang --max-lora-rank {max(ranks)}")
    if isinstance(settings.get("target_modules"), str):
        lines.append("target_modules is a pattern: SGLang needs --lora-target-modules, older vLLM refuses it")
    for key in ("use_dora", "use_rslora", "alpha_pattern", "trainable_token_indices"):
        if settings.get(key):
            lines.append(f"{key} is not served by every version of vLLM and SGLang")
    if settings.get("bias", "none") != "none" or settings.get("lora_bias"):
        lines.append("a trained bias is not served by vLLM and SGLang")
    return lines


def _of_modules(modules: list[str]) -> list[str]:
    lines = []
    if outside := [module for module in modules if not LAYER.search(module) or _of_vision(module)]:
        lines.append(
            f"{_some(outside)}: not in a layer of the language model; SGLang leaves it out, "
            "and vLLM does but with --enable-tower-connector-lora: the base would answer"
        )
    others = sorted({module.rpartition(".")[2] for module in modules if module not in outside} - KNOWN)
    if others:
        lines.append(
            f"{_some(others)}: whether a server has a linear of this name depends on its version of the model; "
            "one that has not refuses the adapter or answers with the base"
        )
    return lines


def _of_halves(matches: Iterable[re.Match[str] | None]) -> list[str]:
    parts: dict[str, set[str]] = {}
    for match in matches:
        if match:
            parts.setdefault(match["module"], set()).add(match["part"])
    halves = sorted(module for module, of in parts.items() if len(of) == 1)
    return [f"{_some(halves)}: has only one of lora_A and lora_B"] if halves else []


def _of_vision(module: str) -> bool:
    return any(part.startswith(("vision", "visual")) for part in module.split("."))


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
