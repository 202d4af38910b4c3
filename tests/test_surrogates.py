"""One broken character of a tool's output, through the whole gateway: it is mended, told, and the
conversation goes on, in every client's form and before every provider.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import gateway
from tests.upstreams import answer, chat_answer, provider

TYPES = {
    "openai_chat": 'type = "mistral"\napi_key = "k"\n',
    "anthropic_messages": 'type = "anthropic"\napi_key = "k"\n',
    "gemini": 'type = "gemini"\napi_key = "k"\n',
    "ollama": 'type = "ollama"\n',
}
ANSWERS: dict[str, dict[str, Any]] = {
    "openai_chat": chat_answer("hi"),
    "anthropic_messages": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "hi"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 1, "output_tokens": 1},
    },
    "gemini": {"candidates": [{"content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]},
    "ollama": {"model": "m", "message": {"role": "assistant", "content": "hi"}, "done": True},
}
BODIES = {
    "openai_chat": (
        "/models/v1/chat/completions",
        rb'{"model":"m","messages":[{"role":"user","content":"a \ud83d b"}]}',
        "messages",
    ),
    "openai_responses": (
        "/models/v1/responses",
        rb'{"model":"m","input":[{"role":"user","content":"a \ud83d b"}]}',
        "input",
    ),
    "anthropic_messages": (
        "/models/v1/messages",
        rb'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"a \ud83d b"}]}',
        "messages",
    ),
    "gemini": (
        "/v1beta/models/m:generateContent",
        rb'{"contents":[{"role":"user","parts":[{"text":"a \ud83d b"}]}]}',
        "contents",
    ),
    "ollama": (
        "/api/chat",
        rb'{"model":"m","stream":false,"messages":[{"role":"user","content":"a \ud83d b"}]}',
        "messages",
    ),
}


@pytest.mark.parametrize("unix", [False, True], ids=["open", "sealed"])
@pytest.mark.parametrize("client", BODIES)
@pytest.mark.parametrize("dialect", TYPES)
async def test_half_a_character_is_mended_and_told(
    dialect: str, client: str, unix: bool, tmp_path: Path
) -> None:
    path, body, member = BODIES[client]
    async with provider(answer(ANSWERS[dialect])) as up:
        url = up.url if dialect == "openai_chat" else up.url.removesuffix("/v1")
        config = f'[[providers]]\nname = "up"\n{TYPES[dialect]}base_url = "{url}"\nmodels = ["m"]\n'
        async with gateway(config, folder=tmp_path) as running:
            got = await running.ask("POST", path, body, unix=unix)
            record = await running.record()
    assert got.status == 200, got.body
    assert f"lower={member}" in got.headers["x-modelplex-changes"]
    assert ("lower", member) in [(change.op, change.path) for change in record.changes]
    assert "a \ufffd b" in json.dumps(up.seen[-1].json, ensure_ascii=False)


def halved(value: object) -> bytes:
    """The same as JSON, with half a character in place of the text `hi`."""
    return json.dumps(value).encode().replace(b'"hi"', rb'"h\ud83di"')


def events(*values: dict[str, Any]) -> bytes:
    lines = [(b"event: %s\n" % str(v["type"]).encode() if "type" in v else b"") for v in values]
    return b"".join(b"%sdata: %s\n\n" % (line, halved(v)) for line, v in zip(lines, values, strict=True))


CHUNK = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
STREAMS = {
    "openai_chat": events(
        {**CHUNK, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "hi"}}]},
        {**CHUNK, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    )
    + b"data: [DONE]\n\n",
    "anthropic_messages": events(
        {"type": "message_start", "message": {**ANSWERS["anthropic_messages"], "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    ),
    "gemini": events(ANSWERS["gemini"]),
    "ollama": halved({**ANSWERS["ollama"], "done": False})
    + b"\n"
    + json.dumps({"model": "m", "message": {"role": "assistant", "content": ""}, "done": True}).encode()
    + b"\n",
}  # fmt: skip
STREAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "openai_responses": ("/models/v1/responses", {"input": "x", "stream": True}),
    "openai_chat": ("/models/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "stream": True}),
    "anthropic_messages": (
        "/models/v1/messages",
        {"max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "stream": True},
    ),
    "gemini": ("/v1beta/models/m:streamGenerateContent?alt=sse", {"contents": [{"role": "user", "parts": [{"text": "x"}]}]}),
    "ollama": ("/api/chat", {"messages": [{"role": "user", "content": "x"}]}),
}  # fmt: skip


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("client", BODIES)
@pytest.mark.parametrize("dialect", TYPES)
async def test_half_a_character_of_an_answer_breaks_nothing(
    dialect: str, client: str, *, streamed: bool, tmp_path: Path
) -> None:
    label = "application/x-ndjson" if dialect == "ollama" else "text/event-stream"
    script = answer(STREAMS[dialect], label=label) if streamed else answer(halved(ANSWERS[dialect]))
    async with provider(script) as up:
        url = up.url if dialect == "openai_chat" else up.url.removesuffix("/v1")
        config = f'[[providers]]\nname = "up"\n{TYPES[dialect]}base_url = "{url}"\nmodels = ["m"]\n'
        async with gateway(config, folder=tmp_path) as running:
            if streamed:
                path, body = STREAMED[client]
                got = await running.ask("POST", path, {"model": "m", **body})
            else:
                path, raw, _ = BODIES[client]
                got = await running.ask("POST", path, raw.replace(rb"\ud83d", b""))
            record = await running.record()
    assert got.status == 200, got.body
    assert record.outcome == "ok", record.error
    text = got.body.decode()
    assert "h\ufffdi" in text or r"h\ud83di" in text  # what passes untouched is the provider's own
