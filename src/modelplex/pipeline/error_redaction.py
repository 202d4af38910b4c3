"""Removes secrets, addresses and HTML pages from a provider's error before a caller reads it.

Some providers repeat the request, some errors are a proxy's page, and some name internal hosts.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from modelplex.core.errors import ModelplexError
from modelplex.dialects.core.foreign_errors import (
    error_without_addresses,
    error_without_page,
    without_addresses,
    without_page,
)

BEGINNINGS = ((b"\n\n", 2), (b"\n\r\n", 3), (b"\n{", 1))
"""What precedes an event or a line of JSON, and the offset at which that begins."""
_NONE = msgspec.Raw()


class _Failed(msgspec.Struct):
    response: msgspec.Raw = _NONE


class _Response(msgspec.Struct):
    error: msgspec.Raw = _NONE


_decode_failed = msgspec.json.Decoder(_Failed).decode
_decode_response = msgspec.json.Decoder(_Response).decode


def redact_error(error: ModelplexError, hide: Callable[[bytes], bytes], *, sealed: bool) -> None:
    """Change the error in place. Every attempt's failure passes here: an error inside a response,
    one instead of a response, and one of the connection.

    A sealed caller reads no address. Another caller may read those in an error about its own
    request, which it may have written.
    """

    def redacted(text: str) -> str:
        text = without_page(hide(text.encode("utf-8", "replace")).decode())
        return without_addresses(text) if sealed or error.blame == "provider" else text

    error.message = redacted(error.message)
    error.args = (error.message,)
    error.type = redacted(error.type)
    error.code = redacted(error.code) if error.code is not None else None
    error.param = redacted(error.param) if error.param is not None else None
    if error.upstream.body is not None:
        body = error_without_page(hide(error.upstream.body))
        body = error_without_addresses(body) if sealed else body
        error.upstream = msgspec.structs.replace(error.upstream, body=body)


def redact_last_event(out: bytes) -> bytes:
    """Redact the last event or line, which is the error. Before it is the model's response."""
    end = len(out.rstrip(b"\r\n"))
    places = [(out.rfind(mark, 0, end), further) for mark, further in BEGINNINGS]
    start = max((at + further for at, further in places if at >= 0), default=0)
    return out[:start] + _redacted_event(out[start:])


def _redacted_event(event: bytes) -> bytes:
    """An error event of the Responses dialect holds the whole response, of some MB, and the
    request; in the response only its error is redacted.
    """
    response, error = _parts_of(event)
    if not response:
        return error_without_addresses(error_without_page(event))
    before, _, after = event.partition(response)
    if error:
        response = response.replace(error, error_without_addresses(error_without_page(error)))
    return b"".join((_redacted_event(before), response, _redacted_event(after)))


def _parts_of(event: bytes) -> tuple[bytes, bytes]:
    """The JSON of the response in an event, and of the error in it; empty where there is none."""
    try:
        response = bytes(_decode_failed(event[event.find(b"{") :]).response)
        return response, bytes(_decode_response(response).error) if response else b""
    except (msgspec.DecodeError, UnicodeDecodeError):
        return b"", b""
