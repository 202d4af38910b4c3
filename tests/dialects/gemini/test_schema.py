"""Gemini's schema language as JSON Schema."""

import json
from typing import Any

import pytest
from msgspec import Raw

from modelplex.core.errors import BadRequest
from modelplex.dialects.gemini.schema import MAX_DEPTH, json_schema


def converted(schema: Any) -> Any:
    return json.loads(bytes(json_schema(Raw(json.dumps(schema).encode()), path="s")))


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "STRING"}, {"type": "string"}),
        ({"type": "TYPE_UNSPECIFIED"}, {}),
        ({"type": ["string", "null"]}, {"type": ["string", "null"]}),
        ({"type": "INTEGER", "nullable": True}, {"type": ["integer", "null"]}),
        (
            {"type": "STRING", "enum": ["a"], "nullable": True},
            {"type": ["string", "null"], "enum": ["a", None]},
        ),
        (
            {"type": "ARRAY", "items": {"type": "NUMBER"}, "min_items": "2"},
            {"type": "array", "items": {"type": "number"}, "minItems": 2},
        ),
        (
            {"type": "OBJECT", "properties": {"min_items": {"type": "BOOLEAN"}}},
            {"type": "object", "properties": {"min_items": {"type": "boolean"}}},
        ),
        (
            {"any_of": [{"type": "STRING"}, {"type": "NULL"}]},
            {"anyOf": [{"type": "string"}, {"type": "null"}]},
        ),
        ({"type": "STRING", "example": "a"}, {"type": "string", "examples": ["a"]}),
        ({"type": "OBJECT", "property_ordering": ["a"]}, {"type": "object"}),
        ({"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}),
        ({"type": "STRING", "maxLength": "many"}, {"type": "string", "maxLength": "many"}),
    ],
)
def test_a_schema_becomes_json_schema(schema: Any, expected: Any) -> None:
    assert converted(schema) == expected


def test_a_schema_that_is_too_deep_or_no_object_is_refused() -> None:
    deep: Any = {"type": "STRING"}
    for _ in range(MAX_DEPTH + 1):
        deep = {"items": deep}
    schemas: tuple[Any, ...] = (deep, [], "x")
    for schema in schemas:
        with pytest.raises(BadRequest):
            converted(schema)
