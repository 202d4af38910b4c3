"""The entries and results that clients accept: a table for each kind and era, and repairs.

PURE. The official SDKs validate a list as one value, so one invalid entry makes it unreadable. Each
entry is checked before it is listed. An unneeded null and a malformed optional member are dropped.
A fault in what a call depends on leaves the entry out. Source: schema.ts of revisions 2025-11-25
and 2026-07-28, and the schemas of the TypeScript SDK 1.x and 2.x and the Python SDK 2.x; the tables
hold what all of them accept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Final, Literal, cast

import msgspec

from modelplex.mcp.constants import Era, Json
from modelplex.mcp.schemas import schema_fault

Kind = Literal["tools", "prompts", "resources", "resourceTemplates"]

Dropped = list["Malformed"]
"""Collects the fault of each dropped member."""
Shape = Callable[[object, Dropped], object]
"""Returns the value or a repaired copy. Raises Malformed."""


class Malformed(Exception):
    """A value that clients reject. `path` leads to it."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.path: list[str] = []

    def below(self, member: str) -> Malformed:
        self.path.insert(0, member)
        return self

    def __str__(self) -> str:
        return f"{'.'.join(self.path)} {self.sentence}".strip()


class _Member(msgspec.Struct, frozen=True):
    """One member of an object. "required": the object is malformed without it. "kept": it may be
    absent, but not malformed. "dropped": a malformed one is dropped and reported.
    """

    shape: Shape
    need: Literal["required", "kept", "dropped"] = "dropped"


def _text(value: object, dropped: Dropped) -> object:
    del dropped
    if not isinstance(value, str):
        raise Malformed(_not("a string", value))
    return value


def _flag(value: object, dropped: Dropped) -> object:
    del dropped
    if not isinstance(value, bool):
        raise Malformed(_not("true or false", value))
    return value


def _any_object(value: object, dropped: Dropped) -> object:
    del dropped
    if not isinstance(value, dict):
        raise Malformed(_not("an object", value))
    return cast("Json", value)


def _size(value: object, dropped: Dropped) -> object:
    del dropped
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise Malformed(_not("a whole number", value))
    return value


def _share(value: object, dropped: Dropped) -> object:
    del dropped
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise Malformed(_not("a number from 0 to 1", value))
    return value


_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)


def _time(value: object, dropped: Dropped) -> object:
    del dropped
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None or not _is_day(int(found[1]), int(found[2]), int(found[3])):
        raise Malformed(_not("a time of ISO 8601 with an offset", value))
    return value


def _is_day(year: int, month: int, day: int) -> bool:
    try:
        date(year, month, day)
    except ValueError:
        return False
    return True


def _one_of(*words: str) -> Shape:
    def shape(value: object, dropped: Dropped) -> object:
        del dropped
        if not isinstance(value, str) or value not in words:
            raise Malformed(_not(f"one of {', '.join(words)}", value))
        return value

    return shape


def _list(each: Shape) -> Shape:
    def shape(value: object, dropped: Dropped) -> object:
        if not isinstance(value, list):
            raise Malformed(_not("a list", value))
        given = cast("list[object]", value)
        mended: list[object] = []
        for index, element in enumerate(given):
            try:
                mended.append(each(element, dropped))
            except Malformed as fault:
                raise fault.below(str(index)) from None
        return given if all(a is b for a, b in zip(given, mended, strict=True)) else mended

    return shape


def _object(members: Mapping[str, _Member]) -> Shape:
    """An object with these members, and any others, which are not checked."""

    def shape(value: object, dropped: Dropped) -> object:
        if not isinstance(value, dict):
            raise Malformed(_not("an object", value))
        given = cast("Json", value)
        mended = given
        for name, member in members.items():
            if name not in given:
                if member.need == "required":
                    raise Malformed("is missing").below(name)
                continue
            was = given[name]
            if was is None and member.need != "required":
                now: object = None
            else:
                now = _member(name, member, was, dropped)
            if now is was and now is not None:
                continue
            mended = dict(mended) if mended is given else mended
            if now is None:
                del mended[name]
            else:
                mended[name] = now
        return mended

    return shape


def _member(name: str, member: _Member, value: object, dropped: Dropped) -> object:
    """The value of a member; None if it is dropped."""
    before = len(dropped)
    try:
        mended = member.shape(value, dropped)
    except Malformed as fault:
        if member.need != "dropped":
            raise fault.below(name) from None
        dropped.append(fault)
        mended = None
    for each in dropped[before:]:
        each.below(name)
    return mended


def _not(wanted: str, value: object) -> str:
    return f"is {_name_of(value)}, not {wanted}"


def _name_of(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return "a number"
        case str():
            return "a string" if len(value) > 40 else repr(value)
        case list():
            return "a list"
        case _:
            return "an object"


def _properties(*, flags: bool) -> Shape:
    """The schemas of arguments by name. `flags`: true and false are schemas too; for other clients
    they are written as objects.
    """

    def shape(value: object, dropped: Dropped) -> object:
        del dropped
        if value == []:  # PHP's empty object
            return {}
        if not isinstance(value, dict):
            raise Malformed(_not("an object", value))
        given = cast("Json", value)
        mended = given
        for name, schema in given.items():
            if isinstance(schema, bool):
                if not flags:
                    mended = dict(given) if mended is given else mended
                    mended[name] = {} if schema else {"not": {}}
            elif not isinstance(schema, dict):
                raise Malformed(_not("a schema", schema)).below(name)
        return mended

    return shape


def _arguments(*, flags: bool) -> Shape:
    """An inputSchema. Arguments are always an object, so a missing type is added."""
    members = _object(
        {
            "$schema": _Member(_text),
            "properties": _Member(_properties(flags=flags), "kept"),
            "required": _Member(_list(_text), "kept"),
        }
    )

    def shape(value: object, dropped: Dropped) -> object:
        if value == []:
            return {"type": "object"}
        schema = cast("Json", members(value, dropped))
        kind = schema.get("type")
        if kind == "object":
            return schema
        if kind is None or _allows_object(kind):
            return {**schema, "type": "object"}
        raise Malformed(_not("'object'", kind)).below("type")

    return shape


def _allows_object(kind: object) -> bool:
    return isinstance(kind, list) and "object" in cast("list[object]", kind)


def _any_output(value: object, dropped: Dropped) -> object:
    schema = cast("Json", _any_object(value, dropped))
    if "$schema" in schema and schema["$schema"] is None:
        schema = {name: each for name, each in schema.items() if name != "$schema"}
    if fault := schema_fault(schema):
        raise Malformed(fault)
    return schema


def _object_output(value: object, dropped: Dropped) -> object:
    """A modern outputSchema for older clients, whose structured results are objects. Dropping
    another is not reported.
    """
    schema = cast("Json", value)
    if schema.get("type") != "object":
        return None
    if "properties" not in schema:
        return schema
    given: object = schema["properties"]
    plain = _properties(flags=False)(given, dropped)
    return schema if plain is given else {**schema, "properties": plain}


_ICON: Final = _object(
    {
        "src": _Member(_text, "required"),
        "mimeType": _Member(_text),
        "sizes": _Member(_list(_text)),
        "theme": _Member(_one_of("light", "dark")),
    }
)
_DECORATION: Final = {
    "title": _Member(_text),
    "icons": _Member(_list(_ICON)),
    "_meta": _Member(_any_object),
}
_NAMED: Final = {"name": _Member(_text, "required"), "description": _Member(_text, "kept"), **_DECORATION}
ANNOTATIONS: Final = _object(
    {
        "audience": _Member(_list(_one_of("user", "assistant"))),
        "priority": _Member(_share),
        "lastModified": _Member(_time),
    }
)
_HINTS: Final = _object(
    {
        "title": _Member(_text),
        **{
            hint: _Member(_flag)
            for hint in ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
        },
    }
)
"""A dropped hint has the specification's default, which is the more careful one."""
_TOOL: Final = {
    **_NAMED,
    "annotations": _Member(_HINTS),
    "execution": _Member(
        _object({"taskSupport": _Member(_one_of("required", "optional", "forbidden"))}),
    ),
}
_ARGUMENT: Final = _object(
    {
        "name": _Member(_text, "required"),
        "title": _Member(_text),
        "description": _Member(_text),
        "required": _Member(_flag, "kept"),
    }
)
_LOCATED: Final = {**_NAMED, "mimeType": _Member(_text), "annotations": _Member(ANNOTATIONS)}
RESOURCE: Final = {**_LOCATED, "uri": _Member(_text, "required"), "size": _Member(_size)}

_SHAPES: Final[Mapping[Kind, Shape]] = {
    "tools": _object(
        {
            **_TOOL,
            "inputSchema": _Member(_arguments(flags=True), "required"),
            "outputSchema": _Member(_any_output),
        }
    ),
    "prompts": _object({**_NAMED, "arguments": _Member(_list(_ARGUMENT), "kept")}),
    "resources": _object(RESOURCE),
    "resourceTemplates": _object({**_LOCATED, "uriTemplate": _Member(_text, "required")}),
}
"""For clients of 2026-07-28."""
_OLDER_TOOL: Final = _object(
    {
        "inputSchema": _Member(_arguments(flags=False), "required"),
        "outputSchema": _Member(_object_output),
    }
)
"""Further requirements of clients of 2025-11-25 and before."""


def mended(kind: Kind, entry: Json, *, dropped: Dropped) -> Json:
    """The entry for clients of 2026-07-28: the same object if nothing changes.

    Raises: Malformed if it cannot be repaired.
    """
    return cast("Json", _SHAPES[kind](entry, dropped))


def older(kind: Kind, entry: Json) -> Json:
    """A repaired entry for clients of older revisions: the same object if nothing changes."""
    return cast("Json", _OLDER_TOOL(entry, [])) if kind == "tools" else entry


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


_BESIDE: Final = {"annotations": _Member(ANNOTATIONS), "_meta": _Member(_any_object)}
_DATA: Final = {"data": _Member(_base64, "required"), "mimeType": _Member(_text, "required"), **_BESIDE}
_CONTENTS: Final = {
    "uri": _Member(_text, "required"),
    "mimeType": _Member(_text),
    "_meta": _Member(_any_object),
}
_TEXT_CONTENTS: Final = _object({**_CONTENTS, "text": _Member(_text, "required")})
_BLOB_CONTENTS: Final = _object({**_CONTENTS, "blob": _Member(_base64, "required")})


def _resource_contents(value: object, dropped: Dropped) -> object:
    members = cast("Json", _any_object(value, dropped))
    return (_TEXT_CONTENTS if isinstance(members.get("text"), str) else _BLOB_CONTENTS)(members, dropped)


_BLOCKS: Final[Mapping[str, Shape]] = {
    "text": _object({"text": _Member(_text, "required"), **_BESIDE}),
    "image": _object(_DATA),
    "audio": _object(_DATA),
    "resource_link": _object(RESOURCE),
    "resource": _object({"resource": _Member(_resource_contents, "required"), **_BESIDE}),
}


def _block(value: object, dropped: Dropped) -> object:
    """A block of an unknown type is passed on: the client may know it."""
    block = cast("Json", _any_object(value, dropped))
    kind = block.get("type")
    if not isinstance(kind, str):
        raise Malformed(_not("a string", kind)).below("type")
    return _BLOCKS.get(kind, _any_object)(block, dropped)


_MESSAGE: Final = _object(
    {"role": _Member(_one_of("user", "assistant"), "required"), "content": _Member(_block, "required")}
)
_RESULTS: Final[Mapping[str, Shape]] = {
    "prompts/get": _object({"description": _Member(_text), "messages": _Member(_list(_MESSAGE), "required")}),
    "resources/read": _object({"contents": _Member(_list(_resource_contents), "required")}),
}


def answered(method: str, result: Json, *, era: Era) -> Json:
    """A complete result for clients of this era: the same object if nothing changes. A malformed
    block of a tool's content becomes a text that says so.

    Raises: Malformed if the result of another method cannot be repaired.
    """
    if method in _RESULTS:
        return cast("Json", _RESULTS[method](result, []))
    if method not in {"tools/call", "tasks/result"} or "task" in result:
        return result
    given = result.get("content")
    content = _readable_all([] if given is None else given)
    changed: Json = {} if content is given else {"content": content}
    if not isinstance(result.get("isError", False), bool):
        changed["isError"] = bool(result["isError"])
    structured: object = result.get("structuredContent", {})
    if era == "modern" or isinstance(structured, dict):
        return {**result, **changed} if changed else result
    if not content and structured is not None:
        changed["content"] = [{"type": "text", "text": msgspec.json.encode(structured).decode()}]
    return {name: value for name, value in {**result, **changed}.items() if name != "structuredContent"}


def _readable_all(content: object) -> list[object]:
    if not isinstance(content, list):
        raise Malformed(_not("a list", content)).below("content")
    given = cast("list[object]", content)
    mended = [_readable(each, index) for index, each in enumerate(given)]
    return given if all(a is b for a, b in zip(given, mended, strict=True)) else mended


def _readable(block: object, index: int) -> object:
    try:
        return _block(block, [])
    except Malformed as fault:
        fault.below(str(index)).below("content")
        text = f"[This part of the result is not valid and was left out: {fault}]"
        return {"type": "text", "text": text}
