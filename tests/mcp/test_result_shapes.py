"""Results that clients accept."""

from __future__ import annotations

import pytest

from modelplex.mcp.constants import Era, Json
from modelplex.mcp.result_shapes import repair_result
from tests.mcp.definitions import ANSWERS


@pytest.mark.parametrize(("method", "whole"), ANSWERS)
@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_valid_result_is_returned_unchanged(method: str, whole: Json, era: Era) -> None:
    assert repair_result(method, whole, era=era) is whole


def test_an_invalid_block_of_a_tools_result_is_replaced_alone() -> None:
    given: Json = {
        "content": [
            {"type": "text", "text": "it", "annotations": None},
            {"type": "image"},
            {"type": "new"},
            3,
        ]
    }
    content = repair_result("tools/call", given, era="legacy")["content"]
    assert content[0] == {"type": "text", "text": "it"}
    assert "content.1.data is missing" in content[1]["text"]
    assert content[2] == {"type": "new"}
    assert "content.3 is a number, not an object" in content[3]["text"]


def test_structured_results_of_older_clients_are_objects() -> None:
    given: Json = {"content": [], "structuredContent": [1, 2]}
    assert repair_result("tools/call", given, era="modern") is given
    assert repair_result("tools/call", given, era="legacy") == {
        "content": [{"type": "text", "text": "[1,2]"}]
    }
