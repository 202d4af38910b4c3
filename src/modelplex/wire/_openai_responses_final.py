"""The response object with which an answer ends, found in what the client is given: it is what the gateway keeps.

Above it stands `keeping`; below it the framing. It looks at whole events, as they leave, and reads only the one that ends an answer well.
"""

from __future__ import annotations

import msgspec

from modelplex.wire._openai_json import decode_mended
from modelplex.wire.sse import SseReader

_ENDS = ("response.completed", "response.incomplete")
_MARKS = tuple(end.encode() for end in _ENDS)


class _Last(msgspec.Struct):
    type: str = ""
    response: msgspec.Raw = msgspec.Raw()


class _Named(msgspec.Struct):
    id: str = ""


_decode_last = msgspec.json.Decoder(_Last).decode
_decode_named = msgspec.json.Decoder(_Named).decode


def final_response(events: bytes) -> bytes | None:
    """The whole response object, where these events hold the one that ends an answer well."""
    if not any(mark in events for mark in _MARKS):
        return None
    for event in SseReader().feed(events):
        last = decode_mended(event.data, _decode_last)
        if last is not None and last.type in _ENDS:
            return bytes(last.response) or None
    return None


def response_id(body: bytes) -> str:
    """The id of a response object; "" where it has none."""
    named = decode_mended(body, _decode_named)
    return "" if named is None else named.id
