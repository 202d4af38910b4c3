"""List entries with a fault at each of their members."""

from __future__ import annotations

from typing import Final

import pytest

from modelplex.mcp.constants import Json
from modelplex.mcp.shapes import Kind, Malformed, older, repair_entry
from tests.mcp.definitions import GOOD, WHOLE, broken, merged_with
from tests.mcp.harness import Harness, ScriptedClient, ScriptedServer, result, tool


@pytest.mark.parametrize("kind", WHOLE)
def test_a_whole_entry_is_listed_as_it_is(kind: Kind) -> None:
    found: list[Malformed] = []
    assert repair_entry(kind, WHOLE[kind], dropped=found) is WHOLE[kind]
    assert older(kind, WHOLE[kind]) is WHOLE[kind]
    assert found == []


@pytest.mark.parametrize("kind", WHOLE)
def test_an_invalid_entry_leaves_others_listed(kind: Kind) -> None:
    for what, entry in broken(kind):
        merged = merged_with(kind, entry)
        for era in ("legacy", "modern"):
            names = [each["name"] for each in merged.page(kind, era=era)[kind]]
            assert len(names) in {2, 3}, what
            assert {name.rpartition("__")[2] for name in names} >= {"good"}, what
        if len(merged.entries(kind)) == 2:
            assert any("left out" in warned.sentence and warned.count for warned in merged.warnings), what


HARMLESS: Final[list[tuple[Kind, Json, Json]]] = [
    ("tools", {"description": None}, {}),
    ("tools", {"inputSchema": {}}, {"inputSchema": {"type": "object"}}),
    ("tools", {"inputSchema": []}, {"inputSchema": {"type": "object"}}),
    ("tools", {"inputSchema": {"type": None}}, {"inputSchema": {"type": "object"}}),
    ("tools", {"inputSchema": {"type": ["object", "null"]}}, {"inputSchema": {"type": "object"}}),
    (
        "tools",
        {"inputSchema": {"type": "object", "properties": []}},
        {"inputSchema": {"type": "object", "properties": {}}},
    ),
    (
        "tools",
        {"inputSchema": {"type": "object", "properties": None}},
        {"inputSchema": {"type": "object"}},
    ),
    ("tools", {"annotations": {"readOnlyHint": None}}, {"annotations": {}}),
    ("prompts", {"arguments": None}, {}),
    ("prompts", {"arguments": [{"name": "a", "description": None}]}, {"arguments": [{"name": "a"}]}),
    ("resources", {"size": None, "mimeType": None}, {}),
    ("resourceTemplates", {"annotations": {"audience": None}}, {"annotations": {}}),
]


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    HARMLESS,
)
def test_harmless_faults_are_repaired_without_a_warning(kind: Kind, change: Json, expected: Json) -> None:
    found: list[Malformed] = []
    assert repair_entry(kind, {**GOOD[kind], **change}, dropped=found) == {**GOOD[kind], **expected}
    assert found == []


DECORATING: Final[list[tuple[Kind, Json, str]]] = [
    (
        "tools",
        {"annotations": {"readOnlyHint": "yes"}},
        "annotations.readOnlyHint is 'yes', not true or false",
    ),
    ("tools", {"icons": [{}]}, "icons.0.src is missing"),
    ("tools", {"outputSchema": {"type": "object", "pattern": "["}}, "outputSchema pattern has a value"),
    (
        "resources",
        {"annotations": {"lastModified": "2025-02-30T00:00:00Z"}},
        "annotations.lastModified is",
    ),
    ("resources", {"size": 1.5}, "size is a number, not a whole number"),
]


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    DECORATING,
)
def test_an_invalid_optional_member_is_dropped_with_a_warning(
    kind: Kind, change: Json, expected: str
) -> None:
    merged = merged_with(kind, {**WHOLE[kind], **change})
    assert len(merged.entries(kind)) == 3
    assert [warned.sentence for warned in merged.warnings if expected in warned.sentence], merged.warnings
    assert all("odd" in warned.sentence and warned.server == "s0" for warned in merged.warnings)


NEEDED: Final[list[tuple[Kind, Json, str]]] = [
    ("tools", {"description": 3}, "the tool 'odd' is left out: description is a number, not a string"),
    (
        "tools",
        {"inputSchema": {"type": "array"}},
        "the tool 'odd' is left out: inputSchema.type is 'array', not 'object'",
    ),
    (
        "tools",
        {"inputSchema": {"type": "object", "required": True}},
        "inputSchema.required is true, not a list",
    ),
    (
        "tools",
        {"inputSchema": {"type": "object", "properties": {"a": 1}}},
        "inputSchema.properties.a is a number, not a schema",
    ),
    ("prompts", {"arguments": [{}]}, "the prompt 'odd' is left out: arguments.0.name is missing"),
    (
        "resources",
        {"description": []},
        "the resource 'odd:it' is left out: description is a list, not a string",
    ),
]


@pytest.mark.parametrize(
    ("kind", "change", "expected"),
    NEEDED,
)
def test_an_invalid_member_that_calls_need_leaves_the_entry_out(
    kind: Kind, change: Json, expected: str
) -> None:
    merged = merged_with(kind, {**WHOLE[kind], **change})
    assert len(merged.entries(kind)) == 2
    assert [warned for warned in merged.warnings if expected in warned.sentence and warned.server == "s0"], (
        merged.warnings
    )


def test_other_results_than_objects_are_for_clients_of_2026_07_28() -> None:
    merged = merged_with("tools", {**WHOLE["tools"], "outputSchema": {"type": "array"}})
    modern, legacy = (merged.page("tools", era=era)["tools"] for era in ("modern", "legacy"))
    assert [tool.get("outputSchema") for tool in modern] == [None, {"type": "array"}, None]
    assert [tool.get("outputSchema") for tool in legacy] == [None, None, None]
    assert merged.warnings == ()


def test_schemas_of_arguments_that_are_booleans_are_written_as_objects_for_older_clients() -> None:
    tool: Json = {**GOOD["tools"], "inputSchema": {"type": "object", "properties": {"a": True, "b": False}}}
    assert repair_entry("tools", tool, dropped=[]) is tool
    assert older("tools", tool)["inputSchema"]["properties"] == {"a": {}, "b": {"not": {}}}


async def test_each_era_gets_its_own_form_of_a_tool() -> None:
    harness = Harness(ScriptedServer("s", tools=[tool("x", outputSchema={"type": "array"})]))
    modern, legacy = [
        result(await harness.ask(ScriptedClient(era), "tools/list"))["tools"] for era in ("modern", "legacy")
    ]
    assert modern[0]["outputSchema"] == {"type": "array"}
    assert "outputSchema" not in legacy[0]
