"""The headers that the server acts on."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.core.caller import Caller
from modelplex.core.errors import BadRequest
from modelplex.dialects.registry import DEFAULT
from modelplex.server.request_head import MAX_LENGTH_DIGITS, RequestHead, read_head

TCP = Caller(listener="tcp:127.0.0.1:1", kind="tcp", client="127.0.0.1")
UNIX = Caller(listener="unix:/m.sock", kind="unix")


def head(*headers: tuple[bytes, bytes], caller: Caller = UNIX, **more: Any) -> RequestHead:
    scope = {"method": "POST", "path": "/p", "query_string": b"", "http_version": "1.1", **more}
    return read_head({**scope, "headers": list(headers)}, caller)


def test_a_head_without_headers_on_a_socket() -> None:
    assert head() == RequestHead(
        method="POST",
        path="/p",
        caller=UNIX,
        host=None,
        origin=None,
        authorization=None,
        content_type="",
        length=None,
        upgrade=False,
        client=DEFAULT,
        detail=False,
    )


def test_every_header_that_is_read() -> None:
    found = head(
        (b"host", b"h\xe4"),
        (b"origin", b"http://o"),
        (b"authorization", b"Bearer t"),
        (b"content-type", b"Application/JSON; Charset=UTF-8"),
        (b"content-length", b"0007"),
        (b"upgrade", b"WebSocket"),
        (b"anthropic-version", b"2023-06-01"),
        (b"content-encoding", b"identity"),
        (b"transfer-encoding", b" Chunked"),
        query_string=b"detail",
    )
    assert (found.host, found.origin, found.authorization) == ("hä", "http://o", "Bearer t")
    assert found.content_type == "application/json; Charset=UTF-8"
    assert (found.length, found.upgrade, found.client, found.detail) == (7, True, "anthropic_messages", True)


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


def test_a_length_has_a_limit_of_digits() -> None:
    assert head((b"content-length", b"0" * (MAX_LENGTH_DIGITS - 1) + b"5")).length == 5
    with pytest.raises(BadRequest, match=f"at most {MAX_LENGTH_DIGITS}"):
        head((b"content-length", b"1" * (MAX_LENGTH_DIGITS + 1)))


@pytest.mark.parametrize(
    ("caller", "version", "refused"),
    [(TCP, "1.1", True), (TCP, "1.0", False), (UNIX, "1.1", False)],
)
def test_a_host_is_needed_on_tcp_in_http_1_1(caller: Caller, version: str, refused: bool) -> None:
    if not refused:
        assert head(caller=caller, http_version=version).host is None
        return
    with pytest.raises(BadRequest) as fault:
        head(caller=caller, http_version=version)
    assert fault.value.code == "host_missing"
