"""Hostile and faulty clients and providers: invalid HTTP, JSON and names, and disconnects."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateways import one
from tests.processes import (
    CHAT,
    WAIT_S,
    Address,
    Answer,
    Gateway,
    chat,
    connect,
    exchange,
    read_response,
    request,
    served,
    until,
)
from tests.upstreams import Act, Scripted, answer, chat_answer, chat_stream, chunk, provider, stream

T = TypeVar("T")

MODELS = {"openai": "m", "anthropic": "a", "ollama": "o"}
HEAD_LIMIT = 65_536
SLOW_S = 0.5
"""Seconds that a head, or a silent body, may take."""


def event(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


USED = {"input_tokens": 1, "output_tokens": 1}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "a", "usage": USED}
ANTHROPIC = answer(MESSAGE | {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"})
ANTHROPIC_STREAM = stream(
    event("message_start", message=MESSAGE | {"content": []}),
    event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hi"}),
    event("content_block_stop", index=0),
    event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 1}),
    event("message_stop"),
)
SPOKEN = {"model": "o", "created_at": "2026-01-01T00:00:00Z", "done": True, "done_reason": "stop"}
OLLAMA_CHAT = SPOKEN | {"message": {"role": "assistant", "content": "Hi"}, "eval_count": 1}
OLLAMA_GENERATED = SPOKEN | {"response": "Hi", "eval_count": 1}
EMBEDDED = {"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}
CONTINUED = {
    "id": "c1",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "text": "Hi", "finish_reason": "stop", "logprobs": None}],
}


def lines(document: dict[str, Any]) -> Act:
    """An Ollama stream of one line."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
    return stream(json.dumps(document).encode() + b"\n", head=head)


def scripted_answer(target: str, *, streamed: bool) -> Act:
    """The response of the provider at this path."""
    if target.endswith("/messages"):
        return ANTHROPIC_STREAM if streamed else ANTHROPIC
    if "/api/" in target:
        if target.endswith("/embed"):
            return answer({"model": "o", "embeddings": [[0.5]]})
        said = OLLAMA_CHAT if target.endswith("/chat") else OLLAMA_GENERATED
        return lines(said) if streamed else answer(said)
    if target.endswith("/embeddings"):
        return answer(EMBEDDED)
    if target.endswith("/chat/completions"):
        return stream(*chat_stream("Hi")) if streamed else answer(chat_answer())
    if target.endswith("/completions"):
        return (
            stream(b"data: " + json.dumps(CONTINUED).encode() + b"\n\n", b"data: [DONE]\n\n")
            if streamed
            else answer(CONTINUED)
        )
    return answer({"results": []})


@asynccontextmanager
async def every_kind() -> AsyncGenerator[tuple[Scripted, str]]:
    """A provider that speaks every dialect, and a config with one provider for each."""
    async with provider() as up:

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            seen = up.seen[-1]
            text = seen.body.decode(errors="replace") if seen.body.startswith(b"{") else "{}"
            asked: Any = json.loads(text, strict=False, parse_int=str).get("stream")
            streamed = asked is True or ("/api/" in seen.target and asked is not False)
            await scripted_answer(seen.target, streamed=streamed)(reader, writer)

        up.scripts = [act]
        base = up.url.removesuffix("/v1")
        tables = one(up.url, name="openai", models='["m", "wild*"]') + one(
            up.url,
            name="azure",
            type="azure",
            models='["wilder*"]',
            api_key="key-of-azure",
            api_version="2024-10-21",
        )
        for kind in ("anthropic", "ollama"):
            tables += one(base, name=kind, type=kind, models=f'["{MODELS[kind]}"]', api_key="key-of-" + kind)
        yield up, tables


@dataclass
class World:
    """One gateway process and its providers, on their own event loop, for synchronous tests."""

    gateway: Gateway = field(init=False)
    up: Scripted = field(init=False)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WAIT_S)

    def raw(self, data: bytes, *, unix: bool = False, half_close: bool = False) -> bytes:
        address: Address = self.gateway.socket if unix else self.gateway.address
        return self.do(exchange(address, data, half_close=half_close))

    def answer(self, data: bytes, *, unix: bool = False) -> Answer:
        """The response to these bytes; nothing may follow it."""
        got = read_response(self.raw(data, unix=unix))
        assert got.whole
        assert got.rest == b""
        return got

    def post(self, body: bytes, path: str = CHAT) -> Answer:
        return self.answer(request("POST", path, body))

    def arrived(self) -> int:
        """Calls that reached the provider, without the requests for its models."""
        return sum(1 for seen in self.up.seen if seen.body)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World()
    thread = threading.Thread(target=world.loop.run_forever, daemon=True)
    thread.start()
    stack = AsyncExitStack()

    async def start() -> None:
        world.up, tables = await stack.enter_async_context(every_kind())
        limits = (
            f"[server]\nheader_timeout = {SLOW_S}\nbody_timeout = {SLOW_S}\nmax_request_size = 12000000\n"
        )
        config = limits + tables + "[failover]\nretries = 0\nbreaker_failures = 100000\n"
        folder = tmp_path_factory.mktemp("abuse")
        world.gateway = await stack.enter_async_context(served(config, folder=folder))

    world.do(start())
    try:
        yield world
        unforeseen = [
            line
            for line in world.gateway.lines()
            if "exception" in line or line["event"].startswith("the app")
        ]
        assert unforeseen == []
    finally:
        world.do(stack.aclose())
        world.loop.call_soon_threadsafe(world.loop.stop)
        thread.join(WAIT_S)
        world.loop.close()


# --- invalid HTTP

BODY = chat()
N = len(BODY)
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (N, BODY)


def post(*rows: str, body: bytes = BODY) -> bytes:
    return "\r\n".join([f"POST {CHAT} HTTP/1.1", "host: localhost", *rows, "", ""]).encode("latin-1") + body


def get(target: str, *rows: str, version: str = "HTTP/1.1", method: str = "GET") -> bytes:
    rows = rows or ("host: localhost",)
    return "\r\n".join([f"{method} {target} {version}", *rows, "connection: close", "", ""]).encode("latin-1")


SMUGGLED = {
    "a length and chunks": post(f"content-length: {N}", "transfer-encoding: chunked", body=CHUNKED),
    "chunks and a length": post("transfer-encoding: chunked", f"content-length: {N}", body=CHUNKED),
    "two lengths": post(f"content-length: {N}", f"content-length: {N + 1}"),
    "one length twice": post(f"content-length: {N}", f"content-length: {N}"),
    "a list of lengths": post(f"content-length: {N}, {N}"),
    "a length with a sign": post(f"content-length: +{N}"),
    "a negative length": post("content-length: -1"),
    "a length in hexadecimal": post("content-length: 0x10"),
    "an empty length": post("content-length: "),
    "a length beyond 64 bits": post("content-length: 99999999999999999999999"),
    "chunked, identity": post("transfer-encoding: chunked, identity", body=CHUNKED),
    "identity": post("transfer-encoding: identity"),
    "gzip, chunked": post("transfer-encoding: gzip, chunked", "connection: close", body=CHUNKED),
    "xchunked": post("transfer-encoding: xchunked", body=CHUNKED),
    "chunked twice": post("transfer-encoding: chunked", "transfer-encoding: chunked", body=CHUNKED),
    "chunked after a vertical tab": post("transfer-encoding: \x0bchunked", body=CHUNKED),
    "a folded header": post("x-a: b\r\n c", f"content-length: {N}"),
    "a folded length": post(f"content-length:\r\n {N}"),
    "a NUL in a value": post("x-a: b\0c", f"content-length: {N}"),
    "a NUL in a name": post("x\0a: b", f"content-length: {N}"),
    "a bare CR": post("x-a: b\rx-b: c", f"content-length: {N}"),
    "bare LFs": post(f"content-length: {N}").replace(b"\r\n", b"\n"),
    "a space before the colon": post(f"content-length : {N}"),
    "a header without a name": post(": x", f"content-length: {N}"),
    "a header without a colon": post("content-length", f"content-length: {N}"),
    "chunks ended by bare LFs": post("transfer-encoding: chunked", body=CHUNKED.replace(b"\r\n", b"\n")),
    "a chunk without a size": post("transfer-encoding: chunked", body=b"zz\r\n"),
    "a chunk of more than 64 bits": post("transfer-encoding: chunked", body=b"f" * 18 + b"\r\n"),
    "a chunk longer than it says": post(
        "transfer-encoding: chunked", body=b"1\r\n" + BODY + b"\r\n0\r\n\r\n"
    ),
    "a length in the trailers": post(
        "transfer-encoding: chunked", body=CHUNKED[:-2] + b"content-length: 5\r\n\r\n"
    ),
    "two hosts": get("/health", "host: localhost", "host: evil.example"),
    "two hosts, ours last": get("/health", "host: evil.example", "host: localhost"),
    "two origins": get(
        "/v1/models", "host: localhost", "origin: https://evil.example", "origin: http://localhost"
    ),
    "CONNECT": get("evil.example:443", method="CONNECT"),
    "an authority for a target": get("evil.example:80"),
    "a backslash for a target": get("\\health"),
    "a letter outside of ASCII": get("/h\xe9alth"),
    "a space in the target": get("/health /x"),
    "a method in lower case": get("/health", method="get"),
    "HTTP/0.9": b"GET /health\r\n\r\n",
    "HTTP/1.2": get("/health", version="HTTP/1.2"),
    "HTTP/2.0": get("/health", version="HTTP/2.0"),
    "HTTP/9.9": get("/health", version="HTTP/9.9"),
    "HTTP/1.9": get("/health", version="HTTP/1.9"),
    "RTSP": get("/health", version="RTSP/1.0"),
    "RTSP after empty lines": b"\r\n\r\n" + get("/health", version="RTSP/1.0"),
    "RTSP's own method": get("/health", version="RTSP/1.0", method="DESCRIBE"),
    "ICE": get("/health", version="ICE/1.0", method="SOURCE"),
    "a length of 5,000 nines": post(f"content-length: {'9' * 5000}"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0",
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + bytes(200),
    "an SSH hello": b"SSH-2.0-OpenSSH_9.6\r\n",
    "zeros": bytes(1000),
    "nothing but line ends, then zeros": b"\r\n" * 100 + bytes(10),
}


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
@pytest.mark.parametrize("name", SMUGGLED)
def test_an_ambiguous_request_is_refused_and_nothing_after_it_is_served(
    world: World,
    name: str,
    unix: bool,
) -> None:
    before = world.arrived()
    # A smuggled request after it must never be served as a request.
    got = world.answer(SMUGGLED[name] + get("/v1/models"), unix=unix)
    assert got.status == 400
    assert got.error["type"] == "invalid_request_error"
    assert world.arrived() == before


ODD = {
    "chunk extensions": (post("transfer-encoding: chunked", "connection: close", body=CHUNKED.replace(b"\r\n", b";a=b\r\n", 1)), 200),
    "trailers": (post("transfer-encoding: chunked", "connection: close", body=CHUNKED[:-2] + b"x-a: b\r\nhost: evil\r\n\r\n"), 200),
    "empty lines first": (b"\r\n\r\n" + get("/health"), 200),
    "HTTP/1.0": (b"GET /health HTTP/1.0\r\n\r\n", 200),
    "HTTP/1.0 that would stay": (b"GET /health HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n", 200),
    "a body for GET": (get("/health", "host: localhost", "content-length: 3") + b"abc", 200),
    "an absolute target of ours": (get("http://localhost/health"), 200),
    "an absolute target of another": (get("http://evil.example/health"), 421),
    "another by https": (get("https://evil.example:443/v1/models"), 400),
    "ours by https": (get("https://localhost/health"), 400),
    "ours by another scheme": (get("ftp://localhost/health"), 400),
    "ours by a scheme in capitals": (get("HTTP://localhost/health"), 200),
    "a user's name in the target": (get("http://evil.example@localhost/health"), 400),
    "no host": (b"GET /health HTTP/1.1\r\nconnection: close\r\n\r\n", 400),
    "no host, on the way to tools": (b"POST /mcp/v1 HTTP/1.1\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", 400),
    "a length with zeros": (post(f"content-length: {N:020}", "connection: close"), 200),
    "a length of 21 digits": (post(f"content-length: {N:021}", "connection: close"), 400),
    "a length of 5,000 digits": (post(f"content-length: {'0' * 5000}{N}", "connection: close"), 400),
    "an absolute target that differs from the host": (get("http://evil.example/v1/models", "host: localhost"), 421),
    "the metadata service": (get("http://169.254.169.254/latest/meta-data/"), 404),
    "TRACE": (get("/health", method="TRACE"), 405),
    "OPTIONS": (get("/v1/models", method="OPTIONS"), 405),
    "OPTIONS *": (get("*", method="OPTIONS"), 404),
    "DELETE": (get("/v1/models/m", method="DELETE"), 405),
    "GET of what takes POST": (get(CHAT), 405),
    "two slashes": (get("//v1/models"), 400),
    "steps back": (get("/v1/../_internal/status"), 400),
    "steps back, quoted": (get("/v1/%2e%2e/_internal/status"), 400),
    "steps back in a model": (get("/v1/models/../../_internal/status"), 400),
    "a NUL": (get("/health%00"), 400),
    "no UTF-8": (get("/health%ff"), 404),
    "a broken quote": (get("/health%zz"), 404),
    "a line break in a model": (get("/v1/models/a%0d%0ax-evil:%201"), 404),
    "a longer name": (get("/healthy"), 404),
    "what there is not": (get("/v1/files"), 404),
    "a path of 60 kB": (get("/" + "x" * 60_000), 404),
    "a head that is too large": (get("/health", "host: localhost", *["abcdefgh: ijklmnop"] * 10_000), 431),
    "a target that is too large": (get("/" + "x" * 2 * HEAD_LIMIT), 431),
    "a header that is too large": (get("/health", "host: localhost", "a: " + "x" * 2 * HEAD_LIMIT), 431),
    "a body that says it is too large": (post("content-length: 9223372036854775807", "connection: close"), 413),
    "a name that is not ours": (get("/v1/models", "host: evil.example"), 421),
    "a name behind ours": (get("/v1/models", "host: localhost.evil.example"), 421),
    "ours as a user": (get("/v1/models", "host: localhost@evil.example"), 421),
    "ours as a port": (get("/v1/models", "host: evil.example:localhost"), 421),
    "an address before a name": (get("/v1/models", "host: [::1].evil.example"), 421),
    "an address as a number": (get("/v1/models", "host: 2130706433"), 421),
    "an empty name": (get("/v1/models", "host: "), 421),
    "an address": (get("/v1/models", "host: [::1]:8080"), 200),
    "a page without an origin": (get("/v1/models", "host: localhost", "origin: null"), 403),
    "a page of another": (get("/v1/models", "host: localhost", "origin: https://evil.example"), 403),
    "a page that pretends": (get("/v1/models", "host: localhost", "origin: http://localhost@evil.example"), 403),
    "a page of ours": (get("/v1/models", "host: localhost", "origin: http://localhost:3000"), 200),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_an_odd_but_valid_request_is_served(world: World, name: str) -> None:
    data, status = ODD[name]
    got = world.answer(data)
    assert got.status == status
    assert "x-evil" not in got.headers
    if status >= 400:
        assert got.error
    assert "access-control-allow-origin" not in got.headers


def test_ten_thousand_headers_within_the_limit_are_served_and_not_forwarded(world: World) -> None:
    rows = ["a: b"] * 10_000
    got = world.answer(request("POST", CHAT, BODY, headers=rows))
    assert got.status == 200
    assert "a" not in world.up.seen[-1].headers


@pytest.mark.parametrize("path", ["status", "config", "metrics", "status/", "", "../_internal/status"])
@pytest.mark.parametrize(
    "form",
    [
        "/_internal/{}", "//_internal/{}", "/_internal//{}", "/%5finternal/{}", "/_internal%2f{}", "/_INTERNAL/{}", "/_internal/./{}",
        "/health/../_internal/{}", "http://localhost/_internal/{}", "/v1/_internal/{}", "/v1/models/../../_internal/{}", "/_internal;/{}",
    ],
)  # fmt: skip
def test_no_spelling_of_a_path_reaches_the_admin_api_from_the_socket(
    world: World, form: str, path: str
) -> None:
    got = world.answer(get(form.format(path)), unix=True)
    assert (got.status, got.error["code"]) in {
        (404, "not_found"),
        (404, "model_not_found"),
        (400, "ambiguous_path"),
    }


def test_pipelined_requests_to_different_providers_get_responses_in_order(world: World) -> None:
    several = [
        request("POST", CHAT, chat("m"), close=False),
        request("GET", "/v1/models", close=False),
        request("POST", CHAT, chat("m", stream=True), close=False),
        request("POST", CHAT, b"{", close=False),
        request("GET", "/health"),
    ]
    rest = world.raw(b"".join(several))
    got: list[Answer] = []
    while rest:
        got.append(read_response(rest))
        rest = got[-1].rest
    assert [each.status for each in got] == [200, 200, 200, 400, 200]
    assert got[2].body.endswith(b"data: [DONE]\n\n")
    assert got[4].json == {"status": "ok", "service": "modelplex"}


@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"GET /health HTTP/1.1\r\nhost: loc",
        post("content-length: 100", body=b'{"mo'),
        post("transfer-encoding: chunked", body=b'5\r\n{"mod'),
        post("transfer-encoding: chunked", body=CHUNKED[:-4]),
    ],
)
def test_a_request_that_never_ends_is_a_408(world: World, data: bytes) -> None:
    before = world.arrived()
    got = world.answer(data)
    assert got.status == 408
    assert got.error["code"] == "request_timeout"
    assert world.arrived() == before


def test_a_head_that_arrives_byte_by_byte_times_out(world: World) -> None:
    async def drip() -> bytes:
        reader, writer = await connect(world.gateway.address)
        reading = asyncio.create_task(reader.read())
        async with asyncio.timeout(WAIT_S):
            for byte in b"GET /health HTTP/1.1\r\nx: " + b"y" * 10_000:
                if reading.done():
                    break
                with suppress(ConnectionError):
                    writer.write(bytes([byte]))
                    await writer.drain()
                await asyncio.wait([reading], timeout=0.01)
            got = await reading
        writer.close()
        return got

    assert read_response(world.do(drip())).status == 408


# --- invalid bodies


def body_of(model: str, *, content: bytes = b'"x"', more: bytes = b"") -> bytes:
    return b'{"model":"%s","messages":[{"role":"user","content":%s}]%s}' % (model.encode(), content, more)


DEEP = 100_000
BOMBS = {
    "arrays without a floor": body_of("@", content=b"[" * DEEP + b"]" * DEEP),
    "a member without a floor": body_of("@", more=b',"zz":' + b"[" * DEEP + b"]" * DEEP),
    "objects without a floor": body_of("@", more=b',"tools":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "10 MB of brackets": b"[" * 10_000_000,
    "10 MB of brackets within": b'{"model":"@","messages":' + b"[" * 10_000_000,
    "10 MB of braces": b'{"a":' * 2_000_000,
    "a million quotes": b'"' * 1_000_000,
    "a lone surrogate in the model": b'{"model":"\\ud800","messages":[]}',
    "a surrogate in UTF-8 in the model": b'{"model":"\xed\xa0\x80","messages":[]}',
    "no UTF-8 in the model": b'{"model":"\xff","messages":[]}',
    "no UTF-8 in a name": b'{"\xff":1,"model":"@","messages":[]}',
    "a byte order mark": b"\xef\xbb\xbf" + body_of("@"),
    "UTF-16": body_of("@").decode().encode("utf-16"),
    "NaN": body_of("@", more=b',"temperature":NaN'),
    "Infinity": body_of("@", more=b',"temperature":-Infinity'),
    "words behind it": body_of("@") + b" x",
    "two documents": body_of("@") * 2,
    "comments": b"{/* x */" + body_of("@")[1:],
    "a comma at the end": body_of("@")[:-1] + b",}",
    "single quotes": body_of("@").replace(b'"', b"'"),
    "nothing": b"",
    "spaces": b" " * 1000,
    "null": b"null",
    "an array": b"[]",
    "a number": b"1",
    "a string": b'"x"',
    "no model": b'{"messages":[]}',
    "a model that is a number": b'{"model":1}',
    "a model that is null": b'{"model":null}',
    "a model that is a list": b'{"model":["@"]}',
    "a model without a name": b'{"model":""}',
    "stream: 1": body_of("@", more=b',"stream":1'),
    'stream: "true"': body_of("@", more=b',"stream":"true"'),
    "stream: []": body_of("@", more=b',"stream":[]'),
    "stream_options: 1": body_of("@", more=b',"stream":true,"stream_options":1'),
}


@pytest.mark.parametrize("name", BOMBS)
def test_an_invalid_body_is_a_400_with_the_reason(world: World, name: str) -> None:
    before = world.arrived()
    for model in MODELS.values():
        got = world.post(BOMBS[name].replace(b"@", model.encode()))
        assert got.status == 400
        assert got.error["type"] == "invalid_request_error"
    assert world.arrived() == before


def test_a_body_of_show_that_is_nested_too_deeply_is_a_400(world: World) -> None:
    body = b'{"name":"o","x":%s%s}' % (b"[" * DEEP, b"]" * DEEP)
    assert world.answer(request("POST", "/api/show", body)).status == 400


STRANGE = {
    "a lone surrogate": body_of("@", content=b'"\\ud800 and more, so that it is not the end"'),
    "a low surrogate first": body_of("@", content=b'"\\udc00\\ud800"'),
    "no UTF-8": body_of("@", content=b'"\xff\xfe"'),
    "an overlong form": body_of("@", content=b'"\xc0\xaf"'),
    "a surrogate in UTF-8": body_of("@", content=b'"\xed\xa0\x80"'),
    "a NUL": body_of("@", content=b'"\\u0000"'),
    "a control character": body_of("@", content=b'"\x01"'),
    "a number of 100,000 digits": body_of("@", more=b',"seed":' + b"9" * 100_000),
    "limits of 1,000 digits": body_of("@", more=b',"temperature":' + b"9" * 1000 + b',"max_tokens":' + b"9" * 1000),
    "a limit beyond a double": body_of("@", more=b',"max_tokens":1e400'),
    "negative counts": body_of("@", more=b',"max_tokens":-5,"n":-1'),
    "tools that are 900 deep": body_of(
        "@",
        more=b',"tools":[{"type":"function","function":{"name":"f","parameters":%s{}%s}}]' % (b'{"a":' * 900, b"}" * 900),
    ),
    "a schema that is 900 deep": body_of(
        "@",
        more=b',"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":%s{}%s}}' % (b'{"a":' * 900, b"}" * 900),
    ),
    "arguments without a floor": (
        b'{"model":"@","messages":[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":'
        b'{"name":"f","arguments":"%s"}}]},{"role":"tool","tool_call_id":"1","content":"x"}]}' % (b"[" * DEEP)
    ),
    "100,000 messages": b'{"model":"@","messages":[%s]}' % b",".join([b'{"role":"user","content":"x"}'] * DEEP),
    "messages that are none": b'{"model":"@","messages":[1,null,"x",[],{}]}',
    "an image that is none": body_of("@", content=b'[{"type":"image_url","image_url":{"url":"data:;base64,%%%"}}]'),
    "an image on a disk": body_of("@", content=b'[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]'),
    "100,000 members": body_of("@", more=b"".join(b',"k%d":1' % number for number in range(DEEP))),
}  # fmt: skip


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_body_is_served_or_refused_and_never_a_500(world: World, name: str) -> None:
    for model in MODELS.values():
        got = world.post(STRANGE[name].replace(b"@", model.encode()))
        assert got.status in {200, 400}
        if got.status == 400:
            assert got.error["type"] == "invalid_request_error"
        else:
            assert got.json["choices"]
    assert b"root:" not in b"".join(seen.body for seen in world.up.seen[-3:])


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"zzz","model":"m","messages":[]}',
        b'{"mod\\u0065l":"zzz","model":"m","messages":[]}',
        b'{"model":"zzz","mod\\u0065l":"m","messages":[]}',
        b'{"model":1,"model":"m","messages":[]}',
        b'{ "model" : "zzz" , "messages" : [] , "model" : "m" }',
        b'{"messages":[{"model":"zzz"}],"stream":true,"model":"m","model":"m","stream":false}',
    ],
)
def test_a_duplicate_member_reaches_the_provider_once_as_it_was_parsed(world: World, body: bytes) -> None:
    assert world.post(body).status == 200
    sent = world.up.seen[-1].body
    pairs: list[tuple[str, Any]] = json.loads(sent, object_pairs_hook=lambda found: found)
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names))
    assert dict(pairs)["model"] == "m"


def test_a_body_without_repetition_reaches_the_provider_byte_for_byte(world: World) -> None:
    body = (
        b'{"model":"m","messages":[ {"role":"user",  "content":"\\u00e9 {\\"model\\":1}"}],"zz":1.50, "y":{}}'
    )
    assert world.post(body).status == 200
    assert world.up.seen[-1].body == body


def form(*parts: tuple[str, str], kind: str = "multipart/form-data; boundary=b") -> bytes:
    body = "".join(f"--b\r\n{head}\r\n\r\n{value}\r\n" for head, value in parts) + "--b--\r\n"
    return "\r\n".join(
        [
            "POST /v1/audio/transcriptions HTTP/1.1", "host: localhost", f"content-type: {kind}",
            f"content-length: {len(body)}", "connection: close", "", body,
        ]
    ).encode()  # fmt: skip


MODEL_PART = 'content-disposition: form-data; name="model"'
FILE_PART = 'content-disposition: form-data; name="file"; filename="model"'


@pytest.mark.parametrize(
    "data",
    [
        form((MODEL_PART, "m"), (FILE_PART, "x"), (MODEL_PART, "zzz")),
        form((FILE_PART, "x")),
        form(*[(FILE_PART, "x")] * 100, (MODEL_PART, "m")),
        form((MODEL_PART, "m"), *[(FILE_PART, "x")] * 100),
        form((MODEL_PART, "m"), kind="multipart/form-data"),
        form((MODEL_PART, "m"), kind="multipart/form-data; xboundary=b; boundary=c"),
        form((MODEL_PART, "x" * 600)),
        form((MODEL_PART, "m"))[:-20] + b"x" * 20,
    ],
)
def test_a_form_with_an_ambiguous_model_is_a_400(world: World, data: bytes) -> None:
    before = world.arrived()
    got = world.answer(data)
    assert got.status == 400
    assert got.error["type"] == "invalid_request_error"
    assert world.arrived() == before


HOSTILE_NAMES = [
    "wild\r\nx-evil: 1", "wild\n", "wild\0", "wild\x1b[2J", "wild/../../etc/passwd", "wild?x=1#y", "wild é\U0001f600", "wild%0d%0ax-evil:1",
    "wild" + "x" * 500, "wild\u202e", "wild: y", "wild ", "wild\"'<script>", "wild\u2028", "wild\\", "wild\ufeff", "wild,more=1",
]  # fmt: skip


@pytest.mark.parametrize("kind", ["wild", "wilder"])
@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=range(len(HOSTILE_NAMES)))
def test_a_model_name_with_special_characters_stays_a_name(world: World, name: str, kind: str) -> None:
    name = kind + name.removeprefix("wild")
    for body in (chat(name), chat(name, stream=True), chat("no-" + name)):
        got = world.answer(request("POST", CHAT, body))
        assert got.status == (404 if b'"no-' in body else 200)
        assert "x-evil" not in got.headers
        if got.status == 200:
            assert got.headers["x-modelplex-model"].isascii()
            seen = world.up.seen[-1]
            assert seen.json["model"] == name
            assert "x-evil" not in seen.headers
            assert seen.target.partition("?")[0].count("/") == 3
            assert ".." not in seen.target.split("/")
    line = world.do(_last_call(world.gateway, "no-" + name))
    assert line["status"] == 404


async def _last_call(gateway: Gateway, asked: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    def look() -> bool:
        found[:] = [line for line in gateway.lines() if line.get("model_asked") == asked]
        return bool(found)

    await until(look, what=f"the line of {asked!r}")
    return found[-1]


# --- generated requests

WORDS = st.sampled_from(
    "user system assistant tool developer function text image_url input_audio file tool_calls auto none required json_object json_schema "
    "refusal length stop x".split()
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | WORDS
    | st.text(max_size=8)
)
NAMES = st.sampled_from(
    "role content type text image_url url name arguments function id tool_call_id tool_calls parameters properties strict schema json_schema "
    "input_audio data format file file_data refusal reasoning_content cache_control index detail".split()
) | st.text(max_size=5)
ANYTHING = st.recursive(
    LEAVES,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(NAMES, inside, max_size=4),
    max_leaves=12,
)
PART = st.fixed_dictionaries(
    {"type": WORDS},
    optional={"text": ANYTHING, "image_url": ANYTHING, "file": ANYTHING, "input_audio": ANYTHING},
)
MESSAGE_LIKE = st.fixed_dictionaries(
    {"role": WORDS | ANYTHING},
    optional={
        "content": st.text(max_size=5) | st.lists(PART, max_size=3) | ANYTHING,
        "name": ANYTHING,
        "tool_calls": st.lists(
            st.fixed_dictionaries({"id": st.text(max_size=3), "type": WORDS, "function": ANYTHING}),
            max_size=2,
        )
        | ANYTHING,
        "tool_call_id": ANYTHING,
        "refusal": ANYTHING,
        "reasoning_content": ANYTHING,
    },
)
MEMBERS = dict.fromkeys(
    (
        "max_tokens max_completion_tokens temperature top_p n stop tools tool_choice response_format stream_options logprobs top_logprobs "
        "reasoning_effort parallel_tool_calls logit_bias user seed metadata suffix echo best_of encoding_format dimensions modalities"
    ).split(),
    ANYTHING,
)
CALLS = st.fixed_dictionaries(
    {"model": st.sampled_from([*MODELS.values(), "o", "a"])},
    optional={
        "messages": st.lists(MESSAGE_LIKE | ANYTHING, max_size=4) | ANYTHING,
        "prompt": st.text(max_size=5) | ANYTHING,
        "input": st.text(max_size=5) | ANYTHING,
        "stream": st.booleans() | ANYTHING,
        **MEMBERS,
    },
)
PATHS = (
    "chat/completions",
    "completions",
    "embeddings",
    "moderations",
    "rerank",
    "images/generations",
    "audio/speech",
)


@settings(
    max_examples=400,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)
@given(path=st.sampled_from((*PATHS[:3], *PATHS[:3], *PATHS)), body=CALLS)
def test_every_request_gets_a_response_or_an_error_in_the_shape_of_openai(
    world: World, path: str, body: dict[str, Any]
) -> None:
    connection = http.client.HTTPConnection(*world.gateway.address, timeout=WAIT_S)
    try:
        connection.request("POST", f"/v1/{path}", json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    assert response.status in {200, 400, 404}, (response.status, data)
    if response.status != 200:
        error = json.loads(data)["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert isinstance(error["message"], str)
    elif response.getheader("content-type", "").startswith("text/event-stream"):
        assert data.endswith(b"data: [DONE]\n\n"), data
        assert b'"error"' not in data
    else:
        json.loads(data)


# --- faulty providers

FLOOD = b"x" * 300_000
NO_ANSWERS = {
    "without a floor": b'{"choices":%s,"content":%s,"message":%s}' % ((b"[" * 5000 + b"]" * 5000,) * 3),
    "an unknown member without a floor": b'{"zz":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "no UTF-8": b'{"choices":[{"index":0,"message":{"role":"assistant","content":"\xff"},"finish_reason":"stop"}],'
    b'"content":[{"type":"text","text":"\xff"}],"message":{"role":"assistant","content":"\xff"},"done":true}',
    "lone surrogates": b'{"choices":[{"index":0,"message":{"role":"assistant","content":"\\ud800 x"},"finish_reason":"stop"}],'
    b'"content":[{"type":"text","text":"\\ud800 x"}],"message":{"role":"assistant","content":"\\ud800 x"},"done":true}',
    "half": b'{"choices":[{"index":0,',
    "nothing": b"",
    "null": b"null",
    "a list": b"[[]]",
    "a number": b"9" * 10_000,
    "wrong types": b'{"choices":1,"content":1,"message":1,"done":1,"usage":[],"model":{},"id":[],"error":0}',
    "types within": b'{"choices":[null,1,{}],"content":[null,1,{}],"message":{"content":{},"tool_calls":[1]},"done":true}',
    "an error that is a number": b'{"error":1,"type":"error"}',
    "an error without words": b'{"error":{},"type":"error"}',
    "an error without a floor": b'{"type":"error","error":'
    + b'{"message":' * 5000
    + b"1"
    + b"}" * 5000
    + b"}",
    "a page": b"<!doctype html><title>502</title>",
    "zeros": bytes(5000),
    "a flood": FLOOD,
}


ODD_BUT_WHOLE = {"no UTF-8", "lone surrogates"}
"""Not valid JSON, but complete: what a provider sends to its own clients is passed on."""


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", NO_ANSWERS)
def test_an_invalid_response_is_the_providers_error_and_never_a_normal_end(
    world: World,
    name: str,
    streamed: bool,
) -> None:
    said = NO_ANSWERS[name]
    good = world.up.scripts
    for status in (200, 400, 500):
        for form in ("sse", "line", "plain"):
            label = {"sse": "text/event-stream", "line": "application/x-ndjson", "plain": "application/json"}[
                form
            ]
            world.up.scripts = [
                answer(
                    b"data: " + said + b"\n\n" if form == "sse" else said + b"\n", status=status, label=label
                )
            ]
            try:
                for model in MODELS.values():
                    got = world.answer(request("POST", CHAT, chat(model, stream=streamed)))
                    if got.status == 200 and streamed and name in ODD_BUT_WHOLE:
                        assert b'"stop"' in got.body
                    elif got.status == 200 and streamed:
                        assert b'"error"' in got.body
                        assert b"[DONE]" not in got.body
                    elif got.status == 200:
                        json.loads(got.body.decode("utf-8", "replace"))
                    else:
                        assert got.status in ({502} if status == 200 else {400, 404, 502})
                        assert got.error["code"] != "gateway_error"
            finally:
                world.up.scripts = good


# --- disconnects


async def settled(gateway: Gateway, up: Scripted, *, descriptors: int, seconds: float = WAIT_S) -> None:
    """No upstream request, no running request and no further open descriptor is left."""
    try:
        async with asyncio.timeout(seconds):
            while (
                await gateway.metric("modelplex_in_flight") > 0
                or gateway.descriptors() > descriptors
                or len(up.tasks) > 0
            ):
                await asyncio.sleep(0.02)
    except TimeoutError:
        flying = await gateway.metric("modelplex_in_flight")
        raise AssertionError(
            f"left over: {flying} in flight, {gateway.descriptors()} descriptors (were {descriptors}), {len(up.tasks)} upstream"
        ) from None


async def test_a_thousand_clients_that_disconnect_at_any_moment_leave_nothing_behind(tmp_path: Path) -> None:
    dice = random.Random(7)  # the same moments in each run
    pieces = chat_stream(*"abcdefgh")

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Respond at once or never, completely or in part; each connection has one response, so
        that its end can be seen.
        """
        if dice.random() < 0.3:
            await reader.read()
            raise ConnectionResetError
        body = up.seen[-1].json
        if not body.get("stream"):
            await answer(chat_answer(), connection="close")(reader, writer)
            raise ConnectionResetError
        stays = dice.random() < 0.7

        async def stay(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
            if stays:
                await reader.read()

        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        await stream(*pieces, then=stay, head=head)(reader, writer)
        raise ConnectionResetError

    async def leave(number: int) -> None:
        async with gate:
            reader, writer = await connect(gateway.socket if number % 2 else gateway.address)
            data = request("POST", CHAT, chat(stream=number % 3 > 0, text="x" * dice.choice((1, 50_000))))
            moment = dice.randrange(5)
            if moment == 0:
                data = data[: dice.randrange(1, 80)]
            elif moment == 1:
                data = data[: dice.randrange(80, len(data))]
            try:
                with suppress(ConnectionError, TimeoutError):
                    writer.write(data)
                    await writer.drain()
                    if moment == 3:
                        async with asyncio.timeout(dice.random() / 50):
                            await reader.read(dice.randrange(1, 2000))
                    elif moment == 4:
                        writer.write_eof()
                        async with asyncio.timeout(WAIT_S):
                            while await reader.read(2**16):
                                pass
            finally:
                if dice.random() < 0.5:
                    writer.transport.abort()
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()

    async with provider() as up, served(one(up.url), folder=tmp_path) as gateway:
        up.scripts = [answer(chat_answer(), connection="close")]
        assert (await gateway.chat()).status == 200
        up.scripts = [act]
        await settled(gateway, up, descriptors=10_000)
        descriptors = gateway.descriptors()
        gate = asyncio.Semaphore(50)
        await asyncio.gather(*(leave(number) for number in range(1000)))
        await settled(gateway, up, descriptors=descriptors)
        up.scripts = [answer(chat_answer(), connection="close")]
        assert (await gateway.chat()).status == 200
        events = {line["event"] for line in gateway.lines()}
    assert events == {"started", "call"}


HOLDER = """
import socket, sys
path, count, body = sys.argv[1], int(sys.argv[2]), sys.argv[3].encode()
held = []
for _ in range(count):
    one = socket.socket(socket.AF_UNIX)
    one.connect(path)
    one.sendall(b"POST /v1/chat/completions HTTP/1.1\\r\\nhost: x\\r\\ncontent-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n" % len(body) + body)
    held.append(one)
for one in held:
    assert one.recv(65536).startswith(b"HTTP/1.1 200")
print("held", flush=True)
sys.stdin.read()
"""


async def test_the_death_of_a_client_with_300_streams_ends_them_all_upstream(tmp_path: Path) -> None:
    async def hold(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()
        raise ConnectionResetError

    async with provider() as up, served(one(up.url), folder=tmp_path) as gateway:
        up.scripts = [answer(chat_answer(), connection="close")]
        assert (await gateway.chat()).status == 200
        await settled(gateway, up, descriptors=10_000)
        descriptors = gateway.descriptors()
        up.scripts = [stream(*chat_stream("Hi")[:2], then=hold)]
        arguments = [sys.executable, "-c", HOLDER, gateway.socket, "300", chat(stream=True).decode()]
        client = await asyncio.create_subprocess_exec(
            *arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert client.stdout is not None
            async with asyncio.timeout(WAIT_S):
                assert await client.stdout.readline() == b"held\n"
            assert len(up.tasks) == 300
            assert await gateway.metric("modelplex_in_flight") == 300
        finally:
            os.kill(client.pid, signal.SIGKILL)
            await client.wait()
        await settled(gateway, up, descriptors=descriptors, seconds=10)
        ends = [line["outcome"] for line in await gateway.calls(301)]
        assert ends == ["ok"] + ["client_closed"] * 300


MEGABYTE = 1_000_000
GROWTH = 40 * MEGABYTE
"""Far below 2,000 bodies (2 GB), or one in fifty of them, and above what allocators keep."""


@pytest.mark.slow
async def test_memory_does_not_grow_with_the_number_of_large_requests(tmp_path: Path) -> None:
    body = chat(text="x" * MEGABYTE, store=False)  # which a sealed request to OpenAI says anyway
    data = request("POST", CHAT, body, close=False)

    async def some(count: int) -> None:
        reader, writer = await connect(gateway.socket)
        for _ in range(count):
            writer.write(data)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
        writer.close()

    async with provider() as up, served(one(up.url), folder=tmp_path) as gateway:

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert len(up.seen.pop().body) == len(body)
            await answer(chat_answer())(reader, writer)

        up.scripts = [act]
        await asyncio.gather(*(some(50) for _ in range(4)))
        before = gateway.resident()
        await asyncio.gather(*(some(450) for _ in range(4)))
        after = gateway.resident()
    assert after - before < GROWTH, (before, after)


async def test_each_of_200_streams_gets_only_its_own_bytes(tmp_path: Path) -> None:
    together = asyncio.Event()

    def pieces(name: str) -> list[bytes]:
        said = [chunk({"content": f"{name}-{number};"}) for number in range(40)]
        return [chunk({"role": "assistant"}), *said, chunk({}, finish="stop"), b"data: [DONE]\n\n"]

    async with provider() as up, served(one(up.url), folder=tmp_path) as gateway:

        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            name = up.seen[-1].json["messages"][0]["content"]
            if len(up.seen) == 200:
                together.set()
            await together.wait()
            await stream(*pieces(name))(reader, writer)

        up.scripts = [act]
        names = [f"caller-{number}" for number in range(200)]
        got = await asyncio.gather(
            *(
                exchange(
                    gateway.socket if n % 2 else gateway.address,
                    request(
                        "POST", CHAT, chat(text=name, stream=True, stream_options={"include_usage": True})
                    ),
                )
                for n, name in enumerate(names)
            )
        )
    for name, data in zip(names, got, strict=True):
        assert read_response(data).body == b"".join(pieces(name))
