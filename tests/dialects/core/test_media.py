"""Documents and search results as text."""

import base64
from typing import Any

import pytest

from modelplex.core.errors import BadRequest
from modelplex.core.request import InlineData, Place, SearchResultPart
from modelplex.dialects.core.media import data_url, decode_text, document_text, search_text


def test_a_data_url_has_the_type_and_the_data() -> None:
    assert data_url(InlineData("image/png", "AA==")) == "data:image/png;base64,AA=="


def test_text_is_base64_of_utf8() -> None:
    encoded = base64.b64encode("grün".encode()).decode()
    assert decode_text(InlineData("text/plain", encoded), Place("m")) == "grün"
    for data in ("!", base64.b64encode(b"\xff").decode()):
        with pytest.raises(BadRequest) as refused:
            decode_text(InlineData("text/plain", data), Place("m", ".content", 1))
        assert refused.value.param == "m.content[1]"


@pytest.mark.parametrize(
    ("members", "text", "left"),
    [
        ({}, "body", {}),
        ({"title": "T", "filename": "a.txt", "context": "C"}, "T\nC\nbody", {"filename": "a.txt"}),
        ({"filename": "a.txt", "cache": 1}, "a.txt\nbody", {"cache": 1}),
    ],
)
def test_a_document_begins_with_its_title_and_context(
    members: dict[str, Any], text: str, left: dict[str, Any]
) -> None:
    assert document_text("body", members) == text
    assert members == left


def test_a_search_result_begins_with_its_title_and_source() -> None:
    found = SearchResultPart("https://e.org", "E", ("one", "two"))
    assert search_text(found) == "E\nhttps://e.org\none\ntwo"
    assert search_text(found, separator="\n\n") == "E\nhttps://e.org\n\none\n\ntwo"
