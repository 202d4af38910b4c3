"""Arguments that headers repeat."""

from modelplex.mcp.header_arguments import header_arguments
from tests.mcp.offers import headed


def test_annotated_arguments_are_found_with_their_paths() -> None:
    found = header_arguments(
        headed(
            region={"type": "string", "x-mcp-header": "Region"},
            options=headed(limit={"type": "integer", "x-mcp-header": "Limit"}),
            plain={"type": "string", "default": {"x-mcp-header": "data"}},
        )
    )
    assert found == {("region",): "Region", ("options", "limit"): "Limit"}


def test_an_argument_may_have_the_name_of_a_keyword() -> None:
    found = header_arguments(
        headed(
            properties={"type": "string", "x-mcp-header": "A"},
            default={"type": "boolean", "x-mcp-header": "B"},
            **{"x-mcp-header": {"type": "string"}},
        )
    )
    assert found == {("properties",): "A", ("default",): "B"}
