"""What makes two samples exact copies: the same pixels, and the same words but for case, spacing and form of characters."""

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image


def content_hash(conversation: Sequence[Mapping[str, Any]], images: Sequence[Image.Image]) -> bytes:
    """128 bits over roles, normalised texts (NFKC, case folded, runs of white space one space) and decoded images.

    An answer that is context alone is another one than the same that is learned.
    """
    digest = hashlib.blake2b(digest_size=16)
    for turn in conversation:
        if turn.get("context"):
            digest.update(b"context\0")
        digest.update(f"{turn['role']}\0{normalised(turn['text'])}\0".encode())
    for image in images:
        digest.update(f"{image.mode} {image.size}\0".encode())
        digest.update(image.tobytes())
    return digest.digest()


def text_hash(conversation: Sequence[Mapping[str, Any]]) -> bytes:
    """128 bits over roles and normalised texts alone, whatever images are shown with them."""
    digest = hashlib.blake2b(digest_size=16)
    for turn in conversation:
        digest.update(f"{turn['role']}\0{normalised(turn['text'])}\0".encode())
    return digest.digest()


def normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(contents: pa.ChunkedArray) -> np.ndarray:
    """(N, 2) uint64 of N hashes, as selectors take them."""
    array = contents.combine_chunks()
    if not len(array):
        return np.empty((0, 2), np.uint64)
    return np.frombuffer(array.buffers()[1], np.uint64).reshape(-1, 2)[array.offset : array.offset + len(array)]
