"""Rules that hold alike in every pair of dialects: tool names, choices, members, arguments."""

import json
from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.events import ToolCallStarted
from modelplex.core.request import (
    Attempt,
    ChatRequest,
    Message,
    ModelFacts,
    ReasoningOptions,
    TextPart,
    Tool,
    ToolCallPart,
    ToolChoice,
    ToolResultPart,
)
from modelplex.dialects import registry
from modelplex.dialects.core.call_arguments import MAX_DEPTH
from modelplex.dialects.core.effort import effort_of
from modelplex.dialects.core.tool_names import alias
from modelplex.dialects.registry import write_request
from tests.dialects.sides import with_places

DIALECTS = ("openai_chat", "openai_responses", "anthropic_messages", "gemini", "ollama")
PAIRS = [(client, provider) for client in DIALECTS for provider in DIALECTS if client != provider]
ODD = "bad.name/with space"
HI = Message("user", (TextPart("Hi"),), path="messages[0]")

pairs = pytest.mark.parametrize(("client", "provider"), PAIRS)


def attempt(provider: str, **facts: Any) -> Attempt:
    return Attempt(provider="p", model="m", dialect=provider, facts=ModelFacts(**facts))


def call(client: str, *messages: Message, **more: Any) -> ChatRequest:
    return with_places(ChatRequest(dialect=client, model="m", messages=messages or (HI,), **more))


def asked_and_answered(arguments: str, name: str = "f") -> tuple[Message, ...]:
    made = Message("assistant", (ToolCallPart("c1", name, arguments),), path="messages[1]")
    result = Message("tool", (ToolResultPart("c1", (TextPart("r"),)),), path="messages[2]")
    return HI, made, result


def answer_calling(provider: str, name: str) -> bytes:
    """A whole answer of this provider that calls a tool."""
    answers: dict[str, Any] = {
        "openai_chat": {
            "id": "i",
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "tool_calls",
                    "message": {
                        "role": "assistant",
                        "tool_calls": [
                            {"id": "c", "type": "function", "function": {"name": name, "arguments": "{}"}}
                        ],
                    },
                }
            ],
        },
        "openai_responses": {
            "id": "i",
            "model": "m",
            "status": "completed",
            "output": [{"type": "function_call", "call_id": "c", "name": name, "arguments": "{}"}],
        },
        "anthropic_messages": {
            "id": "i",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "stop_reason": "tool_use",
            "content": [{"type": "tool_use", "id": "c", "name": name, "input": {}}],
            "usage": {"input_tokens": 1, "output_tokens": 1},
        },
        "gemini": {
            "candidates": [
                {
                    "finishReason": "STOP",
                    "content": {"role": "model", "parts": [{"functionCall": {"name": name, "args": {}}}]},
                }
            ]
        },
        "ollama": {
            "model": "m",
            "done": True,
            "done_reason": "stop",
            "message": {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": name, "arguments": {}}}],
            },
        },
    }
    return json.dumps(answers[provider]).encode()


@pairs
def test_a_name_that_is_not_accepted_is_replaced_reported_and_given_back(client: str, provider: str) -> None:
    asked = call(
        client, *asked_and_answered("{}", ODD), tools=(Tool(ODD),), choice=ToolChoice("named", (ODD,))
    )
    writer = registry.provider_dialect(provider)
    written = write_request(asked, attempt(provider))
    assert ODD not in written.body.decode()
    assert alias(ODD) in written.body.decode()
    renamed = [change for change in written.changes if change.op == "rename"]
    assert len(renamed) == 1
    assert alias(ODD) in renamed[0].reason
    assert written.aliases == {alias(ODD): ODD}
    events = writer.read_response(answer_calling(provider, alias(ODD)), attempt(provider), written)
    assert [event.name for event in events if isinstance(event, ToolCallStarted)] == [ODD]


@pairs
def test_two_tools_of_one_name_are_refused(client: str, provider: str) -> None:
    with pytest.raises(BadRequest, match="twin") as refused:
        write_request(call(client, tools=(Tool("twin"), Tool("one"), Tool("twin"))), attempt(provider))
    assert refused.value.param == "tools"


@pairs
@pytest.mark.parametrize(
    ("tools", "choice"),
    [
        ((Tool("here"),), ToolChoice("named", ("absent",))),
        ((Tool("here"),), ToolChoice("subset", ("here", "absent"))),
        ((), ToolChoice("named", ("absent",))),
        ((), ToolChoice("required")),
    ],
)
def test_a_choice_of_an_absent_tool_is_refused(
    client: str, provider: str, tools: tuple[Tool, ...], choice: ToolChoice
) -> None:
    asked = call(client, tools=tools, choice=choice, paths={"choice": "its.choice"})
    with pytest.raises(BadRequest) as refused:
        write_request(asked, attempt(provider))
    assert refused.value.param == "its.choice"


@pairs
@pytest.mark.parametrize("empty", ["[]", "[ ]", "{}", "false", "null", '""'])
def test_an_unknown_member_that_asks_for_nothing_is_not_reported(
    client: str, provider: str, empty: str
) -> None:
    more = {"unheard_of": msgspec.Raw(empty.encode())}
    told = call(
        client,
        msgspec.structs.replace(HI, extra=more),
        tools=(Tool("f", parameters=msgspec.Raw(b'{"type":"object"}'), extra=more),),
        extra=more,
    )
    changes = write_request(told, attempt(provider)).changes
    assert not [change for change in changes if "unheard_of" in change.path + change.reason]


@pairs
@pytest.mark.parametrize("value", ["0", "true", '"x"', "[0]", '{"a":1}'])
def test_one_that_asks_for_something_is(client: str, provider: str, value: str) -> None:
    told = call(client, extra={"unheard_of": msgspec.Raw(value.encode())})
    changes = write_request(told, attempt(provider)).changes
    assert [(each.op, each.path) for each in changes] == [("drop", "unheard_of")]


@pairs
def test_a_member_that_asks_by_being_there_is_never_empty(client: str, provider: str) -> None:
    told = call(client, extra={"web_search_options": msgspec.Raw(b"{}")})
    changes = write_request(told, attempt(provider)).changes
    assert [change.path for change in changes] == ["web_search_options"]


@pairs
def test_what_names_a_state_kept_elsewhere_is_refused(client: str, provider: str) -> None:
    told = call(client, extra={"previous_response_id": msgspec.Raw(b'"resp_1"')})
    with pytest.raises(Unsupported) as refused:
        write_request(told, attempt(provider))
    assert refused.value.param == "previous_response_id"


@pairs
@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 200_000])
def test_arguments_that_nobody_could_read_are_refused(client: str, provider: str, depth: int) -> None:
    arguments = '{"a":' * depth + "1" + "}" * depth
    with pytest.raises(BadRequest, match="'c1'") as refused:
        write_request(call(client, *asked_and_answered(arguments), tools=(Tool("f"),)), attempt(provider))
    assert refused.value.param == "messages[1].content[0].arguments"


@pairs
def test_arguments_as_deep_as_allowed_are_sent(client: str, provider: str) -> None:
    arguments = '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH
    told = call(client, *asked_and_answered(arguments), tools=(Tool("f"),))
    body = write_request(told, attempt(provider)).body
    assert body.count(b'{"a":') + body.count(b'{\\"a\\":') == MAX_DEPTH


@pairs
@pytest.mark.parametrize("tokens", [-1, 0, 1024, 2048, 8191, 8192, 24576, 32000, 10**9])
def test_a_budget_is_one_effort_everywhere(client: str, provider: str, tokens: int) -> None:
    told = call(client, reasoning=ReasoningOptions(budget=tokens))
    body = json.loads(write_request(told, attempt(provider, thinking="adaptive")).body)
    sent: dict[str, Any] = {
        "openai_chat": lambda: body["reasoning_effort"],
        "openai_responses": lambda: body["reasoning"]["effort"],
        "anthropic_messages": lambda: body.get("output_config", {}).get("effort"),
        "gemini": lambda: body["generationConfig"]["thinkingConfig"].get("thinkingLevel", "").lower(),
        "ollama": lambda: body["think"],
    }
    least: dict[str, dict[str, Any]] = {
        "anthropic_messages": {"minimal": "low"},
        "gemini": {"max": "xhigh"},
        "ollama": {"minimal": "low", "xhigh": "max"},
    }
    effort = effort_of(tokens)
    if tokens == 0 and provider in {"anthropic_messages", "gemini"}:
        off = (body.get("thinking"), body.get("generationConfig", {}).get("thinkingConfig"))
        assert off in [({"type": "disabled"}, None), (None, {"thinkingBudget": 0})]
        return
    assert sent[provider]() == least.get(provider, {}).get(effort, effort)
