"""Rules of response writers that all dialects share."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.events import CitationAdded, ResponseEnded
from modelplex.dialects.core.response_writer import lost_media, refusal_explanation, web_citation


def _cite(**members: Any) -> CitationAdded:
    return CitationAdded(0, msgspec.Raw(json.dumps(members).encode()), "other")


def test_a_web_page_is_cited_from_any_dialect() -> None:
    page = {"url": "https://a.example", "title": "A", "start_index": 1, "end_index": 4}
    assert web_citation(_cite(type="url_citation", **page)) == page
    assert web_citation(_cite(type="url_citation", url_citation=page)) == page
    assert web_citation(_cite(url="https://a.example")) == {
        **page,
        "title": "",
        "start_index": 0,
        "end_index": 0,
    }
    assert web_citation(_cite(type="char_location", document_index=0)) is None
    assert web_citation(_cite(url=5)) is None


@pytest.mark.parametrize(
    ("reason", "detail", "explanation"),
    [
        ("refusal", b'{"explanation":"Not that."}', "Not that."),
        ("refusal", b'{"explanation":null}', None),
        ("refusal", b"[]", None),
        ("refusal", b"{", None),
        ("refusal", None, None),
        ("stop", b'{"explanation":"Not that."}', None),
    ],
)
def test_a_refusal_may_have_an_explanation(
    reason: Any, detail: bytes | None, explanation: str | None
) -> None:
    raw = None if detail is None else msgspec.Raw(detail)
    assert refusal_explanation(ResponseEnded(reason, detail=raw)) == explanation


def test_a_lost_output_has_its_path() -> None:
    assert (lost_media("output[]").op, lost_media("output[]").path) == ("drop", "output[]")
