"""Arguments that headers repeat."""

import pytest

from modelplex.mcp.constants import Json
from modelplex.mcp.header_arguments import BadHeaderArgument, header_arguments
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


@pytest.mark.parametrize("keyword", ["const", "default", "enum", "examples"])
def test_an_annotation_inside_data_is_ignored(keyword: str) -> None:
    assert header_arguments({"properties": {"a": {keyword: [{"x-mcp-header": "A"}]}}}) == {}


@pytest.mark.parametrize("keyword", ["items", "patternProperties", "if", "vendorKeyword"])
def test_an_annotation_below_another_keyword_is_invalid(keyword: str) -> None:
    below: Json = {"b": {"type": "string", "x-mcp-header": "A"}}
    with pytest.raises(BadHeaderArgument, match="where no argument is"):
        header_arguments({"properties": {"a": {keyword: below}}})


def test_a_deep_schema_is_read_without_recursion() -> None:
    schema: Json = {}
    for _ in range(50_000):
        schema = {"items": [schema]}
    assert header_arguments(schema) == {}
