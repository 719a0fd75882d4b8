"""Copies are found whatever their files and spacing are; anything that a person would call different is."""

import pyarrow as pa
from PIL import Image

from liit.engine.data.copies import content_hash, words


def hashed(text: str = "What is it?", answer: str = "a seven", *shades: int) -> bytes:
    turns = [{"role": "user", "text": text}, {"role": "assistant", "text": answer}]
    return content_hash(turns, [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in shades])


def test_case_spacing_and_form_of_characters_do_not_matter() -> None:
    assert hashed("What  is\nit?") == hashed(" what is it? ") == hashed("What is it\uff1f")


def test_words_roles_and_pixels_matter() -> None:
    different = [hashed(), hashed("What is that?"), hashed(answer="an eight"), hashed("What is it? a", "seven")]
    pictured = [hashed("What is it?", "a seven", 1), hashed("What is it?", "a seven", 2)]
    pictured += [hashed("What is it?", "a seven", 1, 2), hashed("What is it?", "a seven", 2, 1)]
    assert len({*different, *pictured}) == 8


def test_hashes_become_two_words_each() -> None:
    column = pa.chunked_array([[hashed()], [hashed("b"), hashed()]], pa.binary(16))
    found = words(column)
    assert found.shape == (3, 2)
    assert (found[0] == found[2]).all()
    assert (found[0] != found[1]).all()
