"""Converse behind the gateway: official clients in front, a scripted cloud behind that checks the
signature with botocore's signer and each request against AWS's service model.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import ollama
import openai
import pytest
from google import genai
from google.genai import types

from modelplex.config import ConfigError
from tests.credentials.oracles import aws_signature
from tests.dialects.bedrock_converse.converse_model import (
    event,
    exception,
    faults,
    text_stream,
    whole,
)
from tests.gateways import Running, gateway
from tests.upstreams import Scripted, provider

MODEL = "us.meta.llama4-maverick-17b-instruct-v1:0"
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n"


def http(status: int, body: Any, **headers: str) -> bytes:
    data = json.dumps(body).encode()
    rows = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = (
        f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n{rows}\r\n"
    )
    return head.encode() + data


def chunked(pieces: Sequence[bytes]) -> bytes:
    return HEAD + b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in pieces) + b"0\r\n\r\n"


@asynccontextmanager
async def converse_cloud(*replies: bytes) -> AsyncGenerator[Scripted, None]:
    """Serves each reply in turn, the last one for all that follow, to requests that are signed and
    valid; 403 or 400 to others. `url` has no path.
    """
    served = 0

    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        seen = scripted.seen[-1]
        if seen.headers.get("authorization") != aws_signature(
            seen, "AKID", "aws-secret-key", None, service="bedrock"
        ):
            reply = http(403, {"message": "The request signature we calculated does not match."})
        elif wrong := faults(seen.body, stream=seen.target.endswith("/converse-stream")):
            reply = http(400, {"message": " ".join(wrong)}, x_amzn_errortype="ValidationException")
        else:
            reply = replies[min(served, len(replies) - 1)]
            served += 1
        writer.write(reply)
        await writer.drain()

    async with provider(act) as scripted:
        scripted.url = scripted.url.removesuffix("/v1")
        yield scripted


@pytest.fixture(autouse=True)
def aws_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws-secret-key")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)


def config(service: Scripted, *, model: str = MODEL, more: str = "") -> str:
    return (
        f'[[providers]]\nname = "aws"\ntype = "bedrock-converse"\nbase_url = "{service.url}"\n'
        f'region = "us-east-1"\nauth = {{ type = "aws" }}\nmodels = ["{model}"]\n{more}'
    )


def openai_client(gw: Running) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gw.base}/v1", api_key="unused", max_retries=0)


async def test_a_chat_completion_is_a_signed_request_of_converse(tmp_path: Path) -> None:
    async with (
        converse_cloud(http(200, whole({"text": "Hello."}))) as service,
        gateway(config(service), folder=tmp_path) as gw,
        openai_client(gw) as client,
    ):
        answer = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
            max_tokens=64,
            temperature=0.5,
        )
    assert answer.choices[0].message.content == "Hello."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (3, 2)
    (seen,) = service.seen
    assert seen.target == "/model/us.meta.llama4-maverick-17b-instruct-v1%3A0/converse"
    assert seen.json == {
        "messages": [{"role": "user", "content": [{"text": "Hi"}]}],
        "system": [{"text": "Be brief."}],
        "inferenceConfig": {"maxTokens": 64, "temperature": 0.5},
    }


@pytest.mark.parametrize("size", [1, 7, 100_000], ids=["bytes", "pieces", "whole"])
async def test_a_chat_stream_is_one_of_converse_stream(size: int, tmp_path: Path) -> None:
    stream = b"".join(text_stream("Hel", "lo."))
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    async with (
        converse_cloud(chunked(pieces)) as service,
        gateway(config(service), folder=tmp_path) as gw,
        openai_client(gw) as client,
    ):
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "Hi"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        ]
        record = await gw.record()
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Hello."
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 5
    assert record.usage is not None
    assert (record.usage.input, record.usage.output, record.usage.estimated) == (3, 2, False)
    (seen,) = service.seen
    assert seen.target.endswith("/converse-stream")


# --- every client, a call and its result

CALL = {"toolUse": {"toolUseId": "tooluse_1", "name": "look", "input": {"at": 1}}}
SCHEMA: dict[str, Any] = {"type": "object", "properties": {"at": {"type": "integer"}}, "required": ["at"]}
PNG = "iVBORw0KGgo="


async def _openai(gw: Running) -> str:
    async with openai_client(gw) as client:
        messages: list[Any] = [
            {"role": "user", "content": [{"type": "text", "text": "Look."}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}]}
        ]  # fmt: skip
        tools: Any = [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]
        answer = await client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
        (call,) = answer.choices[0].message.tool_calls or []
        messages += [
            answer.choices[0].message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": call.id, "content": "a cat"},
        ]
        answer = await client.chat.completions.create(model=MODEL, messages=messages, tools=tools)
    return answer.choices[0].message.content or ""


async def _responses(gw: Running) -> str:
    async with openai_client(gw) as client:
        given: list[Any] = [{"role": "user", "content": "Look."}]
        tools: Any = [{"type": "function", "name": "look", "parameters": SCHEMA, "strict": False}]
        answer = await client.responses.create(model=MODEL, input=given, tools=tools, store=False)
        (call,) = (item for item in answer.output if item.type == "function_call")
        given += [
            {"type": "function_call", "call_id": call.call_id, "name": "look", "arguments": call.arguments},
            {"type": "function_call_output", "call_id": call.call_id, "output": "a cat"},
        ]
        answer = await client.responses.create(model=MODEL, input=given, tools=tools, store=False)
    return answer.output_text


async def _messages(gw: Running) -> str:
    async with anthropic.AsyncAnthropic(base_url=gw.base, api_key="unused", max_retries=0) as client:
        messages: list[Any] = [{"role": "user", "content": "Look."}]
        tools: Any = [{"name": "look", "input_schema": SCHEMA}]
        answer = await client.messages.create(model=MODEL, max_tokens=99, messages=messages, tools=tools)
        assert answer.stop_reason == "tool_use"
        (call,) = (block for block in answer.content if block.type == "tool_use")
        messages += [
            {"role": "assistant", "content": [{"type": "tool_use", "id": call.id, "name": "look", "input": call.input}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "a cat"}]},
        ]  # fmt: skip
        answer = await client.messages.create(model=MODEL, max_tokens=99, messages=messages, tools=tools)
    (block,) = answer.content
    return block.text if block.type == "text" else ""


async def _gemini(gw: Running) -> str:
    client = genai.Client(api_key="unused", http_options=types.HttpOptions(base_url=gw.base))
    tool = types.Tool(
        function_declarations=[types.FunctionDeclaration(name="look", parameters_json_schema=SCHEMA)]
    )
    settings = types.GenerateContentConfig(
        tools=[tool], automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True)
    )
    contents: list[Any] = [types.Content(role="user", parts=[types.Part(text="Look.")])]
    answer = await client.aio.models.generate_content(model=MODEL, contents=contents, config=settings)
    (call,) = answer.function_calls or []
    reply = types.FunctionResponse(id=call.id, name="look", response={"output": "a cat"})
    contents += [
        types.Content(role="model", parts=[types.Part(function_call=call)]),
        types.Content(role="user", parts=[types.Part(function_response=reply)]),
    ]
    answer = await client.aio.models.generate_content(model=MODEL, contents=contents, config=settings)
    return answer.text or ""


async def _ollama(gw: Running) -> str:
    client = ollama.AsyncClient(host=gw.base)
    messages: list[Any] = [{"role": "user", "content": "Look."}]
    tools: Any = [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}]
    answer = await client.chat(model=MODEL, messages=messages, tools=tools)
    assert answer.message.tool_calls
    messages += [answer.message, {"role": "tool", "tool_name": "look", "content": "a cat"}]
    answer = await client.chat(model=MODEL, messages=messages, tools=tools)
    await client._client.aclose()
    return answer.message.content or ""


@pytest.mark.parametrize("talk", [_openai, _responses, _messages, _gemini, _ollama])
async def test_a_client_of_each_api_calls_a_tool_and_goes_on(talk: Any, tmp_path: Path) -> None:
    replies = (http(200, whole(CALL, reason="tool_use")), http(200, whole({"text": "A cat."})))
    async with converse_cloud(*replies) as service, gateway(config(service), folder=tmp_path) as gw:
        assert await talk(gw) == "A cat."
    first, second = (seen.json for seen in service.seen)
    assert first["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"] == SCHEMA
    call, result = (second["messages"][at]["content"][0] for at in (1, 2))
    assert call["toolUse"]["input"] == {"at": 1}
    assert "a cat" in result["toolResult"]["content"][0]["text"]
    assert result["toolResult"]["toolUseId"] == call["toolUse"]["toolUseId"]


async def test_signed_reasoning_comes_back_from_a_client_of_messages(tmp_path: Path) -> None:
    model = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    reasoned = {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}}
    replies = (http(200, whole(reasoned, {"text": "So."})), http(200, whole({"text": "Yes."})))
    async with (
        converse_cloud(*replies) as service,
        gateway(config(service, model=model), folder=tmp_path) as gw,
        anthropic.AsyncAnthropic(base_url=gw.base, api_key="unused", max_retries=0) as client,
    ):
        messages: list[Any] = [{"role": "user", "content": "Hi"}]
        thinking: Any = {"type": "enabled", "budget_tokens": 2048}
        answer = await client.messages.create(
            model=model, max_tokens=4096, messages=messages, thinking=thinking
        )
        assert [block.type for block in answer.content] == ["thinking", "text"]
        messages += [
            {
                "role": "assistant",
                "content": [block.model_dump(exclude_none=True) for block in answer.content],
            },
            {"role": "user", "content": "Sure?"},
        ]
        await client.messages.create(model=model, max_tokens=4096, messages=messages, thinking=thinking)
    assert service.seen[0].json["additionalModelRequestFields"] == {"thinking": thinking}
    assert service.seen[1].json["messages"][1]["content"] == [reasoned, {"text": "So."}]


# --- faults

NO_RETRIES = "\n[failover]\nretries = 0\n"


async def stream_error(gw: Running) -> tuple[str, openai.APIError | None]:
    """The text of a stream, and what ended it."""
    text = ""
    async with openai_client(gw) as client:
        try:
            async for chunk in await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "Hi"}], stream=True
            ):
                text += chunk.choices[0].delta.content or "" if chunk.choices else ""
                assert not (chunk.choices and chunk.choices[0].finish_reason)
        except openai.APIError as error:
            return text, error
    return text, None


@pytest.mark.parametrize(
    "rest",
    [
        [],
        [text_stream("x")[2][:20]],
        [exception("modelStreamErrorException", "The model failed.")],
        [event("messageStop", {"stopReason": "end_turn"})[:-1] + b"!"],
        [event("messageStop", {"stopReason": "malformed_tool_use"})],
    ],
    ids=["ends early", "ends within a message", "exception", "checksum", "malformed"],
)
async def test_a_broken_stream_is_never_a_whole_one(rest: list[bytes], tmp_path: Path) -> None:
    async with (
        converse_cloud(chunked([*text_stream("Hel")[:2], *rest])) as service,
        gateway(config(service) + NO_RETRIES, folder=tmp_path) as gw,
    ):
        text, error = await stream_error(gw)
        record = await gw.record()
    assert text == "Hel"
    assert error is not None
    assert record.error is not None


async def test_a_conversation_that_is_too_long_is_told_in_the_clients_words(tmp_path: Path) -> None:
    told = "The model returned the following errors: Input is too long for requested model."
    refusal = http(400, {"message": told}, x_amzn_errortype="ValidationException:http://internal.amazon.com/")
    async with (
        converse_cloud(refusal) as service,
        gateway(config(service), folder=tmp_path) as gw,
        openai_client(gw) as client,
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
    assert refused.value.code == "context_length_exceeded"
    assert len(service.seen) == 1


# --- the owner's members

BODY = """
[providers.body]
guardrailConfig = { guardrailIdentifier = "abc", guardrailVersion = "1", streamProcessingMode = "sync" }
serviceTier = { type = "flex" }
projectIdentifier = "p1"
"""


async def test_the_owners_members_are_sent_and_a_clients_are_not(tmp_path: Path) -> None:
    async with (
        converse_cloud(http(200, whole({"text": "Hello."}))) as service,
        gateway(config(service, more=BODY), folder=tmp_path) as gw,
        openai_client(gw) as client,
    ):
        await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": "Hi"}],
            service_tier="priority",
            extra_body={"serviceTier": {"type": "priority"}, "guardrailConfig": {}},
        )
    (seen,) = service.seen
    assert seen.json["serviceTier"] == {"type": "flex"}
    assert seen.json["projectIdentifier"] == "p1"
    assert seen.json["guardrailConfig"] == {"guardrailIdentifier": "abc", "guardrailVersion": "1"}


async def test_a_sealed_caller_is_served_with_tools_and_the_owners_members(tmp_path: Path) -> None:
    """What is written for Converse is judged again: all of it passes."""
    stream = [
        event("messageStart", {"role": "assistant"}),
        event("contentBlockStart", {"start": {"toolUse": {"toolUseId": "t", "name": "look"}}, "contentBlockIndex": 0}),
        event("contentBlockDelta", {"delta": {"toolUse": {"input": '{"at": 1}'}}, "contentBlockIndex": 0}),
        event("contentBlockStop", {"contentBlockIndex": 0}),
        event("messageStop", {"stopReason": "tool_use"}),
    ]  # fmt: skip
    parts = [
        {"type": "text", "text": "Look."},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}},
        {
            "type": "file",
            "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERi0xLjc="},
        },
    ]
    body = {
        "model": MODEL,
        "stream": True,
        "messages": [{"role": "user", "content": parts}],
        "tools": [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}],
        "tool_choice": "required",
        "stop": ["END"],
    }
    async with (
        converse_cloud(chunked(stream)) as service,
        gateway(config(service, more=BODY), folder=tmp_path) as gw,
    ):
        answer = await gw.ask("POST", "/models/v1/chat/completions", body, unix=True)
        parts[1] = {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}
        refused = await gw.ask("POST", "/models/v1/chat/completions", body, unix=True)
    assert refused.error["code"] == "policy_denied"
    assert answer.status == 200
    assert b"tool_calls" in answer.body
    (seen,) = service.seen
    sent = seen.json
    assert [next(iter(block)) for block in sent["messages"][0]["content"]] == ["text", "image", "document"]
    assert sent["toolConfig"]["toolChoice"] == {"any": {}}
    assert sent["serviceTier"] == {"type": "flex"}
    assert sent["guardrailConfig"]["streamProcessingMode"] == "sync"


@pytest.mark.parametrize(
    ("kind", "rows", "told"),
    [
        ("openai", "body = { store = true }\n", "no member of a request is the owner's at openai"),
        (
            "bedrock-converse",
            "body = { messages = {} }\n",
            "a member that the owner may set: guardrailConfig",
        ),
        ("bedrock-converse", 'body = { serviceTier = "flex" }\n', "a table, as the service documents it"),
        ("bedrock-converse", 'body = "flex"\n', "a table"),
    ],
)
async def test_a_member_that_is_not_the_owners_is_a_fault_of_the_config(
    kind: str, rows: str, told: str, tmp_path: Path
) -> None:
    text = f'[[providers]]\ntype = "{kind}"\nregion = "us-east-1"\napi_key = "k"\n{rows}'
    with pytest.raises(ConfigError) as fault:
        async with gateway(text, folder=tmp_path):
            pass
    assert told in str(fault.value)
