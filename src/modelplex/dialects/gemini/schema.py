"""Converts Gemini's schema language to JSON Schema, which other providers read.

`Schema` is a subset of OpenAPI 3.0 with types in capitals (ai.google.dev/api/caching#Schema). So
`parameters` and `responseSchema` become `parametersJsonSchema` and `responseJsonSchema`.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from modelplex.core.errors import BadRequest
from modelplex.dialects.core.members import decode_member
from modelplex.dialects.gemini.json import camel

MAX_DEPTH = 64
"""Levels of one schema: far above any that people write, far below Python's own limit."""

_COUNTS = frozenset({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"})
"""Protobuf's JSON writes 64-bit numbers as strings."""
_GEMINI_ONLY = frozenset({"propertyOrdering", "nullable", "type", "example"})


def json_schema(raw: msgspec.Raw, *, path: str) -> msgspec.Raw:
    """The same schema as JSON Schema. Raises BadRequest where it is no object."""
    schema = decode_member(raw, dict[str, Any], path=path)
    return msgspec.Raw(msgspec.json.encode(_written(schema, path=path, depth=0)))


def _written(schema: dict[str, Any], *, path: str, depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise BadRequest(f"'{path}' is nested more than {MAX_DEPTH} deep.", param=path)
    named = {camel(name) if not name.startswith("$") else name: value for name, value in schema.items()}
    written: dict[str, Any] = {}
    kind = named.get("type")
    if isinstance(kind, str) and kind != "TYPE_UNSPECIFIED":
        lowered = kind.lower()
        written["type"] = [lowered, "null"] if named.get("nullable") is True else lowered
    elif kind is not None and not isinstance(kind, str):
        written["type"] = kind
    for name, value in named.items():
        if name in _GEMINI_ONLY:
            continue
        written[name] = _member(name, value, path=f"{path}.{name}", depth=depth + 1)
    if "example" in named:
        written.setdefault("examples", [named["example"]])
    if "enum" in written and named.get("nullable") is True and None not in written["enum"]:
        written["enum"] = [*written["enum"], None]
    return written


def _member(name: str, value: object, *, path: str, depth: int) -> object:
    if name in _COUNTS and isinstance(value, str) and value.isdecimal():
        return int(value)
    if name in {"properties", "$defs", "defs"} and isinstance(value, dict):
        inner = cast("dict[str, object]", value)
        return {key: _inner(each, path=f"{path}.{key}", depth=depth) for key, each in inner.items()}
    if name in {"anyOf", "oneOf", "allOf"} and isinstance(value, list):
        several = cast("list[object]", value)
        return [_inner(each, path=f"{path}[{n}]", depth=depth) for n, each in enumerate(several)]
    if name in {"items", "additionalProperties"}:
        return _inner(value, path=path, depth=depth)
    return value


def _inner(value: object, *, path: str, depth: int) -> object:
    return (
        _written(cast("dict[str, Any]", value), path=path, depth=depth) if isinstance(value, dict) else value
    )
