"""Documents and search results as text."""

import base64
from typing import Any

import pytest

from modelplex.core.errors import BadRequest
from modelplex.core.request import InlineData, Place, SearchResultPart
from modelplex.dialects.core.media import (
    data_url,
    decode_text,
    document_text,
    media_type_of,
    name_of_type,
    search_text,
    type_of_name,
)


def test_a_data_url_has_the_type_and_the_data() -> None:
    assert data_url(InlineData("image/png", "AA==")) == "data:image/png;base64,AA=="


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("given", "data", "filename", "kind"),
    [
        ("image/jpg", "", None, "image/jpeg"),
        ("IMAGE/PNG; x=y", "", None, "image/png"),
        ("text/x-markdown", "", None, "text/markdown"),
        ("application/octet-stream", encoded(b"# Notes"), "notes.markdown", "text/markdown"),
        ("application/octet-stream", encoded("grün ".encode() * 500), None, "text/plain"),
        ("", encoded(b"%PDF-1.7\n\xff"), None, "application/pdf"),
        ("", encoded(b"\x89PNG\r\n\x1a\n"), "picture", "image/png"),
        ("", encoded(b"a\0b"), None, "application/octet-stream"),
        ("", "?", "a.unknown", "application/octet-stream"),
        ("audio/wav", "", "a.txt", "audio/wav"),
    ],
)
def test_a_type_is_the_one_that_services_take(given: str, data: str, filename: str | None, kind: str) -> None:
    assert media_type_of(given, data, filename=filename) == kind


def test_names_tell_types_and_types_names() -> None:
    assert type_of_name("https://e.org/a.JPG?size=1#x") == "image/jpeg"
    assert type_of_name("https://e.org/a") is None
    assert [name_of_type(kind) for kind in ("application/pdf", "text/csv", "image/heic")] == [
        "document.pdf",
        "document.csv",
        "document.heic",
    ]


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
