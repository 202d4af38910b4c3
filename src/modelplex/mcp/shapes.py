"""The list entries that clients accept: a table for each kind and era, and repairs.

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
from typing import Final, Literal, TypeGuard, cast

import msgspec

from modelplex.mcp.constants import Json
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


class Member(msgspec.Struct, frozen=True):
    """One member of an object. "required": the object is malformed without it. "kept": it may be
    absent, but not malformed. "dropped": a malformed one is dropped and reported.
    """

    shape: Shape
    need: Literal["required", "kept", "dropped"] = "dropped"


def leaf(accepts: Callable[[object], bool], expected: str) -> Shape:
    """A value without members. `expected` describes it in the fault."""

    def shape(value: object, dropped: Dropped) -> object:
        del dropped
        if not accepts(value):
            raise Malformed(mismatch(expected, value))
        return value

    return shape


def one_of(*values: str) -> Shape:
    return leaf(lambda value: isinstance(value, str) and value in values, f"one of {', '.join(values)}")


_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:Z|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)


def _is_time(value: object) -> bool:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    try:
        return found is not None and bool(date.fromisoformat(found[1]))
    except ValueError:
        return False


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


text: Final = leaf(lambda value: isinstance(value, str), "a string")
any_object: Final = leaf(lambda value: isinstance(value, dict), "an object")
_flag: Final = leaf(lambda value: isinstance(value, bool), "true or false")
_whole_number: Final = leaf(lambda value: _is_number(value) and value == value // 1, "a whole number")
_fraction: Final = leaf(lambda value: _is_number(value) and 0 <= value <= 1, "a number from 0 to 1")
_time: Final = leaf(_is_time, "a time of ISO 8601 with an offset")


def list_of(each: Shape) -> Shape:
    def shape(value: object, dropped: Dropped) -> object:
        if not isinstance(value, list):
            raise Malformed(mismatch("a list", value))
        original = cast("list[object]", value)
        repaired: list[object] = []
        for index, element in enumerate(original):
            try:
                repaired.append(each(element, dropped))
            except Malformed as fault:
                raise fault.below(str(index)) from None
        return original if all(a is b for a, b in zip(original, repaired, strict=True)) else repaired

    return shape


def object_of(members: Mapping[str, Member]) -> Shape:
    """An object with these members, and any others, which are not checked."""

    def shape(value: object, dropped: Dropped) -> object:
        if not isinstance(value, dict):
            raise Malformed(mismatch("an object", value))
        original = cast("Json", value)
        repaired = original
        for name, member in members.items():
            if name not in original:
                if member.need == "required":
                    raise Malformed("is missing").below(name)
                continue
            before = original[name]
            if before is None and member.need != "required":
                after: object = None
            else:
                after = _member(name, member, before, dropped)
            if after is before and after is not None:
                continue
            repaired = dict(repaired) if repaired is original else repaired
            if after is None:
                del repaired[name]
            else:
                repaired[name] = after
        return repaired

    return shape


def _member(name: str, member: Member, value: object, dropped: Dropped) -> object:
    """The value of a member; None if it is dropped."""
    count = len(dropped)
    try:
        repaired = member.shape(value, dropped)
    except Malformed as fault:
        if member.need != "dropped":
            raise fault.below(name) from None
        dropped.append(fault)
        repaired = None
    for each in dropped[count:]:
        each.below(name)
    return repaired


def mismatch(expected: str, value: object) -> str:
    return f"is {_name_of(value)}, not {expected}"


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
            raise Malformed(mismatch("an object", value))
        original = cast("Json", value)
        repaired = original
        for name, schema in original.items():
            if isinstance(schema, bool):
                if not flags:
                    repaired = dict(original) if repaired is original else repaired
                    repaired[name] = {} if schema else {"not": {}}
            elif not isinstance(schema, dict):
                raise Malformed(mismatch("a schema", schema)).below(name)
        return repaired

    return shape


def _arguments(*, flags: bool) -> Shape:
    """An inputSchema. Arguments are always an object, so a missing type is added."""
    members = object_of(
        {
            "$schema": Member(text),
            "properties": Member(_properties(flags=flags), "kept"),
            "required": Member(list_of(text), "kept"),
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
        raise Malformed(mismatch("'object'", kind)).below("type")

    return shape


def _allows_object(kind: object) -> bool:
    return isinstance(kind, list) and "object" in cast("list[object]", kind)


def _any_output(value: object, dropped: Dropped) -> object:
    schema = cast("Json", any_object(value, dropped))
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
    original: object = schema["properties"]
    plain = _properties(flags=False)(original, dropped)
    return schema if plain is original else {**schema, "properties": plain}


_ICON: Final = object_of(
    {
        "src": Member(text, "required"),
        "mimeType": Member(text),
        "sizes": Member(list_of(text)),
        "theme": Member(one_of("light", "dark")),
    }
)
_OPTIONAL: Final = {
    "title": Member(text),
    "icons": Member(list_of(_ICON)),
    "_meta": Member(any_object),
}
_ENTRY_MEMBERS: Final = {"name": Member(text, "required"), "description": Member(text, "kept"), **_OPTIONAL}
ANNOTATIONS: Final = object_of(
    {
        "audience": Member(list_of(one_of("user", "assistant"))),
        "priority": Member(_fraction),
        "lastModified": Member(_time),
    }
)
_HINTS: Final = object_of(
    {
        "title": Member(text),
        **{
            hint: Member(_flag)
            for hint in ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
        },
    }
)
"""A dropped hint has the specification's default, which is the more careful one."""
_TOOL: Final = {
    **_ENTRY_MEMBERS,
    "annotations": Member(_HINTS),
    "execution": Member(
        object_of({"taskSupport": Member(one_of("required", "optional", "forbidden"))}),
    ),
}
_ARGUMENT: Final = object_of(
    {
        "name": Member(text, "required"),
        "title": Member(text),
        "description": Member(text),
        "required": Member(_flag, "kept"),
    }
)
_RESOURCE_MEMBERS: Final = {**_ENTRY_MEMBERS, "mimeType": Member(text), "annotations": Member(ANNOTATIONS)}
RESOURCE: Final = {**_RESOURCE_MEMBERS, "uri": Member(text, "required"), "size": Member(_whole_number)}

_SHAPES: Final[Mapping[Kind, Shape]] = {
    "tools": object_of(
        {
            **_TOOL,
            "inputSchema": Member(_arguments(flags=True), "required"),
            "outputSchema": Member(_any_output),
        }
    ),
    "prompts": object_of({**_ENTRY_MEMBERS, "arguments": Member(list_of(_ARGUMENT), "kept")}),
    "resources": object_of(RESOURCE),
    "resourceTemplates": object_of({**_RESOURCE_MEMBERS, "uriTemplate": Member(text, "required")}),
}
"""For clients of 2026-07-28."""
_OLDER_TOOL: Final = object_of(
    {
        "inputSchema": Member(_arguments(flags=False), "required"),
        "outputSchema": Member(_object_output),
    }
)
"""Further requirements of clients of 2025-11-25 and before."""


def repair_entry(kind: Kind, entry: Json, *, dropped: Dropped) -> Json:
    """The entry for clients of 2026-07-28: the same object if nothing changes.

    Raises: Malformed if it cannot be repaired.
    """
    return cast("Json", _SHAPES[kind](entry, dropped))


def older(kind: Kind, entry: Json) -> Json:
    """A repaired entry for clients of older revisions: the same object if nothing changes."""
    return cast("Json", _OLDER_TOOL(entry, [])) if kind == "tools" else entry
