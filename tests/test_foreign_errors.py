"""No error page, no address and no line of a proxy reaches a client, in whatever form and at
whatever operation it asks.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import Answer, Running, gateway, one
from tests.upstreams import Act, Scripted, answer, chunk, hang_up, provider, raw, stream

HI = [{"role": "user", "content": "Hi"}]
MARK = "page-mark"
PAGE = f"<html><head><title>502 Bad Gateway {MARK}</title></head><body>{MARK} at 10.9.8.7:8000</body></html>"
LINE = f"upstream connect error or disconnect/reset before headers, {MARK}: 10.9.8.7:8000"
ROUTERS = f"APIConnectionError: Cannot connect to host 10.9.8.7:8000 (http://gpu-7:8000/v1): {PAGE}"
OPERATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": HI}),
    "chat stream": ("/v1/chat/completions", {"messages": HI, "stream": True}),
    "completions": ("/v1/completions", {"prompt": "Hi"}),
    "responses": ("/v1/responses", {"input": "Hi"}),
    "responses stream": ("/v1/responses", {"input": "Hi", "stream": True}),
    "messages": ("/v1/messages", {"messages": HI, "max_tokens": 9}),
    "messages stream": ("/v1/messages", {"messages": HI, "max_tokens": 9, "stream": True}),
    "messages count": ("/v1/messages/count_tokens", {"messages": HI}),
    "gemini": (
        "/v1beta/models/m:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    ),
    "gemini count": (
        "/v1beta/models/m:countTokens",
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    ),
    "ollama": ("/api/chat", {"messages": HI, "stream": False}),
    "ollama stream": ("/api/chat", {"messages": HI}),
    "embeddings": ("/v1/embeddings", {"input": "Hi"}),
    "ollama embed": ("/api/embed", {"input": "Hi"}),
    "moderations": ("/v1/moderations", {"input": "Hi"}),
    "images": ("/v1/images/generations", {"prompt": "Hi"}),
    "speech": ("/v1/audio/speech", {"input": "Hi", "voice": "v"}),
}
TYPES = ["openai", "anthropic", "gemini", "ollama", "together"]


def in_form(type_: str, message: str) -> bytes:
    error: Any = {"message": message, "type": "x", "code": "server_error"}
    match type_:
        case "anthropic":
            return json.dumps({"type": "error", "error": {"type": "api_error", "message": message}}).encode()
        case "gemini":
            return json.dumps({"error": {"code": 500, "message": message, "status": "INTERNAL"}}).encode()
        case "ollama":
            return json.dumps({"error": message}).encode()
        case _:
            return json.dumps({"error": error}).encode()


def faults(type_: str) -> dict[str, Act]:
    pages = {
        f"a page with {status}": answer(PAGE.encode(), status=status, label="text/html")
        for status in (200, 400, 401, 404, 413, 429, 500, 502, 503)
    }
    lines = {
        f"a line with {status}": answer(LINE.encode(), status=status, label="text/plain")
        for status in (500, 503)
    }
    return {
        **pages,
        **lines,
        "a page in JSON": answer(in_form(type_, ROUTERS), status=500),
        "a page in a 200": answer(in_form(type_, ROUTERS)),
        "a page without a label": answer(PAGE.encode(), status=502, label=""),
        "a redirect": answer(PAGE.encode(), status=302, location=f"http://gpu-7.internal:8000/{MARK}"),
        "a reset": hang_up,
        "no HTTP": raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    }


def is_clean(got: Answer, up: Scripted) -> None:
    told = got.body.decode() + repr(got.headers)
    port = up.url.split(":")[2].split("/")[0]
    for mark in (MARK, "10.9.8.7", "gpu-7", "8000", f":{port}", "127.0.0.1", "<html", "upstream connect"):
        assert mark not in told, told


async def ask(gw: Running, operation: str) -> Answer:
    target, members = OPERATIONS[operation]
    body = members if target.startswith("/v1beta") else {"model": "m", **members}
    return await gw.ask("POST", target, body, unix=True)  # a socket is sealed


@pytest.mark.parametrize("type_", TYPES)
async def test_no_page_and_no_address_reaches_a_sealed_caller(type_: str, tmp_path: Path) -> None:
    async with provider() as up:
        up.url = up.url.removesuffix("/v1") if type_ in {"anthropic", "ollama"} else up.url
        config = one(up.url, type=type_) + "\n[failover]\nretries = 0\n"
        async with gateway(config, folder=tmp_path) as gw:
            for fault, act in faults(type_).items():
                up.scripts[:] = [act]
                for operation in OPERATIONS:
                    got = await ask(gw, operation)
                    assert got.status >= 400 or "count" in operation, (fault, operation)
                    is_clean(got, up)


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_where_nobody_listens_no_address_is_told(operation: str, tmp_path: Path) -> None:
    for url in (
        "http://127.0.0.1:9/v1",
        "http://localhost:9/v1",
        "http://nowhere.invalid:9/v1",
        f"unix:{tmp_path}/no.sock:/v1",
    ):
        folder = tmp_path / str(abs(hash(url)))
        folder.mkdir()
        async with gateway(
            one(url, connect_timeout=5.0) + "\n[failover]\nretries = 0\n", folder=folder
        ) as gw:
            got = await ask(gw, operation)
            assert got.status in {200, 502, 504}
            told = got.body.decode()
            assert not [
                mark for mark in ("127.0.0.1", "localhost", ":9", "nowhere", "no.sock") if mark in told
            ], told
            if got.status != 200:
                assert "the provider" in told.lower()


async def test_what_breaks_a_stream_is_told_without_its_address_and_the_words_before_it_stay(
    tmp_path: Path,
) -> None:
    said = chunk({"content": "It is at 10.1.1.1:8000."})
    error = b"data: " + in_form("openai", ROUTERS) + b"\n\n"
    async with provider(stream(said + error)) as up, gateway(one(up.url), folder=tmp_path) as gw:
        got = await ask(gw, "chat stream")
        assert got.status == 200
        begun, _, broken = got.body.partition(b'"error"')
        assert b"10.1.1.1:8000" in begun
        assert MARK.encode() not in broken
        assert b"10.9.8.7" not in broken
        assert json.loads(got.body.split(b"data: ")[2])["error"]["message"].startswith("APIConnectionError")


async def test_a_failed_response_keeps_the_words_of_its_model_and_loses_the_address_in_its_error(
    tmp_path: Path,
) -> None:
    said = chunk({"content": "It is at 10.1.1.1:8000."})
    error = b"data: " + in_form("together", ROUTERS) + b"\n\n"
    async with provider(stream(said + error)) as up:
        async with gateway(one(up.url, type="together"), folder=tmp_path) as gw:
            got = await ask(gw, "responses stream")
    last = json.loads(got.body.rstrip().rpartition(b"data: ")[2])
    assert last["type"] == "response.failed"
    assert last["response"]["output"][0]["content"][0]["text"] == "It is at 10.1.1.1:8000."
    assert "10.9.8.7" not in last["response"]["error"]["message"]
    assert MARK not in last["response"]["error"]["message"]


async def test_one_who_asks_over_http_may_read_the_addresses_of_his_own_request(tmp_path: Path) -> None:
    told = in_form("openai", "Failed to fetch http://10.0.0.5/cat.png")
    async with provider(answer(told, status=400)) as up, gateway(one(up.url), folder=tmp_path) as gw:
        assert "http://10.0.0.5/cat.png" in (await gw.chat()).error["message"]
        assert "10.0.0.5" not in (await gw.chat(unix=True)).error["message"]


async def test_a_retry_after_date_counts_by_our_clock_where_the_answer_has_none(tmp_path: Path) -> None:
    from email.utils import formatdate
    from time import time

    async with provider() as up, gateway(one(up.url) + "\n[failover]\nretries = 0\n", folder=tmp_path) as gw:
        due = formatdate(time() + 3600, usegmt=True)
        up.scripts[:] = [answer(in_form("openai", "Slow."), status=429, retry_after=due)]
        assert (await gw.chat()).headers["retry-after"] == due  # as it came
        then = await gw.chat()
        assert then.error["code"] == "circuit_open"
        assert 3500 < int(then.headers["retry-after"]) <= 3600
        await asyncio.sleep(0)
