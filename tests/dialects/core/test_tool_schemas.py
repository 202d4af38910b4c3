"""Schemas of tools as services take them that refuse combinations at the top."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from modelplex.core.request import Attempt, Quirks
from modelplex.dialects.core.tool_schemas import COMBINED
from modelplex.dialects.registry import write_request
from modelplex.providers import all_specs
from tests.dialects.anthropic.peer import make_call as make_messages
from tests.dialects.openai_chat.peer import make_call as make_chat

STRING = {"type": "string"}
STRICT = Quirks(refuses=(COMBINED,))


def sent(schema: dict[str, Any], dialect: str, quirks: Quirks = STRICT) -> tuple[dict[str, Any], list[str]]:
    """The parameters as they are sent from a client of another form, and the report."""
    if dialect == "anthropic_messages":
        tool: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": schema}}
        call = make_chat(tools=[tool])
    else:
        call = make_messages(max_tokens=9, tools=[{"name": "f", "input_schema": schema}])
    written = write_request(call, Attempt("acme", "m-up", dialect, quirks=quirks))
    tool = msgspec.json.decode(written.body)["tools"][0]
    parameters = tool.get("function", tool).get("parameters") or tool["input_schema"]
    return parameters, [f"{change.op} {change.path}" for change in written.changes if "." in change.path]


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic_messages"])
@pytest.mark.parametrize("name", ["anyOf", "oneOf"])
def test_the_branches_of_a_choice_are_merged_and_told(dialect: str, name: str) -> None:
    branches = [
        {"properties": {"a": STRING, "c": STRING}, "required": ["a", "c"]},
        {"properties": {"b": STRING}, "required": ["b", "c"]},
    ]
    schema = {"type": "object", "properties": {"p": STRING}, "required": ["p"], name: branches}
    parameters, report = sent(schema, dialect)
    assert set(parameters["properties"]) == {"a", "b", "c", "p"}
    assert parameters["required"] == ["c", "p"]
    assert not parameters.keys() & {"anyOf", "oneOf", "allOf"}
    assert f'It must match: {{"{name}":' in parameters["description"]
    assert [line for line in report if line.endswith(f".{name}")]


def test_schemas_that_all_hold_become_one() -> None:
    parts = [{"properties": {"a": STRING}, "required": ["a"]}, {"properties": {"b": STRING}}]
    parameters, _ = sent({"type": "object", "allOf": parts}, "openai_chat")
    assert parameters == {"type": "object", "properties": {"a": STRING, "b": STRING}, "required": ["a"]}


@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses"])
def test_an_object_without_properties_gets_none(dialect: str) -> None:
    parameters, report = sent({"type": "object"}, dialect)
    assert parameters == {"type": "object", "properties": {}}
    assert report == ["add tools[0].input_schema.properties"]


def test_a_service_that_takes_combinations_gets_them() -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {}, "anyOf": [{"required": ["a"]}]}
    assert sent(schema, "openai_chat", Quirks()) == (schema, [])


@pytest.mark.parametrize("name", ["openai", "azure", "anthropic"])
def test_the_services_that_refuse_combinations_say_so_in_their_rows(name: str) -> None:
    assert COMBINED in all_specs()[name].quirks.refuses
