"""Docstrings are plain text that a page shows as Markdown: what is no Markdown in them must not become it."""

import re
from typing import Any

import griffe

COMMAND = re.compile(r"(python|ray|liit) ")


class PlainText(griffe.Extension):
    """Brackets are brackets, not links; commands are code."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = "\n\n".join(shown(part) for part in obj.docstring.value.split("\n\n"))


def shown(paragraph: str) -> str:
    """A paragraph of a docstring as Markdown; one that is indented stays code."""
    if paragraph.startswith("    "):
        return paragraph
    if COMMAND.match(paragraph):
        return "\n".join(f"    {line}" for line in paragraph.splitlines())
    pieces = re.split(r"(`[^`]*`)", paragraph)
    return "".join(piece if piece.startswith("`") else plain(piece) for piece in pieces)


def plain(text: str) -> str:
    return re.sub(r"([\[\]_])", r"\\\1", text).replace("<", "&lt;")
