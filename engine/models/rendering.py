"""A conversation as the text that a chat template makes of it, in the form that this template takes.

A template is a program that others wrote: what it takes is found out by showing it a conversation, and what it raises is the
reason of the sample that it was shown.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from liit.engine.models.processors import SampleError, image_token, puts_images_first, template_of, tokenizer_of

PLACEHOLDER = "<image>"
SYSTEM, QUESTION, ANSWER = "Herein", "Wherefrom", "Thereupon"
MERGED = "the chat template takes no system turn: put before the first user turn"
Conversation = Sequence[Mapping[str, Any]]
"""Turns with `role` and `text`; one with a true `context` is read, and neither trained nor scored."""
Message = dict[str, Any]
Span = tuple[int, int]


@dataclass(frozen=True)
class Form:
    """What a template takes: contents as lists of parts, or as strings; a system turn, or none."""

    parts: bool
    system: bool


def without_images(conversation: Conversation) -> list[dict[str, Any]]:
    """The conversation with its image placeholders taken out: what image grounding compares with (Adapt-∞, eq. 2)."""
    return [
        {**turn, "text": turn["text"].replace(PLACEHOLDER + "\n", "").replace(PLACEHOLDER, "")} for turn in conversation
    ]


def render(processor: Any, messages: Sequence[Message], prompt: bool = False) -> tuple[str, list[Span]]:
    """The text of the messages, or the prompt for the next answer, and where its `{% generation %}` blocks are.

    Raises SampleError with the template's own words, or where it prints a list of parts instead of what is in it.
    """
    template = template_of(processor)
    marks = re.search(r"\{%-?\s*generation\s*-?%\}", template) is not None
    try:
        (text,), blocks = render_jinja_template(
            [list(messages)],
            chat_template=template,
            add_generation_prompt=prompt,
            return_assistant_tokens_mask=marks,
            **tokenizer_of(processor).special_tokens_map,
        )
    except Exception as error:
        words = str(error).strip().split("\n")[0] or type(error).__name__
        raise SampleError(f"the chat template refuses the conversation: {words}") from error
    if any(isinstance(one["content"], list) and str(one["content"]) in text for one in messages):
        raise SampleError("the chat template prints lists: it takes plain strings only")
    return text, blocks[0] if blocks else []


def form_of(processor: Any) -> Form:
    """Raises SampleError where the template can write no question with its answer, and where it loses an image."""
    sees = hasattr(processor, "image_processor") and not puts_images_first(processor)
    question = f"{PLACEHOLDER}\n{QUESTION}" if sees else QUESTION
    talk = [{"role": "user", "text": question}, {"role": "assistant", "text": ANSWER}]
    faults = []
    for parts in (True, False) if sees else (False,):
        form = Form(parts, system=True)
        fault = _fault(processor, messages_of(processor, talk, form)[0], (QUESTION, ANSWER), image=sees)
        if fault is None:
            headed = messages_of(processor, [{"role": "system", "text": SYSTEM}, *talk], form)[0]
            return Form(parts, _fault(processor, headed, (SYSTEM, QUESTION, ANSWER), image=sees) is None)
        faults.append(fault)
    raise SampleError(f"the chat template cannot write a question and its answer: {faults[-1]}")


def _fault(processor: Any, messages: Sequence[Message], texts: Iterable[str], image: bool) -> str | None:
    try:
        written, _ = render(processor, messages)
    except SampleError as error:
        return str(error)
    lost = [text for text in texts if text not in written]
    if lost:
        return f"{len(lost)} turns are not in its text"
    if image and (found := written.count(image_token(processor))) != 1:
        return f"it writes {found} image tokens for one image"
    return None


def messages_of(processor: Any, conversation: Conversation, form: Form) -> tuple[list[Message], list[str]]:
    """The conversation as the template takes it, and what had to be changed for that, in words."""
    turns: list[Mapping[str, Any]] = list(conversation)
    notes = []
    if not form.system and [turn["role"] for turn in turns[:2]] == ["system", "user"]:
        turns[:2] = [{**turns[1], "text": f"{turns[0]['text']}\n\n{turns[1]['text']}"}]
        notes.append(MERGED)
    if puts_images_first(processor):
        turns = [*without_images(turns)]
    token = image_token(processor) if hasattr(processor, "image_processor") else PLACEHOLDER
    return [
        {
            "role": turn["role"],
            "content": _parts(turn["text"]) if form.parts else turn["text"].replace(PLACEHOLDER, token),
        }
        for turn in turns
    ], notes


def _parts(text: str) -> list[dict[str, str]]:
    """`a <image> b` as the list of parts that templates of vision-language models take."""
    parts: list[dict[str, str]] = []
    for position, piece in enumerate(text.split(PLACEHOLDER)):
        if position:
            parts.append({"type": "image"})
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts or [{"type": "text", "text": ""}]


def marked(message: Message, mark: str) -> Message:
    """The message with a mark at the end of its text, before the white space there, which templates may take off."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": _marked(content, mark)}
    last = max((at for at, part in enumerate(content) if part["type"] == "text"), default=None)
    if last is None:
        return {**message, "content": [*content, {"type": "text", "text": mark}]}
    parts = [{**part, "text": _marked(part["text"], mark)} if at == last else part for at, part in enumerate(content)]
    return {**message, "content": parts}


def _marked(text: str, mark: str) -> str:
    end = len(text.rstrip())
    return text[:end] + mark + text[end:]


def spoken(message: Message) -> str:
    """The text of a message, without its images."""
    content = message["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
