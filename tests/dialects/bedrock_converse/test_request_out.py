"""Bodies for Converse. Each is checked against AWS's service model."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    CacheBreakpoint,
    FreeformTool,
    Message,
    ResponseFormat,
    Sampling,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from tests.dialects.bedrock_converse.writing import (
    CLAUDE,
    LLAMA,
    NOVA,
    OLD_CLAUDE,
    QWEN,
    attempt,
    changes,
    request,
    write,
)

HI = Message("user", (TextPart("Hi"),))
SCHEMA = msgspec.Raw(b'{"type":"object","properties":{"at":{"type":"integer"}},"required":["at"]}')
LOOK = Tool("look", "Looks.", SCHEMA)
CLOSED = {**json.loads(bytes(SCHEMA)), "additionalProperties": False}


def spec(name: str = "look", description: str = "Looks.", schema: Any = None, **more: Any) -> dict[str, Any]:
    tool = {
        "name": name,
        "description": description,
        "inputSchema": {"json": schema or json.loads(bytes(SCHEMA))},
    }
    return {"toolSpec": {**tool, **more}}


def test_settings_of_inference() -> None:
    body, written = write(
        request(HI, max_tokens=9, sampling=Sampling(temperature=1.5, top_p=0.5, stop=("END", ""))),
        attempt(LLAMA),
    )
    assert body["inferenceConfig"] == {
        "maxTokens": 9,
        "temperature": 1,
        "topP": 0.5,
        "stopSequences": ["END"],
    }
    assert body["additionalModelResponseFieldPaths"] == ["/stop_sequence"]
    assert changes(written) == [("clamp", "temperature")]


@pytest.mark.parametrize(
    ("model", "fields"),
    [(CLAUDE, {"top_k": 5}), (NOVA, {"inferenceConfig": {"topK": 5}}), (LLAMA, None)],
)
def test_top_k_is_a_parameter_of_the_model(model: str, fields: Any) -> None:
    body, written = write(request(HI, sampling=Sampling(top_k=5)), attempt(model))
    assert body.get("additionalModelRequestFields") == fields
    assert changes(written) == ([] if fields else [("drop", "top_k")])


def test_a_claude_takes_temperature_or_top_p() -> None:
    body, written = write(request(HI, sampling=Sampling(temperature=0.5, top_p=0.5)))
    assert body["inferenceConfig"] == {"temperature": 0.5}
    assert changes(written) == [("drop", "top_p")]
    body, written = write(
        request(HI, sampling=Sampling(temperature=0.5)), attempt("anthropic.claude-opus-4-8")
    )
    assert "inferenceConfig" not in body
    assert changes(written) == [("drop", "temperature")]


def test_the_limit_of_a_known_model_is_not_exceeded() -> None:
    body, written = write(request(HI, max_tokens=100_000), attempt(OLD_CLAUDE))
    assert body["inferenceConfig"] == {"maxTokens": 8192}
    assert changes(written) == [("clamp", "max_tokens")]


def test_what_converse_does_not_have_is_reported() -> None:
    call = request(
        HI,
        sampling=Sampling(seed=1, min_p=0.5, presence_penalty=1, frequency_penalty=1, logprobs=True),
        parallel=False,
        user="u",
        cache_key="k",
        tier="flex",
        metadata=msgspec.Raw(b'{"a":"b"}'),
        verbosity="low",
        extra={"store": msgspec.Raw(b"true")},
    )
    body, written = write(call)
    assert list(body) == ["messages"]
    assert {op for op, _ in changes(written)} == {"drop"}
    assert len(changes(written)) == 12
    assert all(change.reason != "this provider has no such parameter" for change in written.changes[:-1])


def test_several_choices_are_refused() -> None:
    with pytest.raises(Unsupported):
        write(request(HI, sampling=Sampling(n=2)))


# --- tools


def test_tools_and_their_choice() -> None:
    tools = (
        LOOK,
        Tool("a.b", None),
        FreeformTool("edit", "Edits."),
        Tool("c", parameters=msgspec.Raw(b'{"properties":{}}')),
    )
    body, written = write(request(HI, tools=tools, choice=ToolChoice("named", ("a.b",))))
    sent = body["toolConfig"]
    assert sent["tools"][0] == spec()
    assert [tool["toolSpec"]["inputSchema"]["json"]["type"] for tool in sent["tools"]] == ["object"] * 4
    (alias,) = written.aliases
    assert sent["toolChoice"] == {"tool": {"name": alias}}
    assert written.free == {"edit"}
    assert [op for op, _ in changes(written)] == ["rename", "lower", "add"]


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        (ToolChoice("auto"), None),
        (ToolChoice("required"), {"any": {}}),
        (ToolChoice("subset", ("look",)), None),
        (ToolChoice("subset", ("look",), required=True), {"any": {}}),
    ],
)
def test_a_choice_among_tools(choice: ToolChoice | None, sent: Any) -> None:
    body, _ = write(request(HI, tools=(LOOK, Tool("other")), choice=choice))
    assert body["toolConfig"].get("toolChoice") == sent
    count = 1 if choice is not None and choice.mode == "subset" else 2
    assert len(body["toolConfig"]["tools"]) == count


def test_a_call_that_a_model_refuses_to_be_forced_to_is_asked_for() -> None:
    body, written = write(
        request(HI, tools=(LOOK,), choice=ToolChoice("required")), attempt("anthropic.claude-opus-5-5")
    )
    assert "toolChoice" not in body["toolConfig"]
    assert changes(written) == [("lower", "choice")]


def history(name: str = "look") -> tuple[Message, ...]:
    return (
        HI,
        Message("assistant", (ToolCallPart("a", name, "{}"),)),
        Message("tool", (ToolResultPart("a", (TextPart("x"),)),)),
    )


def test_no_tools_are_sent_where_none_may_be_called() -> None:
    body, _ = write(request(HI, tools=(LOOK,), choice=ToolChoice("none")))
    assert "toolConfig" not in body
    body, written = write(request(*history(), tools=(LOOK,), choice=ToolChoice("none")))
    assert body["toolConfig"] == {"tools": [spec()]}
    assert changes(written) == [("lower", "choice")]


def test_tools_of_earlier_calls_are_defined() -> None:
    body, written = write(request(*history("a b")))
    (tool,) = body["toolConfig"]["tools"]
    assert tool["toolSpec"]["name"] == body["messages"][1]["content"][0]["toolUse"]["name"]
    assert ("add", "messages[1].content[0]") in changes(written)


@pytest.mark.parametrize("choice", [ToolChoice("required"), ToolChoice("named", ("look",))])
def test_a_tool_that_is_demanded_must_be_there(choice: ToolChoice) -> None:
    with pytest.raises(BadRequest):
        write(request(HI, choice=choice))


@pytest.mark.parametrize(
    ("schema", "kind"), [(b"[]", BadRequest), (b'"x"', BadRequest), (b'{"type":"string"}', Unsupported)]
)
def test_parameters_are_an_object(schema: bytes, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        write(request(HI, tools=(Tool("look", parameters=msgspec.Raw(schema)),)))


def test_a_strict_tool_is_one_where_the_model_compiles_schemas() -> None:
    strict = Tool("look", "Looks.", SCHEMA, strict=True)
    body, _ = write(request(HI, tools=(strict,)))
    assert body["toolConfig"]["tools"] == [spec(schema=CLOSED, strict=True)]
    body, written = write(request(HI, tools=(strict,)), attempt(NOVA))
    assert body["toolConfig"]["tools"] == [spec()]
    assert changes(written) == [("drop", "tools[].strict")]


@pytest.mark.parametrize(("model", "sent"), [(CLAUDE, True), (NOVA, False)])
def test_a_cache_point_of_tools_is_that_of_claude(model: str, sent: bool) -> None:
    tool = Tool("look", "Looks.", SCHEMA, cache=CacheBreakpoint())
    body, written = write(request(HI, tools=(tool,)), attempt(model))
    assert body["toolConfig"]["tools"][1:] == ([{"cachePoint": {"type": "default"}}] if sent else [])
    assert changes(written) == ([] if sent else [("drop", "tools[].cache")])


@pytest.mark.parametrize(("model", "sent"), [(NOVA, True), (LLAMA, False)])
def test_the_cache_point_of_the_whole_request(model: str, sent: bool) -> None:
    body, written = write(request(HI, cache=CacheBreakpoint("1h")), attempt(model))
    point = {"cachePoint": {"type": "default", "ttl": "1h"}}
    assert body["messages"][-1]["content"] == [{"text": "Hi"}, *([point] if sent else [])]
    assert changes(written) == ([] if sent else [("drop", "cache")])


# --- the form of the answer

FORM = ResponseFormat("schema", SCHEMA, name="place", description="A place.")


@pytest.mark.parametrize("model", [CLAUDE, QWEN])
def test_a_schema_is_structured_output(model: str) -> None:
    body, written = write(request(HI, format=FORM), attempt(model))
    (definition,) = [body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]]
    assert json.loads(definition.pop("schema")) == CLOSED
    assert definition == {"name": "place", "description": "A place."}
    assert changes(written) == [("lower", "schema")]


@pytest.mark.parametrize("model", [NOVA, OLD_CLAUDE])
def test_a_schema_is_a_tool_where_there_is_no_structured_output(model: str) -> None:
    body, written = write(request(HI, format=FORM), attempt(model))
    assert body["toolConfig"] == {
        "tools": [spec("answer", "A place.")],
        "toolChoice": {"tool": {"name": "answer"}},
    }
    assert written.answer_tool == "answer"


@pytest.mark.parametrize(("model", "tools"), [(LLAMA, ()), (NOVA, (LOOK,))])
def test_a_schema_that_nothing_enforces_is_refused(model: str, tools: tuple[Tool, ...]) -> None:
    with pytest.raises(Unsupported):
        write(request(HI, format=FORM, tools=tools), attempt(model))


def test_any_json_is_asked_for_in_words() -> None:
    body, written = write(request(HI, format=ResponseFormat("json")))
    assert "JSON" in body["system"][0]["text"]
    assert changes(written) == [("lower", "format")]


def test_a_format_needs_its_schema() -> None:
    with pytest.raises(BadRequest):
        write(request(HI, format=ResponseFormat("schema")))
