"""Reads the JSON-RPC messages that a server sends, within limits.

PURE.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from modelplex.config.mcp_settings import McpConfig
from modelplex.dialects.core.surrogates import mended
from modelplex.mcp.constants import INTERNAL_ERROR, Json

READ_FACTOR: Final = 4
"""A line, body or event may be so many times larger than `max_result`. A server that sends more is
stopped.
"""


class _Outline(msgspec.Struct):
    """A message of which only the id is decoded."""

    id: str | int
    method: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Content(msgspec.Struct):
    content: msgspec.Raw


_ANY: Final = msgspec.json.Decoder(Any)
_OUTLINE: Final = msgspec.json.Decoder(_Outline)
_CONTENT: Final = msgspec.json.Decoder(_Content)


class MessageReader:
    """Reads the messages of one server. `hide` masks the host's credentials in what it sends."""

    def __init__(self, limits: McpConfig, *, hide: Callable[[bytes], bytes] = bytes) -> None:
        self.hide = hide
        self.max_read = limits.max_result * READ_FACTOR
        """Bytes of a line, body or event that are read."""
        # A result that is cut later is passed on whole.
        self._max_result = self.max_read if limits.oversized == "cut" else limits.max_result

    def read(self, data: bytes) -> list[Json]:
        """The messages of a line, body or event; a batch (2025-03-26) has several. Skips invalid
        ones. A response above the limit is not decoded but replaced by an error with its size.
        """
        data = self.hide(data)
        if data.lstrip()[:1] not in {b"{", b"["}:
            return []
        large = len(data) > self._max_result
        try:
            value: object = _outline(data) if large else read_json(data)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            return []
        values = cast("list[object]", value) if isinstance(value, list) else [value]
        messages = [cast("Json", each) for each in values if isinstance(each, dict)]
        return [_too_large(each, len(data), self._max_result) for each in messages] if large else messages


def read_json(data: bytes) -> Any:
    """The JSON that a server sent. Invalid UTF-8 and lone surrogates become U+FFFD, since dropping
    the message would leave its request without a response.

    Raises DecodeError, RecursionError, UnicodeDecodeError.
    """
    try:
        return _ANY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        whole = mended(data.decode("utf-8", "replace").encode())
        if whole == data:
            raise
        return _ANY.decode(whole)


def _outline(data: bytes) -> Json | None:
    """The id of a large response, and whether its result has content. None for other messages.

    Decoding the content could take a hundred times its size in memory.
    """
    head = _OUTLINE.decode(data)
    if head.method is not msgspec.UNSET:
        return None
    result: Json = {}
    if head.result is not msgspec.UNSET:
        with contextlib.suppress(msgspec.DecodeError):
            _CONTENT.decode(head.result)
            result = {"content": []}
    return {"jsonrpc": "2.0", "id": head.id, "result": result}


def _too_large(message: Json, size: int, limit: int) -> Json:
    sentence = f"The result of {size} bytes is larger than the limit of {limit} bytes."
    if "content" in message["result"]:
        result = {"content": [{"type": "text", "text": sentence}], "isError": True}
        return {"jsonrpc": "2.0", "id": message["id"], "result": result}
    error = {"code": INTERNAL_ERROR, "message": sentence, "data": {"reason": "limit"}}
    return {"jsonrpc": "2.0", "id": message["id"], "error": error}
