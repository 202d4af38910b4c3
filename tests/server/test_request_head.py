"""The headers that the server acts on."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.core.errors import BadRequest
from modelplex.dialects.registry import DEFAULT
from modelplex.server.request_head import HttpHead, RequestHead


def head(*headers: tuple[bytes, bytes], **more: Any) -> RequestHead:
    facts: dict[str, Any] = {"method": "POST", "path": "/p", "raw_path": b"/p", **more}
    return HttpHead(**facts, headers=list(headers)).facts


def test_a_head_without_headers_on_a_socket() -> None:
    assert head() == RequestHead(
        method="POST",
        path="/p",
        host=None,
        origin=None,
        authorization=None,
        content_type="",
        upgrade=False,
        operation=None,
        forwarded=(),
        client=DEFAULT,
        detail=False,
    )


def test_every_header_that_is_read() -> None:
    found = head(
        (b"host", b"h\xe4"),
        (b"origin", b"http://o"),
        (b"authorization", b"Bearer t"),
        (b"content-type", b"Application/JSON; Charset=UTF-8"),
        (b"upgrade", b"WebSocket"),
        (b"anthropic-version", b"2023-06-01"),
        (b"content-encoding", b"identity"),
        (b"transfer-encoding", b" Chunked"),
        query=b"detail",
    )
    assert (found.host, found.origin, found.authorization) == ("hä", "http://o", "Bearer t")
    assert found.content_type == "application/json; Charset=UTF-8"
    assert (found.upgrade, found.client, found.detail) == (True, "anthropic_messages", True)


@pytest.mark.parametrize("name", [b"host", b"origin"])
def test_a_second_host_or_origin_is_refused(name: bytes) -> None:
    with pytest.raises(BadRequest, match="twice"):
        head((name, b"a"), (name, b"a"))


@pytest.mark.parametrize("value", [b"gzip", b"GZIP", b" br ", b"identity, gzip"])
def test_an_encoded_body_is_a_415(value: bytes) -> None:
    with pytest.raises(BadRequest) as refused:
        head((b"content-encoding", value))
    assert (refused.value.status, refused.value.code) == (415, "unsupported_encoding")


@pytest.mark.parametrize("value", [b"gzip, chunked", b"chunked, chunked", b""])
def test_another_transfer_encoding_is_refused(value: bytes) -> None:
    with pytest.raises(BadRequest, match="chunked"):
        head((b"transfer-encoding", value))
