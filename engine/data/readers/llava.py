"""LLaVA JSON: one list of samples, or JSON lines. Streamed: the text is held by the mebibyte, objects one at a time."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

SUFFIXES = (".json", ".jsonl")

_CHUNK = 2**20
_MAX_ELEMENT = 2**26
"""Characters that one sample may have; a syntax error is searched for no further."""
_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def rows(file: Path, raw: bool = False) -> Iterator[object]:
    """The samples as they stand in the file. A broken line of JSON lines comes as a ValueError, and the rest follows.

    Raises ValueError naming the file if it is missing or empty, is not UTF-8, is neither a list nor JSON lines, or is
    a list that breaks off: where a list's next sample begins is then unknown.
    """
    try:
        with file.open(encoding="utf-8-sig") as stream:
            start = _Window(stream).peek()
            stream.seek(0)
            if start == "[":
                yield from _elements(file, stream)
            elif start == "{":
                yield from _lines(file, stream)
            else:
                found = f"starts with {start!r}" if start else "is empty"
                raise ValueError(f"{file} {found}; it must be a JSON list of samples, or JSON lines")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start} of a block") from error
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error


def _lines(file: Path, stream: TextIO) -> Iterator[object]:
    first = True
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        row: object
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if first:
                raise ValueError(f"{file} is neither a JSON list nor JSON lines: line {number}: {error}") from error
            row = ValueError(f"not JSON: line {number} of {file.name}: {error}")
        first = False
        yield row


def _elements(file: Path, stream: TextIO) -> Iterator[object]:
    window, count = _Window(stream), 0
    try:
        window.take("[")
        while window.peek() != "]":
            if count:
                window.take(",")
            yield window.value()
            count += 1
        window.take("]")
        if window.peek():
            raise ValueError("more text follows the end of the list")
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not a whole JSON list of samples: after {count} of them: {error}") from error


class _Window:
    """The part of a text that is being decoded."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.text = ""
        self.at = 0

    def grow(self) -> bool:
        # At least doubles, so that decoding a long element again and again stays linear in its length.
        more = self.stream.read(max(_CHUNK, len(self.text) - self.at))
        self.text, self.at = self.text[self.at :] + more, 0
        return bool(more)

    def peek(self) -> str:
        """The next character that is not white space; empty at the end of the text."""
        while True:
            space = _SPACE.match(self.text, self.at)
            assert space is not None
            self.at = space.end()
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.grow():
                return ""

    def take(self, wanted: str) -> None:
        found = self.peek()
        if found != wanted:
            raise ValueError(f"{wanted!r} expected, found {found or 'the end of the file'!r}")
        self.at += 1

    def value(self) -> object:
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except ValueError:
                if len(self.text) - self.at > _MAX_ELEMENT or not self.grow():
                    raise
                continue
            if end == len(self.text) and self.grow():
                continue  # a number may go on beyond the window
            self.at = end
            return value
