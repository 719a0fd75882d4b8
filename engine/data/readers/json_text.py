"""JSON: one list of samples, or JSON lines, plain or packed by gzip or zstd. Streamed: one sample in memory at a time."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import pyarrow as pa

from liit.engine.run.storage.places import Place, opened

SUFFIXES = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".json.zst", ".jsonl.zst")
PACKED = {".gz": "gzip", ".zst": "zstd"}

_CHUNK = 2**20
_MAX_ELEMENT = 2**26
"""Characters that one sample may have; a syntax error is searched for no further."""
_SPACE = re.compile(r"[ \t\n\r]*")
_OBJECT = re.compile(r'\s*\{\s*"([^"\\]+)"\s*:\s*\[')
_DECODER = json.JSONDecoder()


def rows(file: Place, raw: bool = False) -> Iterator[object]:
    """The samples as they stand in the file. A broken line of JSON lines comes as a ValueError, and the rest follows.

    Raises ValueError naming the file if it is missing or empty, is not UTF-8, is neither a list nor JSON lines, or is
    a list that breaks off: where a list's next sample begins is then unknown.
    """
    try:
        with _open(file) as stream:
            window = _Window(stream)
            start = window.peek()
            if start == "[":
                yield from _elements(file, window)
            elif start == "{":
                yield from _lines(file, window)
            else:
                found = f"starts with {start!r}" if start else "is empty"
                raise ValueError(f"{file} {found}; it must be a JSON list of samples, or JSON lines")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start} of a block") from error
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error


@contextmanager
def _open(file: Place) -> Iterator[TextIO]:
    """The text of a file, unpacked as it is read."""
    packing = PACKED.get(file.suffix.lower())
    with file.open("rb") if packing is None else _unpacked(file, packing) as stream:
        head = stream.read(2) if packing is None else b""
        if head in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError(f"{file} is UTF-16 text; make it UTF-8: iconv -f UTF-16 -t UTF-8 {file.name} > new.json")
        if packing is None:
            stream.seek(0)
        with io.TextIOWrapper(stream, encoding="utf-8-sig") as text:
            yield text


@contextmanager
def _unpacked(file: Place, packing: str) -> Iterator[Any]:
    with opened(file) as stored, pa.input_stream(stored, compression=packing) as stream:
        yield stream


def _lines(file: Place, window: "_Window") -> Iterator[object]:
    first = True
    for number, line in window.lines():
        if not line.strip():
            continue
        row: object
        if len(line) > _MAX_ELEMENT:
            raise ValueError(f"{file} has a line of more than {_MAX_ELEMENT} characters{_hint(window, file)}")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if first:
                found = f"line {number}: {error}{_hint(window, file)}"
                raise ValueError(f"{file} is neither a JSON list nor JSON lines: {found}") from error
            row = ValueError(f"not JSON: line {number} of {file.name}: {error}")
        first = False
        yield row


def _hint(window: "_Window", file: Place) -> str:
    around = _OBJECT.match(window.head)
    return f"; its samples seem to be under {around[1]!r}: {unwrap(around[1], file)}" if around else ""


def unwrap(key: str, file: Place) -> str:
    """How the list inside an object becomes a file of its own."""
    return f"give the list alone, jq '.{key}' {file.name} > {key}.json"


def _elements(file: Place, window: "_Window") -> Iterator[object]:
    count = 0
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
    except (UnicodeDecodeError, OSError):
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not a whole JSON list of samples: after {count} of them: {error}") from error


class _Window:
    """The part of a text that is being decoded."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.text = ""
        self.at = 0
        self.skipped = 0
        """Lines before the first sample."""

    @property
    def head(self) -> str:
        return self.text[:1000]

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
            self.skipped += self.text.count("\n", self.at, space.end())
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

    def lines(self) -> Iterator[tuple[int, str]]:
        """The lines from here on, with their numbers; of one that is too long, its beginning, and nothing after it."""
        number = self.skipped
        while True:
            end = self.text.find("\n", self.at)
            if end < 0 and len(self.text) - self.at <= _MAX_ELEMENT and self.grow():
                continue
            number += 1
            if end < 0:
                if self.at < len(self.text):
                    yield number, self.text[self.at :]
                return
            line, self.at = self.text[self.at : end], end + 1
            yield number, line
