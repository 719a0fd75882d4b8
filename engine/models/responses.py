"""Where the responses of a conversation are in its rendered text: exactly what the model must produce, its end included.

A response begins where the prompt that generation would see ends, and stops at what ends its turn, so training and generation
meet at the same borders. Three renderings find those of a conversation of any length: the text, the text with a mark at the end
of every turn, and the prompt for the last answer. Only where marks change what a template writes, or miss a turn, every turn is
rendered with its own prompt.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from liit.engine.models.layout import Layout, layout_of
from liit.engine.models.processors import SampleError, tokenizer_of
from liit.engine.models.rendering import Conversation, Message, Span, marked, messages_of, render, spoken

LOST = "an answer is not in what the chat template writes: it does not count"
CHANGED = "the chat template rewrites an answer: what it writes counts"
ENDLESS = (
    "the chat template ends answers with no token of its own: they run on to the model's own, or to max_new_tokens"
)
MARKS = range(0xE000, 0xF900)
PRIVATE = re.compile(f"[{chr(MARKS[0])}-{chr(MARKS[-1])}]")
"""Characters for private use, which templates know nothing of."""


@dataclass(frozen=True)
class Response:
    """An answer in the text: from where the prompt ends to the end of its turn, and what of that counts, in characters."""

    start: int
    stop: int
    pieces: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Written:
    """A conversation as text. responses: of each assistant turn, the last one's never None. notes: what to say of the text."""

    text: str
    responses: tuple[Response | None, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def found(self) -> list[Response]:
        return [response for response in self.responses if response is not None]


def write(processor: Any, conversation: Conversation) -> Written:
    """Raises SampleError where the chat template refuses the conversation, or writes the last answer where no prompt ends."""
    layout = layout_of(processor)
    messages, notes = messages_of(processor, conversation, layout.form)
    text, blocks = render(processor, messages)
    spans = _by_marks(processor, messages, text, layout)
    if spans is None or None in spans:
        found = _by_prefixes(processor, messages, text, layout)
        spans = [one or other for one, other in zip(spans or found, found, strict=True)]
    if spans and spans[-1] is None:
        raise SampleError("the chat template writes the last answer where its own prompt does not end")
    turns = [turn for turn in conversation if turn["role"] == "assistant"]
    answers = [spoken(message).strip() for message in messages if message["role"] == "assistant"]
    responses: list[Response | None] = []
    for turn, answer, span in zip(turns, answers, spans, strict=True):
        if span is None:
            notes.append(LOST)
            responses.append(None)
            continue
        if answer not in text[slice(*span)]:
            notes.append(CHANGED)
        counts = (span,) if not blocks else _within(span, blocks, text, layout)
        responses.append(Response(*span, () if turn.get("context") else counts))
    if not layout.stops:
        notes.append(ENDLESS)
    return Written(text, tuple(responses), tuple(notes))


def stop_ids(processor: Any) -> list[int]:
    """Ids that end an answer: of the token that ends a turn in training, and of the tokenizer's own."""
    own = tokenizer_of(processor).eos_token_id
    return sorted({*layout_of(processor).stops, *([] if own is None else [int(own)])})


def _by_marks(processor: Any, messages: Sequence[Message], text: str, layout: Layout) -> list[Span | None] | None:
    """Spans of the assistant turns, None for one that is not there; None at all where marks change what a template writes."""
    said = [at for at, message in enumerate(messages) if message["role"] != "system"]
    answers = [at for at in said if messages[at]["role"] == "assistant"]
    free = (chr(code) for code in MARKS if chr(code) not in text)
    marks = dict(zip(said, free, strict=False))
    if not answers or answers[0] == said[0] or len(marks) < len(said):
        return None
    shown = [marked(message, marks.get(at, "")) for at, message in enumerate(messages)]
    try:
        seen = render(processor, shown)[0]
        prompt = render(processor, shown[: answers[-1]], prompt=True)[0]
    except SampleError:
        return None
    ends, asked = _ends(seen, marks), marks.get(answers[-1] - 1)
    if ends is None or asked is None or asked not in prompt:
        return None
    if seen.translate({ord(mark): None for mark in marks.values()}) != text:
        return None
    tail = prompt[prompt.rindex(asked) + 1 :]
    openings = (tail[: len(tail) - layout.borrowed], layout.opening)
    spans = []
    for at in answers:
        closing = layout.closings[at == len(messages) - 1]
        around = [ends.get(turn) for turn in (at - 1, at, at + 1)]
        spans.append(_between(text, around, openings, closing, messages[at]))
    return spans


def _ends(seen: str, marks: Mapping[int, str]) -> dict[int, int] | None:
    """Where the marked turns end in the text without marks; None where a mark stands twice."""
    turns = {mark: turn for turn, mark in marks.items()}
    found = [(turns[one[0]], one.start()) for one in PRIVATE.finditer(seen) if one[0] in turns]
    ends = {turn: place - before for before, (turn, place) in enumerate(found)}
    return ends if len(ends) == len(found) else None


def _between(
    text: str, around: Sequence[int | None], openings: Iterable[str], closing: str, message: Message
) -> Span | None:
    """The response whose question, itself and next question end at `around`."""
    low, high, until = around
    if low is None or high is None:
        return None
    starts = [(begin, -len(opening)) for opening in openings if (begin := text.find(opening, low, high)) >= 0]
    closes = text.find(closing, high, until)
    if not starts or closes < 0:
        return None
    begin, minus = min(starts)
    return begin - minus, closes + len(closing) if closing else _with_spaces(text, high, message)


def _with_spaces(text: str, end: int, message: Message) -> int:
    """Where an answer whose words end at `end` stops where nothing closes it: with its own white space, if that is there."""
    words = spoken(message)
    spaces = words[len(words.rstrip()) :]
    return end + len(spaces) if text.startswith(spaces, end) else end


def _by_prefixes(processor: Any, messages: Sequence[Message], text: str, layout: Layout) -> list[Span | None]:
    """Spans of the assistant turns, each from its own prompt; None for one that later turns change or take away."""
    spans: list[Span | None] = []
    for turn, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        try:
            prompt = render(processor, messages[:turn], prompt=True)[0]
            upto = render(processor, messages[: turn + 1])[0]
        except SampleError:  # it refuses a conversation that ends here
            spans.append(None)
            continue
        closing = layout.closings[turn == len(messages) - 1]
        start = len(prompt) - layout.borrowed
        stop = upto.rfind(closing) + len(closing) if closing else _with_spaces(upto, len(upto.rstrip()), message)
        there = text.startswith(prompt[:start]) and text.startswith(upto[:stop]) and start <= stop
        spans.append((start, stop) if there else None)
    return spans


def _within(span: Span, blocks: Sequence[Span], text: str, layout: Layout) -> tuple[Span, ...]:
    """What the template's own `{% generation %}` blocks leave of a response.

    White space between prompt and block counts too, for the model must write it, and so does what ends the turn, for else it
    would not learn to stop.
    """
    start, stop = span
    inside = [(max(low, start), min(high, stop)) for low, high in blocks if low < stop and high > start]
    if not inside:
        return ()
    if not text[start : inside[0][0]].strip():
        inside[0] = (start, inside[0][1])
    closing = next((one for one in layout.closings[::-1] if one and text[:stop].endswith(one)), "")
    return (*inside, (stop - len(closing), stop))
