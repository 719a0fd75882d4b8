"""The turns of a conversation: whose they are, what they say, and which of them are context alone.

Both spellings (from/value and role/content), a system prompt beside the turns, switches of the loss. What a turn holds beside
its text and would be lost without it (tool calls, reasoning) is refused by name.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from liit.engine.data.readers.pictures import PIECE_TYPES, Piece, Shown, split
from liit.engine.data.readers.sample import as_bool, empty, text

CONVERSATION_KEYS = ("conversations", "messages", "conversation")
ROLES = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bing", "bard", "model"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
TOOL_ROLES = ("tool", "function", "function_call", "tool_call", "observation", "tool_response", "ipython")
SYSTEM_KEYS = ("system", "system_prompt")
SWITCHES = ("weight", "loss", "train", "loss_weight")
"""Of a turn, in the files of OpenAI, ms-swift, Axolotl and XTuner: 0 or false is context, 1 or true is learned."""

TOOLS = ("tools", "functions", "tool_calls", "function_call")
REASONING = ("reasoning_content", "reasoning", "thinking")
MEDIA = ("image", "images", "audio", "video", "videos", "audios")
_REFUSED = {*TOOLS, *REASONING, *MEDIA}
_READ = {"from", "role", "value", "content", *SWITCHES, *_REFUSED}


@dataclass
class Said:
    """One turn, its pictures still among its text."""

    role: str
    pieces: list[Piece]
    context: bool = False

    @property
    def text(self) -> str:
        return "".join(piece if isinstance(piece, str) else piece.written for piece in self.pieces)


def said(row: Mapping[str, Any]) -> list[Said]:
    """The turns of a row as they stand there, a system prompt beside them first. Raises ValueError with the reason."""
    turns = _turns(row)
    found = [_turn(turn, number) for number, turn in enumerate(turns)]
    given = [text(row[key], key) for key in SYSTEM_KEYS if not empty(row.get(key))]
    if found[0].role == "system":
        given.append(found[0].text)
    elif given:
        found.insert(0, Said("system", [given[0]]))
    if len(set(given)) > 1:
        raise ValueError("ambiguous system: the row gives two system prompts; keep one")
    return found


def ignored(row: Mapping[str, Any]) -> Iterator[str]:
    """Keys of turns that say something and are not read."""
    turns: list[object] = next((row[key] for key in CONVERSATION_KEYS if isinstance(row.get(key), list)), [])
    for turn in turns:
        if isinstance(turn, dict) and not _READ.issuperset(turn):
            yield from (f"turn.{key}" for key in turn if key not in _READ and not empty(turn[key]))


def trim(turns: list[Said], asks: bool) -> tuple[list[Said], list[str]]:
    """Without a leading assistant turn and, unless it `asks`, a trailing user turn, as LLaVA and FastChat cut ShareGPT.

    Returns the turns and what was done, in words. Raises ValueError unless what stays is a system turn or none, then user
    and assistant in turns, none of them empty, an answer at the end that is more than context.
    """
    start = int(turns[0].role == "system")
    spoken, done = turns[start:], []
    if [one.role for one in spoken[:2]] == ["assistant", "user"]:
        spoken = spoken[1:]
        done.append("leading assistant turn dropped")
    if not asks and [one.role for one in spoken[-2:]] == ["assistant", "user"]:
        spoken = spoken[:-1]
        done.append("trailing user turn dropped")
    kept = [*turns[:start], *spoken]
    _check([one.role for one in turns], [one.role for one in spoken], asks)
    for number, turn in enumerate(kept):
        if turn.role != "system" and not turn.text.strip():
            raise ValueError(f"empty {'answer' if turn.role == 'assistant' else 'question'}: turn {number}")
    if not asks and all(one.context for one in spoken if one.role == "assistant"):
        raise ValueError("nothing to learn: every answer is context (weight 0)")
    return kept, done


def _check(roles: list[str], spoken: list[str], asks: bool) -> None:
    wanted = ["user", "assistant"] * (len(spoken) // 2) + ["user"] * (asks and len(spoken) % 2)
    twice = any(one == other for one, other in pairwise(spoken))
    if not spoken or (spoken[-1] != "assistant" and not asks and not twice):
        raise ValueError(f"missing answer: the conversation ends with a {roles[-1]} turn")
    if spoken != wanted:
        raise ValueError(f"turns do not alternate: {', '.join(roles)[:200]}")


def _turns(row: Mapping[str, Any]) -> list[Any]:
    given = [key for key in CONVERSATION_KEYS if row.get(key) is not None]
    if not given:
        raise ValueError(f"missing conversation: none of {', '.join(CONVERSATION_KEYS)} is given")
    lists = [row[key] for key in given if isinstance(row[key], list)]
    if not lists:
        raise ValueError(f"wrong type: the conversation must be a list, not {type(row[given[0]]).__name__}")
    filled = [one for one in lists if one]
    if not filled:
        raise ValueError("missing conversation: it has no turns")
    if any(one != filled[0] for one in filled):
        raise ValueError(f"ambiguous conversation: {' and '.join(given)} differ; keep one")
    return filled[0]


def _turn(turn: object, number: int) -> Said:
    if turn is None:
        raise ValueError(f"null field: turn {number}")
    if not isinstance(turn, dict):
        raise ValueError(f"wrong type: turn {number} must be an object, not {type(turn).__name__}")
    _refuse(turn, number)
    role = _role(turn, number)
    content = _first(turn, ("value", "content"))
    if content is None and role == "assistant":
        raise ValueError(f"missing answer: turn {number} has no text")
    parts = content if isinstance(content, list) else [text(content, f"text of turn {number}")]
    pieces = [piece for part in parts for piece in _part(part, role, number)]
    if role != "user" and any(isinstance(piece, Shown) for piece in pieces):
        raise ValueError(f"misplaced placeholder: a picture in turn {number}, which is not a user turn")
    return Said(role, pieces, _context(turn, role, number))


def _role(turn: Mapping[str, Any], number: int) -> str:
    name = text(_first(turn, ("from", "role")), f"role of turn {number}")
    if name in TOOL_ROLES:
        raise ValueError(f"tool use: turn {number} is of {name!r}; conversations with tools are not read")
    if name not in ROLES:
        raise ValueError(f"unknown role: {name[:40]!r} in turn {number}; known are {', '.join(ROLES)}")
    return ROLES[name]


def _refuse(turn: Mapping[str, Any], number: int) -> None:
    """Raises ValueError for what a turn says beside its text, and would be lost."""
    for key in turn:
        if key not in _REFUSED or empty(turn[key]) or turn[key] is False:
            continue
        if key in TOOLS:
            raise ValueError(f"tool use: turn {number} has {key!r}; conversations with tools are not read")
        if key in REASONING:
            raise ValueError(f"reasoning: turn {number} has {key!r}; write it into the answer's text, or leave it out")
        raise ValueError(f"media in a turn: turn {number} has {key!r}; name it in `images` of the row, or as a part")


def _context(turn: Mapping[str, Any], role: str, number: int) -> bool:
    """Whether a turn's answer is not to be learned. Only answers can be learned, so for the others it says nothing new."""
    given = {key: turn[key] for key in SWITCHES if key in turn and not empty(turn[key])}
    given = {key: as_bool(value, f"{key} of turn {number}") for key, value in given.items()}
    if len(set(given.values())) > 1:
        raise ValueError(f"loss weight: {' and '.join(given)} of turn {number} contradict each other")
    learned = next(iter(given.values()), None)
    if learned and role != "assistant":
        raise ValueError(f"loss weight: turn {number} is to be learned, but it is a {role} turn")
    return role == "assistant" and learned is False


def _part(part: object, role: str, number: int) -> Iterator[Piece]:
    """The pieces of a part of a turn: of a whole text, or of one of the typed parts that OpenAI and Qwen write."""
    if isinstance(part, str):
        yield from split(part, role == "user")
        return
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind is None:  # Qwen-VL: {"image": ...} and {"text": ...}
        kind = next((one for one in ("image", "text") if not empty(part.get(one))), None)
    if isinstance(part, dict) and kind == "text":
        if named := [key for key in PIECE_TYPES if not empty(part.get(key))]:
            raise ValueError(f"ambiguous part: a text with {', '.join(named)} in turn {number}")
        yield from split(text(part.get("text"), f"text of turn {number}"), role == "user")
    elif isinstance(part, dict) and kind in PIECE_TYPES:
        yield Shown(PIECE_TYPES[kind](part))
    elif kind in ("video", "video_url", "audio", "input_audio", "audio_url"):
        raise ValueError(
            f"{str(kind).replace('input_', '').split('_')[0]} field: a part of turn {number} is of type {kind}"
        )
    elif kind in ("thinking", "reasoning"):
        raise ValueError(
            f"reasoning: a part of turn {number} is of type {kind}; write it into the text, or leave it out"
        )
    else:
        raise ValueError(f"wrong type: content of turn {number} must be parts of type text or image, got {kind!r:.40}")


def _first(mapping: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((mapping[key] for key in keys if mapping.get(key) is not None), None)
