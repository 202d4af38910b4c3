"""Reads the head of a request: the headers that the server acts on, each checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from modelplex.core.caller import Caller
from modelplex.core.errors import BadRequest
from modelplex.dialects.registry import DEFAULT
from modelplex.server.routes import client_headers

MAX_LENGTH_DIGITS = 20
"""Digits of a content-length: as many as the largest 64-bit number has. The parser accepts any
number of leading zeros.
"""


class RequestHead(msgspec.Struct, frozen=True):
    """What the server reads of a head. API keys in any header are accepted, ignored and never
    forwarded.

    client  dialect of the client by its headers, for paths that several dialects share
    detail  whether the query holds `detail`; only /health reads it
    """

    method: str
    path: str
    caller: Caller
    host: str | None
    origin: str | None
    authorization: str | None
    content_type: str
    length: int | None
    upgrade: bool
    client: str
    detail: bool


def read_head(scope: Mapping[str, Any], caller: Caller) -> RequestHead:
    """Raises BadRequest for headers that are ambiguous, missing or not served."""
    host = origin = authorization = None
    content_type, length, upgrade = "", None, False
    client, clients = DEFAULT, client_headers()
    for name, value in scope["headers"]:
        match name:
            case b"host":
                _check_single(name, host)
                host = value.decode("latin-1")
            case b"upgrade":
                upgrade = value.lower() == b"websocket"
            case b"content-type":
                # A media type is case-insensitive, its parameters may not be (RFC 9110 8.3.1).
                kind, *parameters = value.decode("latin-1").split(";", 1)
                content_type = ";".join((kind.lower(), *parameters))
            case b"content-length":
                length = _length(value)
            case b"origin":
                _check_single(name, origin)
                origin = value.decode("latin-1")
            case b"authorization":
                authorization = value.decode("latin-1")
            case b"content-encoding" if value.strip().lower() not in {b"", b"identity"}:
                raise BadRequest(
                    "Request bodies with a content-encoding are not supported.",
                    status=415,
                    code="unsupported_encoding",
                )
            case b"transfer-encoding" if value.strip().lower() != b"chunked":
                # The parser accepts "gzip, chunked" and would hand over compressed bytes.
                raise BadRequest("The only supported transfer-encoding is chunked.")
            case _:
                client = clients.get(name, client)
    if host is None and caller.kind == "tcp" and scope["http_version"] == "1.1":
        raise BadRequest("A request of HTTP/1.1 needs the header 'Host' (RFC 9112 3.2).", code="host_missing")
    return RequestHead(
        method=scope["method"],
        path=scope["path"],
        caller=caller,
        host=host,
        origin=origin,
        authorization=authorization,
        content_type=content_type,
        length=length,
        upgrade=upgrade,
        client=client,
        detail=b"detail" in scope["query_string"],
    )


def _length(value: bytes) -> int:
    if len(value) > MAX_LENGTH_DIGITS:
        raise BadRequest(
            f"The content-length has {len(value)} digits, and at most {MAX_LENGTH_DIGITS} are read."
        )
    return int(value)


def _check_single(name: bytes, previous: str | None) -> None:
    """Raises BadRequest for a second header of this name: one could pass the check here while
    another reader acts on the other (RFC 9112 3.2).
    """
    if previous is not None:
        raise BadRequest(f"The request has the header {name.decode()!r} twice.")
