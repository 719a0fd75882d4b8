"""JSON: one list of samples, or JSON lines, plain or packed by gzip or zstd. Streamed: one sample in memory at a time."""

import codecs
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from typing import Any, BinaryIO, TextIO

import pyarrow as pa

from liit.engine.run.storage.places import Place, opened, size_of

SUFFIXES = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".json.zst", ".jsonl.zst")
PACKED = {".gz": "gzip", ".zst": "zstd"}

PIECE = 64 << 20
"""Bytes of JSON lines that are read together, about."""
_CHUNK = 2**20
_MAX_ELEMENT = 2**26
"""Characters that one sample may have; a syntax error is searched for no further."""
_SPACE = re.compile(r"[ \t\n\r]*")
_OBJECT = re.compile(r'\s*\{\s*"([^"\\]+)"\s*:\s*\[')
_DECODER = json.JSONDecoder()


def rows(file: Place, piece: tuple[int, int] | None = None) -> Iterator[object]:
    """The samples as they stand in the file. A broken line of JSON lines comes as a ValueError, and the rest follows.

    piece: of JSON lines the bytes to read, from the beginning of a line to before that of another; None for all.
    Raises ValueError naming the file if it is missing or empty, is not UTF-8, is neither a list nor JSON lines, or is
    a list that breaks off: where a list's next sample begins is then unknown.
    """
    try:
        with _open(file, piece) as stream:
            window = _Window(stream)
            if piece is not None:
                yield from _lines(file, window, piece[0])
                return
            start = window.peek()
            if start == "[":
                yield from _elements(file, window)
            elif start == "{":
                yield from _lines(file, window)
            else:
                found = f"starts with {start!r}" if start else "is empty"
                raise ValueError(f"{file} {found}; it must be a JSON list of samples, or JSON lines")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {_undecodable(file)}") from error
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def pieces(file: Place) -> list[tuple[int, int] | None]:
    """Ranges of bytes of about PIECE of plain JSON lines, each from the beginning of a line; another file is one piece."""
    try:
        size = size_of(file)
        count = -(-size // PIECE)
        if count < 2 or file.suffix.lower() in PACKED:
            return [None]
        cuts = [0]
        with file.open("rb") as stream:
            head = stream.read(_CHUNK)
            said = head.removeprefix(codecs.BOM_UTF8).lstrip(b" \t\r\n")
            if not said.startswith(b"{"):
                return [None]
            first = len(head) - len(said)
            for at in range(1, count):
                stream.seek(size * at // count - 1)
                stream.readline()
                cuts += [stream.tell()] if max(cuts[-1], first) < stream.tell() < size else []
        return list(pairwise([*cuts, size]))
    except OSError:
        return [None]  # whoever reads it says so


class _Range(io.RawIOBase):
    """Some bytes of a file, as a file."""

    def __init__(self, stream: BinaryIO, start: int, stop: int) -> None:
        self.stream, self.left = stream, stop - start
        stream.seek(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self.stream.read(min(len(buffer), self.left))
        buffer[: len(found)] = found
        self.left -= len(found)
        return len(found)


@contextmanager
def _stored(file: Place) -> Iterator[Any]:
    """The bytes of a file, unpacked as they are read."""
    packing = PACKED.get(file.suffix.lower())
    if packing is None:
        with file.open("rb") as stream:
            yield stream
        return
    with opened(file) as packed, pa.input_stream(packed, compression=packing) as stream:
        yield stream


@contextmanager
def _open(file: Place, piece: tuple[int, int] | None) -> Iterator[TextIO]:
    """The text of a file, or of a piece of it."""
    packing = PACKED.get(file.suffix.lower())
    with _stored(file) as stream:
        if piece is not None:
            encoding = "utf-8" if piece[0] else "utf-8-sig"
            with io.TextIOWrapper(io.BufferedReader(_Range(stream, *piece), _CHUNK), encoding=encoding) as text:
                yield text
            return
        head = stream.read(2) if packing is None else b""
        if head in (b"\xff\xfe", b"\xfe\xff"):
            raise ValueError(f"{file} is UTF-16 text; make it UTF-8: iconv -f UTF-16 -t UTF-8 {file.name} > new.json")
        if packing is None:
            stream.seek(0)
        with io.TextIOWrapper(stream, encoding="utf-8-sig") as text:
            yield text


def _undecodable(file: Place) -> str:
    """Where a file stops being UTF-8, in words: the same whichever piece of it was read."""
    decoder, at = codecs.getincrementaldecoder("utf-8")(), 0
    with _stored(file) as stream:
        while True:
            block, held = stream.read(_CHUNK), len(decoder.getstate()[0])
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as error:
                return f"{error.reason} at byte {at - held + error.start}"
            if not block:
                return "it was when it was first read"
            at += len(block)


@lru_cache(maxsize=4)
def _lines_before(file: Place, start: int) -> int:
    """How many lines end before a byte, as text has them: by LF, CR or both."""
    count, last = 0, b""
    with file.open("rb") as stream:
        while start > 0 and (block := stream.read(min(_CHUNK, start))):
            both = block.count(b"\r\n") + (last == b"\r" and block.startswith(b"\n"))
            count += block.count(b"\n") + block.count(b"\r") - both
            last, start = block[-1:], start - len(block)
    return count


def _lines(file: Place, window: "_Window", start: int = 0) -> Iterator[object]:
    """The samples of lines; start: the byte of the file that the first one begins at."""
    first = start == 0
    for number, line in window.lines():
        if not line.strip():
            continue
        row: object
        if len(line) > _MAX_ELEMENT:
            hint = _hint(window, file) if first else ""
            raise ValueError(f"{file} has a line of more than {_MAX_ELEMENT} characters{hint}")
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if first:
                found = f"line {number}: {error}{_hint(window, file)}"
                raise ValueError(f"{file} is neither a JSON list nor JSON lines: {found}") from error
            row = ValueError(f"not JSON: line {_lines_before(file, start) + number} of {file.name}: {error}")
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
