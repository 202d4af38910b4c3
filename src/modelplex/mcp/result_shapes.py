"""The results that clients accept: a table for each method, and repairs.

PURE. Sources as in `shapes`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, cast

import msgspec

from modelplex.mcp.constants import Era, Json
from modelplex.mcp.shapes import (
    ANNOTATIONS,
    RESOURCE,
    Dropped,
    Malformed,
    Member,
    Shape,
    any_object,
    list_of,
    mismatch,
    object_of,
    one_of,
    text,
)

_BASE64: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BLANKS: Final = b"\t\n\f\r "


def _base64(value: object, dropped: Dropped) -> object:
    """As `atob` of browsers reads it, which the TypeScript SDK uses."""
    del dropped
    if isinstance(value, str) and value.isascii():
        letters = value.encode().translate(None, _BLANKS)
        padding = letters[-2:].count(b"=") if len(letters) % 4 == 0 else 0
        if len(letters) % 4 != 1 and letters.translate(None, _BASE64) == b"=" * padding:
            return value
    raise Malformed("is no base64")


_BLOCK_MEMBERS: Final = {"annotations": Member(ANNOTATIONS), "_meta": Member(any_object)}
_DATA: Final = {"data": Member(_base64, "required"), "mimeType": Member(text, "required"), **_BLOCK_MEMBERS}
_CONTENTS: Final = {
    "uri": Member(text, "required"),
    "mimeType": Member(text),
    "_meta": Member(any_object),
}
_TEXT_CONTENTS: Final = object_of({**_CONTENTS, "text": Member(text, "required")})
_BLOB_CONTENTS: Final = object_of({**_CONTENTS, "blob": Member(_base64, "required")})


def _resource_contents(value: object, dropped: Dropped) -> object:
    members = cast("Json", any_object(value, dropped))
    return (_TEXT_CONTENTS if isinstance(members.get("text"), str) else _BLOB_CONTENTS)(members, dropped)


_BLOCKS: Final[Mapping[str, Shape]] = {
    "text": object_of({"text": Member(text, "required"), **_BLOCK_MEMBERS}),
    "image": object_of(_DATA),
    "audio": object_of(_DATA),
    "resource_link": object_of(RESOURCE),
    "resource": object_of({"resource": Member(_resource_contents, "required"), **_BLOCK_MEMBERS}),
}


def _block(value: object, dropped: Dropped) -> object:
    """A block of an unknown type is passed on: the client may know it."""
    block = cast("Json", any_object(value, dropped))
    kind = block.get("type")
    if not isinstance(kind, str):
        raise Malformed(mismatch("a string", kind)).below("type")
    return _BLOCKS.get(kind, any_object)(block, dropped)


_MESSAGE: Final = object_of(
    {"role": Member(one_of("user", "assistant"), "required"), "content": Member(_block, "required")}
)
_RESULTS: Final[Mapping[str, Shape]] = {
    "prompts/get": object_of(
        {"description": Member(text), "messages": Member(list_of(_MESSAGE), "required")}
    ),
    "resources/read": object_of({"contents": Member(list_of(_resource_contents), "required")}),
}


def repair_result(method: str, result: Json, *, era: Era) -> Json:
    """A complete result for clients of this era: the same object if nothing changes. A malformed
    block of a tool's content becomes a text that says so.

    Raises: Malformed if the result of another method cannot be repaired.
    """
    if method in _RESULTS:
        return cast("Json", _RESULTS[method](result, []))
    if method not in {"tools/call", "tasks/result"} or "task" in result:
        return result
    original = result.get("content")
    content = _repair_content([] if original is None else original)
    changed: Json = {} if content is original else {"content": content}
    if not isinstance(result.get("isError", False), bool):
        changed["isError"] = bool(result["isError"])
    structured: object = result.get("structuredContent", {})
    if era == "modern" or isinstance(structured, dict):
        return {**result, **changed} if changed else result
    if not content and structured is not None:
        changed["content"] = [{"type": "text", "text": msgspec.json.encode(structured).decode()}]
    return {name: value for name, value in {**result, **changed}.items() if name != "structuredContent"}


def _repair_content(content: object) -> list[object]:
    if not isinstance(content, list):
        raise Malformed(mismatch("a list", content)).below("content")
    original = cast("list[object]", content)
    repaired = [_repair_block(each, index) for index, each in enumerate(original)]
    return original if all(a is b for a, b in zip(original, repaired, strict=True)) else repaired


def _repair_block(block: object, index: int) -> object:
    try:
        return _block(block, [])
    except Malformed as fault:
        fault.below(str(index)).below("content")
        sentence = f"[This part of the result is not valid and was left out: {fault}]"
        return {"type": "text", "text": sentence}
