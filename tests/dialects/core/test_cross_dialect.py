"""From OpenAI's chat form to Anthropic Messages and back: what the two official clients' types say
of it.
"""

import json
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import TypeAdapter

from modelplex.core.errors import StatePinned
from modelplex.core.request import Attempt, Change, ChatRequest, ModelFacts, ProviderRequest
from modelplex.dialects.anthropic import dialect as anthropic
from modelplex.dialects.core.freeform_tools import WRAPS
from modelplex.dialects.openai_chat import dialect as openai_chat
from modelplex.dialects.raw_request import read_request
from modelplex.dialects.registry import write_request

STREAMS = Path(__file__).resolve().parents[2] / "transcripts" / "anthropic_messages"
ATTEMPT = Attempt(
    provider="anthropic",
    model="claude-sonnet-4-5",
    dialect="anthropic_messages",
    account="k1",
    facts=ModelFacts(max_output=64000, thinking="adaptive"),
)
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME: dict[str, Any] = {"type": "function", "function": {"name": "get_time"}}
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}},
    "required": ["name"],
    "additionalProperties": False,
}


def _call(messages: list[Any], **more: Any) -> ChatRequest:
    body = json.dumps({"model": "claude", "messages": messages, **more}).encode()
    return openai_chat.read_call(read_request(body, endpoint="chat/completions", dialect="openai_chat"))


def _sent(call: ChatRequest) -> tuple[dict[str, Any], ProviderRequest]:
    written = write_request(call, ATTEMPT)
    body: dict[str, Any] = json.loads(written.body)
    hidden = {"stream", "temperature"}
    types: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsNonStreaming)
    types.validate_python({name: value for name, value in body.items() if name not in hidden})
    return body, written


def _chunks(case: str, call: ChatRequest, *, piece: int) -> list[dict[str, Any]]:
    """The stream of this transcript as an OpenAI client gets it; [DONE] is checked and left out."""
    reader = anthropic.AnthropicStreamReader(ATTEMPT, ProviderRequest(body=b""))
    writer = openai_chat.ChatWriter(call, id="chatcmpl-1", created=1, model="claude")
    data = (STREAMS / case / "stream.sse").read_bytes()
    out = b""
    for start in range(0, len(data), piece):
        for event in reader.feed(data[start : start + piece]):
            out += writer.send(event)
    for event in reader.end():
        out += writer.send(event)
    out += writer.end()
    lines = [line.removeprefix("data: ") for line in out.decode().split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def _joined(chunks: list[dict[str, Any]]) -> ChatCompletion:
    state: ChatCompletionStreamState[None] = ChatCompletionStreamState()
    for chunk in chunks:
        for _ in state.handle_chunk(ChatCompletionChunk.model_validate(chunk)):
            pass
    return cast("ChatCompletion", state.get_final_completion())


def test_a_chat_request_with_tools_image_and_schema_becomes_a_messages_request() -> None:
    call = _call(
        [
            {"role": "developer", "content": "Be brief."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Who is this?"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "a",
                        "type": "function",
                        "function": {"name": "get_weather", "arguments": '{"city":"Bern"}'},
                    },
                    {"id": "b", "type": "function", "function": {"name": "get_time", "arguments": ""}},
                ],
            },
            {"role": "tool", "tool_call_id": "b", "content": "noon"},
            {"role": "tool", "tool_call_id": "a", "content": "rain"},
        ],
        tools=[WEATHER, TIME],
        tool_choice="auto",
        parallel_tool_calls=False,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "person", "schema": PERSON, "strict": True},
        },
        max_completion_tokens=500,
        temperature=1.5,
        stop="END",
        seed=7,
        user="u1",
        stream=True,
        stream_options={"include_usage": True},
    )
    body, written = _sent(call)
    assert body == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 500,
        "system": [{"type": "text", "text": "Be brief."}],
        "tools": [
            {
                "name": "get_weather",
                "description": "Tells the weather",
                "input_schema": WEATHER["function"]["parameters"],
            },
            {"name": "get_time", "input_schema": {"type": "object", "properties": {}}},
        ],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Who is this?"},
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="},
                    },
                ],
            },
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Bern"}},
                    {"type": "tool_use", "id": "b", "name": "get_time", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {
                        "type": "tool_result",
                        "tool_use_id": "a",
                        "content": [{"type": "text", "text": "rain"}],
                    },
                    {
                        "type": "tool_result",
                        "tool_use_id": "b",
                        "content": [{"type": "text", "text": "noon"}],
                    },
                ],
            },
        ],
        "output_config": {"format": {"type": "json_schema", "schema": PERSON}},
        "stop_sequences": ["END"],
        "temperature": 1.0,
        "metadata": {"user_id": "u1"},
        "stream": True,
    }
    told = [(change.op, change.path) for change in written.changes]
    assert sorted(told) == [("clamp", "temperature"), ("drop", "seed")]


@pytest.mark.parametrize("piece", [1, 64, 100_000])
def test_thinking_text_and_two_tools_reach_an_openai_client_in_order(piece: int) -> None:
    call = _call([{"role": "user", "content": "Hi"}], stream=True, stream_options={"include_usage": True})
    chunks = _chunks("thinking_text_two_tools", call, piece=piece)
    completion = _joined(chunks)
    (choice,) = completion.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "Ich schaue nach. 🌦"
    calls = [json.loads(call.model_dump_json())["function"] for call in choice.message.tool_calls or ()]
    assert [(call["name"], call["arguments"]) for call in calls] == [
        ("get_weather", '{"city": "Zürich"}'),
        ("get_time", "{}"),
    ]
    keys = [key for chunk in chunks for c in chunk["choices"] for key in c["delta"] if key != "role"]
    firsts = [keys.index(key, 1) for key in ("reasoning_content", "content", "tool_calls")]
    assert firsts == sorted(firsts)
    usage = completion.usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (2312, 89, 2401)
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 2000
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 40


@pytest.mark.parametrize("is_streamed", [True, False])
@pytest.mark.parametrize("case", ["thinking_text_two_tools", "redacted_thinking"])
def test_thinking_and_its_signature_survive_an_openai_client(case: str, *, is_streamed: bool) -> None:
    first = _call([{"role": "user", "content": "Hi"}], stream=is_streamed, tools=[WEATHER, TIME])
    if is_streamed:
        completion = _joined(_chunks(case, first, piece=33))
    else:
        events = anthropic.read_response(
            (STREAMS / case / "answer.json").read_bytes(), ATTEMPT, ProviderRequest(body=b"")
        )
        body, _ = openai_chat.write_response(events, first, id="chatcmpl-1", created=1, model="claude")
        completion = ChatCompletion.model_validate_json(body)
    message = completion.choices[0].message.model_dump(exclude_none=True)
    results = [
        {"role": "tool", "tool_call_id": c["id"], "content": "ok"} for c in message.get("tool_calls", [])
    ]
    replies = results or [{"role": "user", "content": "On"}]
    second = _call([{"role": "user", "content": "Hi"}, message, *replies], tools=[WEATHER, TIME])
    body_again, written = _sent(second)
    answered: list[Any] = json.loads((STREAMS / case / "answer.json").read_bytes())["content"]
    assert body_again["messages"][1] == {"role": "assistant", "content": answered}
    assert written.changes == ()


def test_a_signature_that_came_through_an_openai_client_goes_home_alone() -> None:
    call = _call([{"role": "user", "content": "Hi"}], stream=True)
    message = (
        _joined(_chunks("thinking_omitted", call, piece=33)).choices[0].message.model_dump(exclude_none=True)
    )
    again = _call([{"role": "user", "content": "Hi"}, message, {"role": "user", "content": "On"}])
    body, _ = _sent(again)
    assert body["messages"][1]["content"][0] == {
        "type": "thinking",
        "thinking": "",
        "signature": "EosnOnlySignature==",
    }
    with pytest.raises(StatePinned):
        write_request(again, msgspec.structs.replace(ATTEMPT, account="k2"))


def test_free_form_tools_survive_a_dialect_without_them() -> None:
    patch = {"type": "custom", "custom": {"name": "patch", "description": "Patches"}}
    call = _call([{"role": "user", "content": "Hi"}], tools=[patch])
    body, written = _sent(call)
    assert body["tools"][0]["input_schema"]["required"] == ["input"]
    assert written.changes == (Change("lower", "tools[0]", WRAPS),)
    answer = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "tool_use", "id": "t1", "name": "patch", "input": {"input": 'a "b"\n'}}],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    events = anthropic.read_response(json.dumps(answer).encode(), ATTEMPT, written)
    told, _ = openai_chat.write_response(events, call, id="c", created=1, model="m")
    message = json.loads(told)["choices"][0]["message"]
    assert message["tool_calls"] == [
        {"id": "t1", "type": "custom", "custom": {"name": "patch", "input": 'a "b"\n'}}
    ]
    again, _ = _sent(
        _call(
            [
                {"role": "user", "content": "Hi"},
                message,
                {"role": "tool", "tool_call_id": "t1", "content": "ok"},
            ],
            tools=[patch],
        )
    )
    assert again["messages"][1]["content"] == answer["content"]
