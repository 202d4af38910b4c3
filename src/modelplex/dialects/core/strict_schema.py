"""Schemas that Anthropic and AWS compile, of answers and of strict tools: a part of JSON Schema.

What it refuses goes into the description, as in Anthropic's own SDK (`anthropic.transform_schema`
of 2.15.0; platform.claude.com/docs/en/build-with-claude/structured-outputs, "JSON Schema
limitations"), but in words: a model reads them, and no keyword is taken for one that is sent.
Bedrock compiles a part of JSON Schema too and answers another one with 400
(docs.aws.amazon.com/bedrock/latest/userguide/structured-output.html). Imports no dialect.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from modelplex.core.errors import BadRequest

MAX_DEPTH = 64
"""Levels of one schema: far above any that people write, far below Python's own limit."""
FORMATS = frozenset("date-time time date duration email hostname uri ipv4 ipv6 uuid".split())
REASON = "keywords that are not compiled here are told in the description"
_Schema = dict[str, Any]
_COMBINING = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
"""Of each combination, what it is written as."""
_KEPT = ("description", "title", "default")
_WORDS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "a length of at least {}",
    "maxLength": "a length of at most {}",
    "pattern": "matches the regular expression {}",
    "format": "in the format {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "uniqueItems": "no item twice: {}",
    "minProperties": "at least {} members",
    "maxProperties": "at most {} members",
    "examples": "for example {}",
}
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def strict_schema(raw: msgspec.Raw, *, path: str) -> msgspec.Raw | None:
    """The schema in the part that is compiled; None where it is in that part already. Raises
    BadRequest for one that is no object or is nested too deeply.
    """
    try:
        schema = _decode(raw)
    except msgspec.DecodeError as error:
        raise BadRequest("A schema must be a JSON object.", param=path) from error
    written = _compiled(schema, path=path, depth=0)
    return None if written == schema else msgspec.Raw(msgspec.json.encode(written))


def _compiled(given: _Schema, *, path: str, depth: int) -> _Schema:
    if depth > MAX_DEPTH:
        raise BadRequest(f"'{path}' is nested more than {MAX_DEPTH} deep.", param=path)
    left = {**given}
    written: _Schema = {}
    for name in ("$defs", "definitions"):
        if isinstance(left.get(name), dict):
            written[name] = _each(left.pop(name), path=path, depth=depth)
    if "$ref" in left:
        return {**written, "$ref": left["$ref"]}
    for name, sent in _COMBINING.items():
        if isinstance(left.get(name), list):
            branches = cast("list[object]", left.pop(name))
            written[sent] = [_inner(branch, path=path, depth=depth) for branch in branches]
            break
    for name in ("type", "enum", "const", *_KEPT):
        if name in left:
            written[name] = left.pop(name)
    kind: object = written.get("type")
    kinds = cast("list[object]", kind) if isinstance(kind, list) else [kind]
    if "object" in kinds or "properties" in left:
        written["properties"] = _each(left.pop("properties", {}), path=path, depth=depth)
        left.pop("additionalProperties", None)
        written["additionalProperties"] = False
        if "required" in left:
            written["required"] = left.pop("required")
    if "items" in left:
        written["items"] = _inner(left.pop("items"), path=path, depth=depth)
    if left.get("minItems") in {0, 1}:
        written["minItems"] = left.pop("minItems")
    if isinstance(left.get("format"), str) and left["format"] in FORMATS:
        written["format"] = left.pop("format")
    left.pop("$schema", None)
    if left:
        untold = "; ".join(_in_words(name, value) for name, value in left.items())
        written["description"] = "\n\n".join(filter(None, (written.get("description"), f"({untold})")))
    return written


def _in_words(name: str, value: object) -> str:
    text = msgspec.json.encode(value).decode()
    words = _WORDS.get(name)
    return words.format(text) if words is not None else f"{name}: {text}"


def _each(value: object, *, path: str, depth: int) -> _Schema:
    members = cast("_Schema", value) if isinstance(value, dict) else {}
    return {name: _inner(inner, path=path, depth=depth) for name, inner in members.items()}


def _inner(value: object, *, path: str, depth: int) -> object:
    return _compiled(cast("_Schema", value), path=path, depth=depth + 1) if isinstance(value, dict) else value
