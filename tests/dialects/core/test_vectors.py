"""Encodings of embedding vectors."""

import base64
import struct

import pytest

from modelplex.core.errors import UpstreamBroken
from modelplex.dialects.core.vectors import encode_vector

FLOATS = (0.5, -1.0, 2.0)
TEXT = base64.b64encode(struct.pack("<3f", *FLOATS)).decode()


def test_a_vector_is_converted_both_ways() -> None:
    assert encode_vector(FLOATS, "float") == list(FLOATS)
    assert encode_vector(FLOATS, "base64") == TEXT
    assert encode_vector(TEXT, "float") == list(FLOATS)


def test_base64_passes_unchanged_where_it_is_wanted() -> None:
    assert encode_vector("odd", "base64") == "odd"


@pytest.mark.parametrize("text", ["!", "AAA", base64.b64encode(b"12345").decode()])
def test_text_that_is_not_base64_of_whole_floats_is_an_error(text: str) -> None:
    with pytest.raises(UpstreamBroken, match="32-bit floats"):
        encode_vector(text, "float")
