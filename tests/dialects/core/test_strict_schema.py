"""Schemas that Anthropic compiles: as its own SDK writes them."""

from __future__ import annotations

from typing import Any, cast

import msgspec
import pytest
from anthropic import transform_schema

from modelplex.core.errors import BadRequest
from modelplex.dialects.core.strict_schema import MAX_DEPTH, strict_schema

SCHEMAS: list[dict[str, Any]] = [
    {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "minimum": 1, "maximum": 9},
            "l": {
                "type": "array",
                "maxItems": 5,
                "items": {"type": "object", "properties": {"q": {"type": "string", "minLength": 1}}},
            },
        },
        "required": ["n"],
    },
    {"type": "string", "format": "email"},
    {"type": "string", "format": "color", "description": "A colour"},
    {"type": "array", "minItems": 1, "items": {"type": "null"}},
    {"type": "array", "minItems": 3, "items": {"type": "boolean"}},
    {"oneOf": [{"type": "string", "minLength": 1}, {"type": "object"}]},
    {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "additionalProperties": True}}},
]


def compiled(schema: object) -> Any:
    written = strict_schema(msgspec.Raw(msgspec.json.encode(schema)), path="format")
    return None if written is None else msgspec.json.decode(written)


@pytest.mark.parametrize("schema", SCHEMAS)
def test_a_schema_is_written_as_anthropics_own_sdk_writes_it(schema: dict[str, Any]) -> None:
    assert marked(compiled(schema) or schema) == marked(transform_schema(schema))


def marked(schema: Any) -> Any:
    """The schema with a mark for each description: ours says it in other words."""
    if isinstance(schema, list):
        return [marked(each) for each in schema]  # pyright: ignore[reportUnknownVariableType] - any JSON
    if not isinstance(schema, dict):
        return schema
    members = cast("dict[str, Any]", schema)
    return {name: "told" if name == "description" else marked(value) for name, value in members.items()}


def test_what_is_not_compiled_is_told_in_the_description() -> None:
    assert compiled({"type": "integer", "minimum": 1, "odd": True, "description": "A number"}) == {
        "type": "integer",
        "description": "A number\n\n(at least 1; odd: true)",
    }


def test_a_schema_that_is_compiled_as_it_is_stays() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    assert compiled(schema) is None


def test_a_schema_without_an_end_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(MAX_DEPTH + 2):
        schema = {"type": "array", "items": schema}
    with pytest.raises(BadRequest, match="nested"):
        compiled(schema)
    with pytest.raises(BadRequest, match="object"):
        compiled([])
