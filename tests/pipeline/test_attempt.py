"""Attempts with failover: what is tried next, and what the caller reads."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.gateways import WAIT_S, gateway, one
from tests.upstreams import (
    answer,
    chat_answer,
    chat_stream,
    chunk,
    hang_up,
    provider,
    raw,
    stall,
    stream,
)

QUICK = "\n[failover]\nbackoff = 0.01\nretries = 1\n"

ERROR = {"error": {"message": "told so", "type": "some_error", "param": None, "code": "some_code"}}


def events(body: bytes) -> list[Any]:
    return [json.loads(line[6:]) for line in body.split(b"\n") if line.startswith(b"data: {")]


def text(body: bytes) -> str:
    return "".join(
        c["delta"].get("content") or "" for e in events(body) if "choices" in e for c in e["choices"]
    )


def both(first: str, second: str, **more: Any) -> str:
    return one(first, name="first", priority=1, **more) + one(second, name="second", priority=2) + QUICK


FAULTS: dict[str, Any] = {
    "a reset": hang_up,
    "429": answer(ERROR, status=429),
    "500": answer(ERROR, status=500),
    "503 as HTML": answer(b"<html>busy</html>", status=503, label="text/html"),
    "408": answer(ERROR, status=408),
    "409": answer(ERROR, status=409),
    "a rejected key": answer(ERROR, status=401),
    "no credit": answer(ERROR, status=402),
    "a redirect": answer(b"", status=302, location="http://169.254.169.254/"),
    "half a JSON": answer(b'{"id": "c1", "choices": [{"ind'),
    "HTML in a 200": answer(b"<html></html>", label="text/html"),
    "an error in a 200": answer(ERROR),
    "an empty 200": answer(b""),
    "no HTTP": raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "a body that is cut": raw(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"
    ),
}
STREAM_FAULTS: dict[str, Any] = {
    name: fault for name, fault in FAULTS.items() if name not in {"half a JSON", "a body that is cut"}
} | {
    "an error event first": stream(b"data: " + json.dumps(ERROR).encode() + b"\n\n"),
    "a role and then an error": stream(
        chunk({"role": "assistant", "content": ""}), b"data: " + json.dumps(ERROR).encode() + b"\n\n"
    ),
    "nothing at all": stream(),
    "a role and then a cut": stream(chunk({"role": "assistant", "content": ""}), end=False),
    "comments and then a clean end": stream(b": working\n\n"),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_before_the_first_output_the_next_provider_is_tried(fault: str, tmp_path: Path) -> None:
    async with provider(FAULTS[fault]) as first, provider(answer(chat_answer("from second"))) as second:
        async with gateway(both(first.url, second.url), folder=tmp_path) as gw:
            got = await gw.chat()
            assert (got.status, got.json["choices"][0]["message"]["content"]) == (200, "from second")
            assert got.headers["x-modelplex-provider"] == "second"
            assert got.headers["x-modelplex-attempts"] == "2"
            record = await gw.record()
            assert [t.provider for t in record.attempts] == ["first", "second"]
            assert record.attempts[0].outcome != "ok"


@pytest.mark.parametrize("fault", STREAM_FAULTS)
async def test_before_the_first_output_of_a_stream_the_next_provider_is_tried(
    fault: str, tmp_path: Path
) -> None:
    async with (
        provider(STREAM_FAULTS[fault]) as first,
        provider(stream(*chat_stream("from second"))) as second,
    ):
        async with gateway(both(first.url, second.url), folder=tmp_path) as gw:
            got = await gw.chat(stream=True)
            assert (got.status, text(got.body)) == (200, "from second")
            assert not [e for e in events(got.body) if "error" in e]


@asynccontextmanager
async def self_signed() -> AsyncGenerator[str, None]:
    """A TLS server whose authority nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    finally:
        server.close()


async def test_a_dead_provider_a_stalled_one_and_a_tls_failure_make_way(tmp_path: Path) -> None:
    async with provider(stall) as slow, provider(answer(chat_answer())) as good, self_signed() as tls:
        config = (
            one("http://127.0.0.1:9/v1", name="dead", priority=1)
            + one(slow.url, name="slow", priority=2, first_byte_timeout=0.05)
            + one(tls, name="unknown-authority", priority=3)
            + one(good.url, name="good", priority=4)
            + QUICK
        )
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.chat()
            assert got.headers["x-modelplex-attempts"] == "4"
            record = await gw.record()
            assert [t.outcome for t in record.attempts] == [
                "upstream_error",
                "upstream_timeout",
                "upstream_error",
                "ok",
            ]


@pytest.mark.parametrize("status", [400, 404, 413, 422])
async def test_what_the_caller_did_wrong_is_returned_at_once_in_the_providers_words(
    status: int, tmp_path: Path
) -> None:
    async with provider(answer(ERROR, status=status)) as first, provider(answer(chat_answer())) as second:
        async with gateway(both(first.url, second.url), folder=tmp_path) as gw:
            got = await gw.chat()
            assert (got.status, got.json) == (status, ERROR)
            assert second.seen == []


@pytest.mark.parametrize("type_", ["openai", "anthropic", "gemini", "ollama"])
@pytest.mark.parametrize(
    ("status", "code"), [(401, "upstream_auth"), (402, "upstream_auth"), (504, "upstream_timeout")]
)
async def test_a_status_that_says_enough_is_believed_whatever_the_body_calls_it(
    type_: str, status: int, code: str, tmp_path: Path
) -> None:
    odd = {
        "error": {"type": "api_error", "status": "INTERNAL", "code": status, "message": "odd"},
        "type": "error",
    }
    async with provider(answer(odd, status=status)) as up:
        config = (
            one(up.url.removesuffix("/v1"), type=type_, api_key="sk-12345678") + "[failover]\nretries = 0\n"
        )
        async with gateway(config, folder=tmp_path) as gw:
            got = await gw.chat()
            assert (got.status, got.error["code"]) == (504 if status == 504 else 502, code)


async def test_when_all_fail_the_most_telling_error_comes_with_the_attempts_and_the_shortest_wait(
    tmp_path: Path,
) -> None:
    limited = answer(ERROR, status=429, retry_after="45")
    async with provider(limited) as first, provider(answer(ERROR, status=429, retry_after="40")) as second:
        async with gateway(both(first.url, second.url), folder=tmp_path) as gw:
            got = await gw.chat()
            assert (got.status, got.headers["retry-after"]) == (429, "40")
            assert "first/m" in got.error["message"]
            assert "second/m" in got.error["message"]


async def test_no_retry_after_is_ever_invented(tmp_path: Path) -> None:
    async with provider(answer(ERROR, status=429)) as up, gateway(one(up.url) + QUICK, folder=tmp_path) as gw:
        got = await gw.chat()
        assert got.status == 429
        assert "retry-after" not in got.headers
        assert len(up.seen) == 2


async def test_a_limited_provider_is_asked_again_when_it_said(tmp_path: Path) -> None:
    limited = answer(ERROR, status=429, retry_after="0.05")
    async with (
        provider(limited, answer(chat_answer())) as up,
        gateway(one(up.url) + QUICK, folder=tmp_path) as gw,
    ):
        got = await gw.chat()
        assert got.status == 200
        record = await gw.record()
        assert record.times.queued >= 0.05


async def test_a_rejected_key_rotates_and_never_shows_as_401(tmp_path: Path) -> None:
    async with provider(answer(ERROR, status=401), answer(chat_answer()), answer(chat_answer())) as up:
        async with gateway(one(up.url, api_key=["key-one-x", "key-two-x"]), folder=tmp_path) as gw:
            assert (await gw.chat()).status == 200
            assert (await gw.chat()).status == 200
            used = [seen.headers["authorization"] for seen in up.seen]
            assert used == ["Bearer key-one-x", "Bearer key-two-x", "Bearer key-two-x"]
    async with provider(answer(ERROR, status=401)) as up, gateway(one(up.url), folder=tmp_path) as gw:
        got = await gw.chat()
        assert (got.status, got.error["code"], got.headers["x-should-retry"]) == (
            502,
            "upstream_auth",
            "false",
        )


async def test_a_breaker_opens_shows_itself_and_closes_again(tmp_path: Path) -> None:
    rules = "\n[failover]\nretries = 0\nbreaker_failures = 2\nbreaker_cooldown = 1.5\n"
    async with (
        provider(hang_up, hang_up, answer(chat_answer("up"))) as up,
        provider(answer(chat_answer())) as second,
    ):
        async with gateway(both(up.url, second.url).removesuffix(QUICK) + rules, folder=tmp_path) as gw:
            assert [(await gw.chat()).headers["x-modelplex-attempts"] for _ in range(2)] == ["2", "2"]
            passed_over = await gw.chat()
            assert (passed_over.status, passed_over.headers["x-modelplex-attempts"]) == (200, "1")
            assert len(up.seen) == 2
            (breaker,) = (await gw.ask("GET", "/health?detail")).json["providers"][0]["breakers"]
            assert (breaker["state"], breaker["failures"]) == ("open", 2)
            assert (breaker["key"], breaker["model"], breaker["endpoint"]) == (0, "m", "chat/completions")
            assert breaker["caller"].startswith("tcp:")
            assert b"closed the connection" in (await gw.ask("GET", "/_internal/status")).body
            metrics = (await gw.ask("GET", "/_internal/metrics")).body.decode()
            assert re.search(
                r'^modelplex_breaker_state\{caller="tcp:[^"]+",endpoint="chat/completions",key="0",model="m",provider="first"\} 2.0$',
                metrics,
                re.MULTILINE,
            )
            assert (
                'modelplex_breaker_state{caller="",endpoint="",key="0",model="",provider="second"} 0.0'
                in metrics
            )
            async with asyncio.timeout(WAIT_S):
                while (got := await gw.chat()).headers["x-modelplex-provider"] != "first":
                    await asyncio.sleep(0.02)
            assert len(up.seen) == 3
            assert got.status == 200
            assert (await gw.ask("GET", "/health?detail")).json["providers"][0]["breakers"] == []
