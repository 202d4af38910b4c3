"""Answers as a stream where none was asked for, and the reverse; byte order marks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import Answer, Running, gateway
from tests.pairs import SPEAKERS, Said, row
from tests.pairs import Answer as Spoken
from tests.upstreams import answer, provider, stream

SPOKEN = Spoken(text=("Hel", "lo"), calls=(Said("call_a", "weather", ('{"city":', '"Bern"}')),), end="calls")
BOM = b"\xef\xbb\xbf"
NDJSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
TOOL = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
CLIENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}], "tools": [{"type": "function", "function": TOOL}]}),
    "responses": ("/v1/responses", {"input": "Hi", "tools": [{"type": "function", **TOOL}]}),
    "messages": ("/v1/messages", {"max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}], "tools": [{"name": "weather", "input_schema": TOOL["parameters"]}]}),
    "gemini": ("/v1beta/models/{model}:{method}", {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "tools": [{"functionDeclarations": [TOOL]}]}),
    "ollama": ("/api/chat", {"messages": [{"role": "user", "content": "Hi"}], "tools": [{"type": "function", "function": TOOL}]}),
}  # fmt: skip


async def asked(gw: Running, client: str, model: str, *, streamed: bool) -> Answer:
    path, body = CLIENTS[client]
    if client == "gemini":
        method = "streamGenerateContent?alt=sse" if streamed else "generateContent"
        return await gw.ask("POST", path.format(model=model, method=method), body)
    return await gw.ask("POST", path, {"model": model, "stream": streamed, **body})


def holds_all(got: Answer, client: str, *, streamed: bool) -> None:
    assert got.status == 200, got.body
    text = got.body.decode()
    kind = got.headers["content-type"].partition(";")[0]
    if not streamed:
        json.loads(text)
        assert kind == "application/json"
    else:
        assert kind == ("application/x-ndjson" if client == "ollama" else "text/event-stream")
    assert "Hel" in text
    assert "weather" in text
    assert "Bern" in text


@pytest.mark.parametrize("dialect", SPEAKERS)
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_whole_answer_to_a_streamed_request_becomes_a_stream(
    client: str, dialect: str, tmp_path: Path
) -> None:
    _, whole = SPEAKERS[dialect](SPOKEN, f"m-{dialect}")
    async with provider(answer(whole)) as up, gateway(row(dialect, up.url), folder=tmp_path) as gw:
        got = await asked(gw, client, f"m-{dialect}", streamed=True)
        holds_all(got, client, streamed=True)
        record = await gw.record()
        assert record.outcome == "ok"
        assert record.usage is not None
        assert not record.usage.estimated
        assert ("lower", "stream") in [(each.op, each.path) for each in record.changes]


@pytest.mark.parametrize("dialect", SPEAKERS)
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_stream_for_a_whole_request_becomes_one_answer(
    client: str, dialect: str, tmp_path: Path
) -> None:
    data, _ = SPEAKERS[dialect](SPOKEN, f"m-{dialect}")
    sent = stream(data, head=NDJSON) if dialect == "ollama" else stream(data)
    async with provider(sent) as up, gateway(row(dialect, up.url), folder=tmp_path) as gw:
        got = await asked(gw, client, f"m-{dialect}", streamed=False)
        holds_all(got, client, streamed=False)
        record = await gw.record()
        assert (record.outcome, record.passthrough) == ("ok", False)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("dialect", SPEAKERS)
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_byte_order_mark_is_no_part_of_an_answer(
    client: str, dialect: str, streamed: bool, tmp_path: Path
) -> None:
    data, whole = SPEAKERS[dialect](SPOKEN, f"m-{dialect}")
    sent = answer(BOM + whole)
    if streamed:
        sent = stream(BOM + data, head=NDJSON) if dialect == "ollama" else stream(BOM + data)
    async with provider(sent) as up, gateway(row(dialect, up.url), folder=tmp_path) as gw:
        got = await asked(gw, client, f"m-{dialect}", streamed=streamed)
        holds_all(got, client, streamed=streamed)
        assert BOM not in got.body


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_stream_that_breaks_is_no_whole_answer(client: str, tmp_path: Path) -> None:
    data, _ = SPEAKERS["chat"](Spoken(text=("Half",), broken="cut"), "m-chat")
    rules = "\n[failover]\nretries = 0\n"
    async with provider(stream(data)) as up, gateway(row("chat", up.url) + rules, folder=tmp_path) as gw:
        got = await asked(gw, client, "m-chat", streamed=False)
        assert got.status in {502, 503}


@pytest.mark.parametrize("client", CLIENTS)
async def test_an_error_in_one_piece_keeps_its_text_and_its_kind(client: str, tmp_path: Path) -> None:
    error = {"error": {"message": "No such thing", "type": "invalid_request_error", "code": None}}
    async with provider(answer(error)) as up, gateway(row("chat", up.url), folder=tmp_path) as gw:
        got = await asked(gw, client, "m-chat", streamed=True)
        assert (got.status, b"No such thing" in got.body) == (400, True)


async def test_an_error_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    error = json.dumps({"error": {"message": "Too long", "code": "context_length_exceeded"}}).encode()
    async with (
        provider(answer(BOM + error, status=400)) as up,
        gateway(row("chat", up.url), folder=tmp_path) as gw,
    ):
        got = await asked(gw, "chat", "m-chat", streamed=False)
        assert (got.status, got.json["error"]["code"]) == (400, "context_length_exceeded")
