"""One broken character of a tool's output, through the whole gateway: it is mended, told, and the conversation goes on, in every client's form and before every provider."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.gateways import gateway
from tests.upstreams import answer, chat_answer, provider

TYPES = {
    "openai_chat": 'type = "mistral"\napi_key = "k"\n',
    "anthropic_messages": 'type = "anthropic"\napi_key = "k"\n',
    "gemini": 'type = "gemini"\napi_key = "k"\n',
    "ollama": 'type = "ollama"\n',
}
ANSWERS = {
    "openai_chat": chat_answer(),
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
