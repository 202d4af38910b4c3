"""A provider floods the gateway: in every dialect, passthrough and translation, the caller gets an
error in its own protocol, the Record has the reason, and memory is bounded.
"""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from modelplex.dialects.core import quota, sse
from tests.dialects.floods import FLOODS, Flood
from tests.gateways import Running, gateway
from tests.upstreams import STREAM_HEAD, Act, answer, chat_answer, chunk, provider, stream

CAP = 4_194_304
"""Bytes that are buffered at most in these tests, instead of 32 MiB: more than one socket read."""
IDLE = 262_144
MEMORY = 6 * CAP
"""Bytes that the gateway and the provider in this process may use during a flood."""
WAIT_S = 60.0
TYPES = {
    "openai_chat": 'type = "mistral"\napi_key = "k"\n',
    "anthropic_messages": 'type = "anthropic"\napi_key = "k"\n',
    "gemini": 'type = "gemini"\napi_key = "k"\n',
    "ollama": 'type = "ollama"\n',
}
MESSAGES = [{"role": "user", "content": "x"}]
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "openai_chat": ("/models/v1/chat/completions", {"model": "m", "messages": MESSAGES, "stream": True}),
    "anthropic_messages": (
        "/models/v1/messages",
        {"model": "m", "max_tokens": 9, "messages": MESSAGES, "stream": True},
    ),
    "gemini": (
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "x"}]}]},
    ),
    "ollama": ("/api/chat", {"model": "m", "messages": MESSAGES, "stream": True}),
}
FLOOD_OF = {
    "openai_chat": "signatures",
    "anthropic_messages": "signatures",
    "gemini": "signatures",
    "ollama": "a line without an end",
}


def flooded(flood: Flood) -> Act:
    """A stream that runs until the gateway disconnects."""

    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        for piece in flood():
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            await writer.drain()

    return act


def config(*urls: tuple[str, str, str]) -> str:
    failover = "[failover]\nretries = 0\nbackoff = 0.0\n"
    return failover + "".join(
        f'[[providers]]\nname = "{name}"\n{TYPES[dialect]}base_url = "{url}"\nmodels = ["m"]\n'
        for name, dialect, url in urls
    )


async def asked(running: Running, client: str) -> bytes:
    path, body = ASKED[client]
    async with asyncio.timeout(WAIT_S):
        reply = await running.send("POST", path, json.dumps(body).encode())
        return await reply.body(limit=8 * CAP)


@pytest.fixture(autouse=True)
def small_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "MAX_HELD", CAP)
    monkeypatch.setattr(sse, "IDLE_CAP", IDLE)


@pytest.mark.parametrize("client", ASKED)
@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages", "gemini"])
async def test_a_flood_after_output_is_an_error_in_the_callers_stream(
    dialect: str, client: str, tmp_path: Path
) -> None:
    flood = FLOODS[dialect][FLOOD_OF[dialect]]
    async with provider(flooded(flood)) as up:
        url = up.url if dialect == "openai_chat" else up.url.removesuffix("/v1")
        async with gateway(config(("up", dialect, url)), folder=tmp_path) as running:
            tracemalloc.start()
            try:
                told = await asked(running, client)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            record = await running.record()
            await asyncio.wait_for(up.hung_up.wait(), WAIT_S)
    assert b"bytes of content that are kept of one" in told
    assert b"message_stop" not in told
    assert b"[DONE]" not in told
    assert b'"done":true' not in told
    assert record.outcome == "broken"
    assert "bytes of content" in (record.error or "")
    assert peak < MEMORY


@pytest.mark.parametrize("client", ASKED)
@pytest.mark.parametrize("dialect", ["openai_chat", "anthropic_messages", "ollama"])
async def test_a_flood_before_output_fails_over(
    dialect: str, client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only blank lines: without output another provider may be tried."""
    for name in ("core", "ollama"):
        monkeypatch.setattr(f"modelplex.dialects.{name}.passthrough.IDLE_CAP", IDLE)
    monkeypatch.setattr("modelplex.dialects.core.ndjson.IDLE_CAP", IDLE)
    monkeypatch.setattr("modelplex.pipeline.stream.HOLD_BYTES", 64 * IDLE)
    monkeypatch.setattr("modelplex.dialects.exchange.MAX_SILENCE", IDLE)
    async with provider(flooded(FLOODS[dialect]["blank lines"])) as up, provider(answered()) as next_:
        url = up.url if dialect == "openai_chat" else up.url.removesuffix("/v1")
        text = config(("up", dialect, url), ("next", "openai_chat", next_.url))
        async with gateway(text, folder=tmp_path) as running:
            told = await asked(running, client)
            record = await running.record()
    assert b"word" in told
    assert [each.outcome for each in record.attempts] == ["upstream_error", "ok"]


def answered() -> Act:
    return stream(chunk({"content": "word"}), chunk({}, finish="stop"), b"data: [DONE]\n\n")


async def test_a_complete_response_above_its_limit_is_an_error(tmp_path: Path) -> None:
    large = chat_answer()
    large["choices"][0]["message"]["content"] = "x" * 2_000_000
    text = config(("up", "openai_chat", "URL")) + "max_response_size = 1000000\n"
    async with provider(answer(large)) as up:
        async with gateway(text.replace("URL", up.url), folder=tmp_path) as running:
            got = await running.chat()
    assert got.status == 502
    assert "1000000 bytes" in got.error["message"]
