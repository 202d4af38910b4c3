"""What the response store reads: the response object at the end of a stream, and the items that a
request names by id alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from modelplex.core.request import RawRequest
from modelplex.dialects.core.json import decode_mended, encode
from modelplex.dialects.core.sse import SseReader

_ENDS = ("response.completed", "response.incomplete")
_MARKS = tuple(end.encode() for end in _ENDS)


class _Last(msgspec.Struct, gc=False):
    type: str = ""
    response: msgspec.Raw = msgspec.Raw()


class _Named(msgspec.Struct, gc=False):
    id: str = ""


class _Item(msgspec.Struct, gc=False):
    type: str = ""
    id: str | None = None


_decode_item = msgspec.json.Decoder(_Item).decode
_decode_last = msgspec.json.Decoder(_Last).decode
_decode_named = msgspec.json.Decoder(_Named).decode


def final_response(events: bytes) -> bytes | None:
    """The response object, if these events have the one that ends a successful response."""
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


def read_reference(item: msgspec.Raw) -> str | None:
    """The id that an `item_reference` names; None for any other item."""
    read = decode_mended(bytes(item), _decode_item)
    return read.id if read is not None and read.type == "item_reference" else None


def with_items(raw_request: RawRequest, items: Sequence[msgspec.Raw]) -> RawRequest:
    """The request with these items as its input."""
    fields = {**raw_request.fields, "input": msgspec.Raw(encode(list(items)))}
    return msgspec.structs.replace(raw_request, body=encode(fields), fields=fields)
