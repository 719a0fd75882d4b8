"""The columns that are known, and how a row of each becomes a row with a conversation.

`recognise` goes by the names of columns alone; nothing is guessed from what is in them. What `columns:` of a release maps is
renamed first, so that anything can be read.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain, islice
from typing import Any, NamedTuple

from liit.engine.data.readers.json_text import unwrap
from liit.engine.data.readers.pictures import IMAGE_KEYS, decoded
from liit.engine.data.readers.sample import PLACEHOLDER, as_text, empty, text
from liit.engine.data.readers.turns import CONVERSATION_KEYS
from liit.engine.run.storage.places import Place

Row = dict[str, Any]
RECOGNISED_WITHIN = 100
"""Rows of a file that are looked at for columns that are known."""


class Shape(NamedTuple):
    name: str
    needs: tuple[str, ...]
    takes: tuple[str, ...]
    """Further columns that it reads."""
    build: Callable[[Row], Row]
    """The conversation, and the pictures where they are in columns of its own."""


def shaped(row: Row, shape: Shape) -> Row:
    """The row with a conversation in place of the shape's own columns; what a row has beside them stays."""
    if shape.name == "chat":
        return row
    own = {*shape.needs, *shape.takes}
    return {key: value for key, value in row.items() if key not in own} | shape.build(row)


def recognise(columns: Collection[str], only: str | None = None) -> Shape | None:
    """The shape that has such columns, the first where several fit. only: the name of the one that may be it."""
    for shape in SHAPES.values():
        needed = any if shape.name == "chat" else all
        if only in (None, shape.name) and needed(name in columns for name in shape.needs):
            return shape
    return None


def renamed(row: Row, columns: Mapping[str, str]) -> Row:
    """The row as `columns` says, from its own names to those that are read.

    Several columns that are one text are joined by line breaks, several that are pictures follow each other. Raises ValueError
    for a value that cannot be what it is said to be.
    """
    if not columns:
        return row
    kept = {key: value for key, value in row.items() if key not in columns}
    given: dict[str, list[Any]] = {}
    for name, target in columns.items():
        if name in row and not empty(row[name]):
            given.setdefault(target, []).append(row[name])
    said = [
        {"role": role, "content": "\n".join(_word(value, role) for value in given[role])}
        for role in ("user", "assistant")
        if role in given
    ]
    if {"user", "assistant"} & set(columns.values()):
        kept = {key: value for key, value in kept.items() if key not in CONVERSATION_KEYS} | {"messages": said}
    if "system" in given:
        kept["system"] = "\n".join(_word(value, "system") for value in given["system"])
    pictures = [one for value in given.get("image", []) for one in _list(value)]
    pictures += [{"bytes": decoded(one)} for value in given.get("image_base64", []) for one in _list(value)]
    if pictures:
        kept = {key: value for key, value in kept.items() if key not in IMAGE_KEYS} | {"images": pictures}
    for target, key in {"id": "id", "task": "task", "metric": "metric", "conversation": "conversations"}.items():
        if target in given:
            kept[key] = given[target][0]
    if "references" in given:
        kept["references"] = [one for value in given["references"] for one in _list(value)]
    return kept


def _word(value: object, what: str) -> str:
    return as_text(value, what) or ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _turns(*said: tuple[str, object]) -> list[Row]:
    return [{"role": role, "content": content} for role, content in said]


def _history(row: Row) -> list[Row]:
    """`history` of Alpaca and ms-swift: earlier pairs of question and answer."""
    pairs = row.get("history")
    if empty(pairs):
        return []
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise ValueError("wrong type: history must be a list of pairs of question and answer")
    return [turn for asked, told in pairs for turn in _turns(("user", asked), ("assistant", told))]


def _alpaca(row: Row) -> Row:
    asked = "\n".join(text(row[key], key) for key in ("instruction", "input") if not empty(row.get(key)))
    return {"messages": [*_history(row), *_turns(("user", asked), ("assistant", row.get("output")))]}


def _query(row: Row) -> Row:
    return {"messages": [*_history(row), *_turns(("user", row.get("query")), ("assistant", row.get("response")))]}


def _completion(row: Row) -> Row:
    """Texts, or lists of messages. The loss is on the completion alone, as TRL has it: answers in the prompt are context."""
    asked, told = row.get("prompt"), row.get("completion")
    if not isinstance(asked, list):
        asked = _turns(("user", asked))
    if not isinstance(told, list):
        told = _turns(("assistant", told))
    return {"messages": [*map(_as_context, asked), *told]}


def _as_context(turn: Any) -> Any:
    return turn | {"weight": 0} if isinstance(turn, dict) else turn


def _cauldron(row: Row) -> Row:
    texts = row.get("texts")
    if not isinstance(texts, list) or not all(isinstance(pair, dict) for pair in texts):
        raise ValueError("wrong type: texts must be a list of objects with user and assistant")
    pairs = [_turns(("user", pair.get("user")), ("assistant", pair.get("assistant"))) for pair in texts]
    return {"messages": [turn for pair in pairs for turn in pair]}


def _m3it(row: Row) -> Row:
    asked = "\n".join(text(row[key], key) for key in ("instruction", "inputs") if not empty(row.get(key)))
    stored = row.get("image_base64_str")
    pictures = [] if empty(stored) else [{"bytes": decoded(one)} for one in _list(stored)]
    return {"messages": _turns(("user", asked), ("assistant", row.get("outputs"))), "images": pictures}


def _caption(row: Row) -> Row:
    """A picture and its text, as LLaVA is pretrained on: nothing is asked, the picture alone is the question."""
    asked = PLACEHOLDER * sum(len(_list(row[key])) for key in IMAGE_KEYS if not empty(row.get(key)))
    return {"messages": _turns(("user", asked), ("assistant", row.get("txt")))}


def _same(row: Row) -> Row:
    return row


SHAPES = {
    one.name: one
    for one in (
        Shape("chat", CONVERSATION_KEYS, (), _same),
        Shape("cauldron", ("texts",), (), _cauldron),
        Shape("m3it", ("instruction", "outputs", "image_base64_str"), ("inputs",), _m3it),
        Shape("alpaca", ("instruction", "output"), ("input", "history"), _alpaca),
        Shape("prompt-completion", ("prompt", "completion"), (), _completion),
        Shape("query-response", ("query", "response"), ("history",), _query),
        Shape("caption", ("txt",), (), _caption),
    )
}


def columns_of(shape: Shape, there: Collection[str] = ()) -> str:
    """The names that make a row of this shape, in words; there: those that a file has."""
    if shape.name != "chat":
        return ", ".join(shape.needs)
    return " or ".join([name for name in shape.needs if name in there] or shape.needs)


def wrapped(row: Mapping[str, Any]) -> Iterator[str]:
    """Keys under which the samples may be, where a file is one object around them."""
    return (key for key, value in row.items() if isinstance(value, list) and value and isinstance(value[0], dict))


def recognised(
    file: Place, rows: Iterator[object], columns: Mapping[str, str], only: str | None
) -> tuple[Shape | None, Collection[str], Iterator[object]]:
    """The shape of a file's rows by the first that has one, the columns seen until then, and all rows; None where there are none.

    columns: what they are renamed to. only: the name of the one shape that it may be. Raises ValueError that says what its
    columns are, where none of them is known.
    """
    looked: list[object] = []
    seen: dict[str, object] = {}
    for row in islice(rows, RECOGNISED_WITHIN):
        looked.append(row)
        if isinstance(row, dict):
            seen |= row
            shape = recognise(_names(row, columns), only)
            if shape is not None and set(columns) <= set(seen):
                return shape, seen, chain(looked, rows)
    if not looked:
        return None, (), iter(())
    shape = recognise(_names(seen, columns), only)
    missing = [name for name in columns if name not in seen]
    if seen and (missing or shape is None):
        raise ValueError(_unknown(file, seen, missing, only))
    return shape or SHAPES["chat"], seen, chain(looked, rows)


def _names(row: Mapping[str, object], columns: Mapping[str, str]) -> set[str]:
    """Columns as they are called once `columns` has renamed them."""
    kept = {name for name in row if name not in columns}
    spoken = {"user", "assistant", "conversation"} & set(columns.values())
    return kept | ({"messages"} if spoken else set())


def _unknown(file: Place, seen: Mapping[str, object], missing: list[str], only: str | None) -> str:
    has = f"{file} has columns {', '.join(map(str, seen))}"[:1000]
    if missing:
        return f"{has}, and no {', '.join(missing)}, which `columns` names"
    around = next(wrapped(seen), None)
    if around is not None:
        return f"{has}; its samples seem to be under {around!r}: {unwrap(around, file)}"
    known = (SHAPES[only],) if only else SHAPES.values()
    told = "; ".join(columns_of(shape) for shape in known)
    return f"{has}, but none of: {told}; say which is which, as columns: {{question: user, answer: assistant}}"
