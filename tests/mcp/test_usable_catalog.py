"""Which entries of a server's catalog are listed."""

import pytest

from modelplex.mcp.catalog import (
    ServerOffer,
    merge,
)
from modelplex.mcp.constants import Catalog, Json
from modelplex.mcp.usable_catalog import MAX_SCHEMA_BYTES, MAX_SCHEMA_DEPTH, tool_fault
from tests.mcp.offers import headed, listed, offer, resource, sentences, template, tool


def test_an_invalid_definition_leaves_out_only_itself() -> None:
    bad: Json = {"inputSchema": {}}
    merged = merge(
        [
            ServerOffer(
                server="s",
                catalog=Catalog(
                    era="legacy",
                    version="2025-11-25",
                    tools=(bad, {"name": "noschema"}, tool("good")),
                    prompts=({"title": "x"}, {"name": "p"}),
                    resources=({"uri": "a:b"}, resource("a:c")),
                    templates=({"name": "t"}, template("a:{x}")),
                ),
            )
        ]
    )
    assert listed(merged) == ["s__good"]
    assert listed(merged, "prompts") == ["s__p"]
    assert listed(merged, "resources") == ["a:c"]
    assert sentences(merged) == [
        "s: a tool without name is left out",
        "s: the tool 'noschema' is left out: it has no inputSchema",
        "s: a prompt without name is left out",
        "s: a resource without name is left out",
        "s: a resource template without uriTemplate is left out",
    ]


def nested(levels: int) -> Json:
    schema: Json = {}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def test_schemas_that_are_too_large_or_too_deep_are_left_out() -> None:
    assert tool_fault(tool("a", inputSchema=nested(MAX_SCHEMA_DEPTH))) is None
    assert "deeper" in str(tool_fault(tool("a", inputSchema=nested(MAX_SCHEMA_DEPTH + 1))))
    assert "deeper" in str(tool_fault(tool("a", inputSchema=nested(100_000))))
    large = {"description": "x" * MAX_SCHEMA_BYTES}
    assert "inputSchema is larger" in str(tool_fault(tool("a", inputSchema=large)))
    assert "outputSchema is larger" in str(tool_fault(tool("a", outputSchema=large)))


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (headed(a={"type": "string", "x-mcp-header": ""}), "not the name of a header"),
        (headed(a={"type": "string", "x-mcp-header": "a b"}), "not the name of a header"),
        (headed(a={"type": "string", "x-mcp-header": "a\n"}), "not the name of a header"),
        (headed(a={"type": "string", "x-mcp-header": 1}), "not the name of a header"),
        (headed(a={"type": "number", "x-mcp-header": "A"}), "neither string, integer nor boolean"),
        (headed(a={"x-mcp-header": "A"}), "neither string, integer nor boolean"),
        (
            headed(a={"type": "string", "x-mcp-header": "A"}, b={"type": "string", "x-mcp-header": "a"}),
            "twice",
        ),
        ({"type": "string", "x-mcp-header": "A"}, "where no argument is"),
        (
            headed(a={"type": "array", "items": {"type": "string", "x-mcp-header": "A"}}),
            "where no argument is",
        ),
        ({"allOf": [headed(a={"type": "string", "x-mcp-header": "A"})]}, "where no argument is"),
        ({"$defs": {"a": {"type": "string", "x-mcp-header": "A"}}}, "where no argument is"),
    ],
)
def test_a_tool_with_an_invalid_header_annotation_is_left_out_with_a_warning(
    schema: Json, expected: str
) -> None:
    merged = merge([offer("s", tools=(tool("a", inputSchema=schema), tool("b")))])
    assert listed(merged) == ["s__b"]
    assert expected in sentences(merged)[0]
