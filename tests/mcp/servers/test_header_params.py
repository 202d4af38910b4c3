"""Headers that repeat parts of a message."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelplex.mcp.constants import Json
from modelplex.mcp.header_arguments import BadHeaderArgument, header_arguments
from modelplex.mcp.servers.header_params import (
    argument_headers,
    header_value,
    standard_headers,
)


@given(st.text())
def test_every_text_fits_into_a_header(text: str) -> None:
    value = header_value(text)
    assert value.isascii()
    assert value.isprintable()
    assert value == value.strip()
    if value.startswith("=?base64?") and value.endswith("?="):
        assert base64.b64decode(value[9:-2]).decode() == text.encode("utf-8", "replace").decode()
    else:
        assert value == text


@pytest.mark.parametrize(
    "schema",
    [
        {"x-mcp-header": "A"},
        {"properties": {"a": {"type": "number", "x-mcp-header": "A"}}},
        {"properties": {"a": {"type": "string", "x-mcp-header": "not a token"}}},
        {"properties": {"a": {"type": "string", "x-mcp-header": 1}}},
        {"properties": {"a": {"type": ["string"], "x-mcp-header": "A"}}},
        {
            "properties": {
                "a": {"type": "string", "x-mcp-header": "A"},
                "b": {"type": "string", "x-mcp-header": "a"},
            }
        },
        {"properties": {"a": {"items": {"type": "string", "x-mcp-header": "A"}}}},
        {"anyOf": [{"properties": {"a": {"type": "string", "x-mcp-header": "A"}}}]},
    ],
)
def test_an_invalid_annotation_has_no_headers(schema: Json) -> None:
    assert argument_headers(schema, {"a": "x", "b": "x"}) == {}
    with pytest.raises(BadHeaderArgument, match="x-mcp-header"):
        header_arguments(schema)


def test_data_in_a_schema_is_no_annotation() -> None:
    assert header_arguments({"default": {"x-mcp-header": "A"}, "enum": [{"x-mcp-header": 1}]}) == {}


def test_arguments_become_headers_and_null_ones_do_not() -> None:
    schema: Json = {
        "properties": {
            "t": {"type": "boolean", "x-mcp-header": "T"},
            "n": {"type": "integer", "x-mcp-header": "N"},
            "o": {"properties": {"s": {"type": "string", "x-mcp-header": "S"}}},
            "z": {"type": "string", "x-mcp-header": "Z"},
        }
    }
    arguments: Json = {"t": True, "n": 3, "o": {"s": " x"}, "z": None}
    assert argument_headers(schema, arguments) == {
        "Mcp-Param-T": "true",
        "Mcp-Param-N": "3",
        "Mcp-Param-S": "=?base64?IHg=?=",
    }
    assert argument_headers(schema, {"o": "no object"}) == {}
    assert argument_headers({}, None) == {}


def test_the_name_of_a_request_is_repeated_if_it_has_one() -> None:
    assert standard_headers("resources/read", {"uri": "a://b"}) == {
        "Mcp-Method": "resources/read",
        "Mcp-Name": "a://b",
    }
    assert standard_headers("tools/list", {"name": "x"}) == {"Mcp-Method": "tools/list"}
