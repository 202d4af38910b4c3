"""Example values of JSON Schemas, checked by a small validator of our own."""

import json
import math
from collections.abc import Mapping
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.providers.schema_instance import NoInstance, instance

TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}


def is_valid(value: Any, schema: Any, root: Any = None) -> bool:
    root = schema if root is None else root
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema:
        found: Any = root
        for step in schema["$ref"].split("/")[1:]:
            found = found[step.replace("~1", "/")]
        rest = {name: rule for name, rule in schema.items() if name != "$ref"}
        return is_valid(value, found, root) and is_valid(value, rest, root)
    if "type" in schema:
        kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        fits = [
            isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
            for kind in kinds
        ]
        if not any(fits):
            return False
    checks = [
        "const" not in schema or value == schema["const"],
        "enum" not in schema or value in schema["enum"],
        "anyOf" not in schema or any(is_valid(value, option, root) for option in schema["anyOf"]),
        "oneOf" not in schema or sum(is_valid(value, option, root) for option in schema["oneOf"]) == 1,
        all(is_valid(value, part, root) for part in schema.get("allOf", [])),
    ]
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        known = schema.get("properties", {})
        checks += [
            set(schema.get("required", [])) <= members.keys(),
            len(members) >= schema.get("minProperties", 0),
        ]
        checks += [
            is_valid(inside, known.get(name, schema.get("additionalProperties", True)), root)
            for name, inside in members.items()
        ]
    if isinstance(value, list):
        items: list[Any] = [*value]  # pyright: ignore[reportUnknownVariableType] - JSON has no more of a type
        fixed = schema.get("prefixItems", [])
        checks += [schema.get("minItems", 0) <= len(items) <= schema.get("maxItems", math.inf)]
        checks += [not schema.get("uniqueItems") or len({json.dumps(item) for item in items}) == len(items)]
        checks += [
            is_valid(item, fixed[i] if i < len(fixed) else schema.get("items", True), root)
            for i, item in enumerate(items)
        ]
    if isinstance(value, str):
        checks += [schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf)]
    if isinstance(value, int | float) and not isinstance(value, bool):
        checks += [
            schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf),
            schema.get("exclusiveMinimum", -math.inf) < value < schema.get("exclusiveMaximum", math.inf),
            value % schema.get("multipleOf", value or 1) == 0,
        ]
    return all(checks)


NODE = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "left": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    },
    "required": ["name", "next", "left", "children"],
    "additionalProperties": False,
}

SCHEMAS: list[tuple[Any, Any]] = [
    (
        {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
            "required": ["a"],
        },
        {"a": "demo"},
    ),
    ({"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]}, {"n": 1}),
    ({"enum": ["red", "blue"]}, "red"),
    ({"const": {"a": 1}}, {"a": 1}),
    ({"type": ["null", "string"]}, "demo"),
    ({"type": "null"}, None),
    ({"type": "boolean"}, True),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 3, "uniqueItems": True}, [1, 2, 3]),
    ({"type": "array", "items": {"type": "string"}, "minItems": 2, "uniqueItems": True}, ["demo", "demo 2"]),
    ({"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 2, "uniqueItems": True}, ["x", "y"]),
    ({"type": "array", "items": {"type": "string"}}, ["demo"]),
    ({"type": "array", "items": {"type": "string"}, "maxItems": 0}, []),
    ({"type": "array"}, []),
    (
        {"type": "array", "prefixItems": [{"type": "null"}, {"type": "string"}], "items": False},
        [None, "demo"],
    ),
    ({"type": "array", "items": False}, []),
    ({"type": "integer", "minimum": 5}, 5),
    ({"type": "integer", "exclusiveMinimum": 5}, 6),
    ({"type": "integer", "maximum": -3}, -3),
    ({"type": "integer", "exclusiveMaximum": -3}, -4),
    ({"type": "integer", "multipleOf": 7, "minimum": 20}, 21),
    ({"type": "number", "minimum": 1.5, "maximum": 1.75}, 1.625),
    ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5),
    ({"type": "number", "exclusiveMinimum": 1}, 2),
    ({"type": "string", "minLength": 6}, "demooo"),
    ({"type": "string", "maxLength": 2}, "de"),
    ({"type": "string", "format": "date"}, "2026-01-01"),
    ({"type": "string", "pattern": "^[A-Z]{3}$", "examples": ["ABC"]}, "ABC"),
    ({"anyOf": [False, {"type": "integer"}]}, 1),
    ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "demo"),
    ({"type": "object", "anyOf": [{"required": ["a"]}], "properties": {"a": {"type": "null"}}}, {"a": None}),
    (
        {
            "allOf": [
                {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"b": {"const": 2}}, "required": ["b"]},
            ],
            "type": "object",
        },
        {"a": 1, "b": 2},
    ),
    ({"allOf": [{"type": "integer", "minimum": 2}, {"minimum": 4, "maximum": 9}, {"maximum": 5}]}, 4),
    (
        {"type": "object", "minProperties": 2, "properties": {"a": {"type": "null"}}},
        {"a": None, "demo2": "demo"},
    ),
    (
        {"properties": {"a/b": {"type": "null"}, "c": {"$ref": "#/properties/a~1b"}}, "required": ["c"]},
        {"c": None},
    ),
    (
        {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
        {"name": "demo", "next": None, "left": None, "children": []},
    ),
    (
        {
            "type": "object",
            "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}},
            "required": ["kids"],
        },
        {"kids": []},
    ),
    ({}, "demo"),
    (True, "demo"),
]


@pytest.mark.parametrize(("schema", "made"), SCHEMAS, ids=lambda case: json.dumps(case)[:40])
def test_the_instance_is_valid_plain_and_the_same_each_time(schema: Any, made: Any) -> None:
    assert is_valid(made, schema), "the judge and the expectation agree"
    assert instance(schema) == made
    assert instance(schema) == made


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"anyOf": [False, {"type": "integer", "minimum": 2, "maximum": 1}]},
        {"type": "number", "minimum": 1, "exclusiveMaximum": 1},
        {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2},
        {"$ref": "#"},
        {"$ref": "#/$defs/gone"},
        {"$ref": "https://example.com/schema.json"},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"type": "object", "required": ["a"], "additionalProperties": False},
        {"type": "array", "items": {"type": "null"}, "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {"type": "object", "minProperties": 10**9},
        {"type": "integer", "multipleOf": 0, "minimum": 5},
        {"type": "integer", "multipleOf": 1e-320},
        {"type": "number", "minimum": 1e300},
        {"properties": 3, "required": ["a"]},
        [],
        None,
    ],
    ids=lambda case: json.dumps(case)[:40],
)
def test_a_schema_without_an_instance_is_refused_and_never_runs_on(schema: Any) -> None:
    with pytest.raises(NoInstance):
        instance(schema)


def test_a_schema_that_doubles_at_every_level_is_refused() -> None:
    defs = {
        f"d{i}": {
            "properties": {"a": {"$ref": f"#/$defs/d{i + 1}"}, "b": {"$ref": f"#/$defs/d{i + 1}"}},
            "required": ["a", "b"],
        }
        for i in range(30)
    }
    with pytest.raises(NoInstance, match="more than"):
        instance({"$ref": "#/$defs/d0", "$defs": {**defs, "d30": {"type": "null"}}})


_leaves = st.sampled_from(
    [
        {"type": "string"},
        {"type": "integer", "minimum": 3},
        {"type": "boolean"},
        {"enum": [1, "a"]},
        {"type": "null"},
        {"$ref": "#/$defs/d"},
    ]
)


def _an_object(known: dict[str, Any]) -> st.SearchStrategy[Any]:
    needed = st.lists(st.sampled_from(sorted(known) or ["z"]), unique=True)
    return needed.map(lambda names: {"type": "object", "properties": known, "required": names})


def _an_array(items: Any, least: int) -> Any:
    return {"type": "array", "items": items, "minItems": least}


def _grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.dictionaries(st.sampled_from("abc"), inner).flatmap(_an_object)
    arrays = st.builds(_an_array, inner, st.integers(0, 3))
    choices = st.lists(inner, min_size=1, max_size=3).map(lambda options: {"anyOf": options})
    return objects | arrays | choices


@given(st.recursive(_leaves, _grown, max_leaves=12))
def test_whatever_is_made_is_valid(schema: dict[str, Any]) -> None:
    schema = {
        **schema,
        "$defs": {"d": {"type": "object", "properties": {"x": {"const": 7}}, "required": ["x"]}},
    }
    assert is_valid(instance(schema), schema)
