"""What of a sample another trainer's file cannot say, by what that trainer's own loader does with it.

A limit is found in the conversation alone: it holds one `<image>` per image, a system turn or none, then user and assistant
in turns, as every reader of ours yields it.

Sources: LLaVA, llava/train/train.py and llava/conversation.py (`preprocess_multimodal`, `preprocess_v1`); LLaMA-Factory,
data/README.md, src/llamafactory/data/converter.py and mm_plugin.py; ms-swift, "Custom Dataset" and swift/template/base.py;
TRL, "Dataset formats and types" and trl/data_utils.py.
"""

from collections.abc import Callable, Mapping
from typing import Any

from liit.engine.data.readers.sample import PLACEHOLDER

Turns = list[dict[str, Any]]
Limits = Mapping[str, Callable[[Turns], bool]]
"""In words what a sample has, and whether this one has it."""


def _system(turns: Turns) -> bool:
    return turns[0]["role"] == "system"


def _empty_system(turns: Turns) -> bool:
    return _system(turns) and not turns[0]["text"]


def _several(turns: Turns) -> bool:
    return sum(turn["text"].count(PLACEHOLDER) for turn in turns) > 1


def _context(turns: Turns) -> bool:
    return any(turn.get("context") for turn in turns)


def _media(turns: Turns) -> bool:
    return any(mark in turn["text"] for turn in turns for mark in ("<video>", "<audio>"))


def _separator(turns: Turns) -> bool:
    """`</s>` and ` ASSISTANT: ` are where LLaVA-1.5's trainer cuts the prompt, in which a space precedes every turn."""
    return any("</s>" in turn["text"] or " ASSISTANT: " in f" {turn['text']}" for turn in turns)


def _moved(turns: Turns) -> bool:
    return any(PLACEHOLDER in turn["text"] and not turn["text"].lstrip().startswith(PLACEHOLDER) for turn in turns)


CONTEXT = "an answer that is context alone, which its trainer would learn"
MEDIA = "<video> or <audio> in a text, for which its trainer wants a file"

HELD_NOT: Mapping[str, Limits] = {
    "llava": {
        "a system turn": _system,
        "several images": _several,
        CONTEXT: _context,
        "</s> or ASSISTANT: in a text, where its trainer ends a turn": _separator,
    },
    "sharegpt": {
        "an empty system turn, for which its trainer puts the template's own": _empty_system,
        CONTEXT: _context,
        MEDIA: _media,
    },
    "swift": {},
    "trl": {CONTEXT: _context},
}
"""By format: what keeps a sample from being written."""

CHANGED: Mapping[str, Limits] = {
    "llava": {"<image> after other text of its turn, which LLaVA's trainer puts first": _moved},
}
"""By format: what is written word for word, and then changed by the trainer."""


def found(limits: Limits, turns: Turns) -> list[str]:
    return [kind for kind, has in limits.items() if has(turns)]
