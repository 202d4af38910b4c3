"""A request gets the same bytes and the same Record, whether decisions of earlier requests are
reused for it or not (docs/decisions/0024-calls-within-callbacks.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import Running, gateway
from tests.pairs import Answer, row, spoken
from tests.processes import Address
from tests.reuse import (
    JSON,
    Kept,
    Response,
    count_planned,
    get,
    learn_nothing,
    neutral,
    neutral_head,
    neutral_record,
    post,
    reuse_nothing,
    run_as_tasks,
)
from tests.sealed import DIALECTS, FORMS, NO_RETRIES, path_of, plain
from tests.upstreams import (
    DONE,
    Act,
    Scripted,
    answer,
    chat_answer,
    chat_stream,
    chunk,
    hang_up,
    provider,
    raw,
    stream,
)

TOKEN = "a-token-of-reader"
LISTENERS = ("http", "sealed", "open", "strict")
FORM = (
    b'--BOUND\r\ncontent-disposition: form-data; name="model"\r\n\r\nm-chat\r\n--BOUND\r\n'
    b'content-disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--BOUND--\r\n'
)
BETA = ("anthropic-version: 2026-10-21", "anthropic-beta: context-management-2025-06-27, new-2026-11-01")
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACES = (
    (f"traceparent: 00-{TRACE}-00f067aa0ba902b7-01", "tracestate: rojo=1"),
    (f"traceparent: 00-{TRACE}-00f067aa0ba902b7-00",),
    ("traceparent: 00-bad",),
)
DEEP = b'{"model": "m-chat", "messages": ' + b"[" * 3000 + b"]" * 3000 + b"}"


@dataclass(frozen=True)
class Case:
    """One request, and what the provider of the dialect does with it."""

    name: str
    data: bytes
    act: Act = field(default=hang_up, repr=False)
    dialect: str = "chat"
    at: str = "http"
    is_call: bool = True
    """It has a Record."""


def case(name: str, target: str, body: Any, act: Act, *more: str, dialect: str = "chat", at: str = "http", is_call: bool = True) -> Case:  # fmt: skip
    data = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
    return Case(f"{name} at {at}", post(target, data, headers=(JSON, *more)), act, dialect, at, is_call)


def conversations() -> Iterator[Case]:
    """Every form before every dialect, streamed or not, on every kind of listener."""
    said = Answer(text=("Hel", "lo wor", "ld"))
    for form in FORMS:
        for dialect in DIALECTS:
            for streamed in (False, True):
                body = plain(form, f"m-{dialect}") | ({} if form == "gemini" else {"stream": streamed})
                target = path_of(form, f"m-{dialect}", stream=streamed)
                act = spoken(dialect, said, stream=streamed)
                for at in LISTENERS:
                    name = f"{form} to {dialect}{' streamed' * streamed}"
                    yield case(name, target, body, act, dialect=dialect, at=at)


def others() -> Iterator[Case]:
    """Other endpoints, forwarded headers, tokens, aliases, and bodies that are refused."""
    said = answer(chat_answer())
    body = plain("chat", "m-chat")
    plain_json = answer(
        {
            "object": "list",
            "data": [{"index": 0, "embedding": [0.5]}],
            "usage": {"prompt_tokens": 3, "total_tokens": 3},
        }
    )
    for at in LISTENERS:
        for path, more in (
            ("embeddings", {"input": "Hi"}),
            ("completions", {"prompt": "Hi"}),
            ("moderations", {"input": "Hi"}),
            ("rerank", {"query": "Hi", "documents": ["a"]}),
            ("images/generations", {"prompt": "Hi"}),
        ):
            yield case(path, f"/v1/{path}", {"model": "m-chat", **more}, plain_json, at=at)
        multipart = post(
            "/v1/audio/transcriptions", FORM, headers=("content-type: multipart/form-data; boundary=BOUND",)
        )
        yield Case(f"a form at {at}", multipart, answer({"text": "Hi"}), at=at)
        for dialect in ("messages", "chat"):
            spoke = spoken(dialect, Answer(text=("Hi",)), stream=False)
            count = plain("messages", f"m-{dialect}")
            yield case(f"betas to {dialect}", "/v1/messages", count, spoke, *BETA, dialect=dialect, at=at)
            del count["max_tokens"]
            counted = answer({"input_tokens": 7})
            yield case(f"count by {dialect}", "/v1/messages/count_tokens", count, counted, dialect=dialect, at=at)  # fmt: skip
        yield case("a count of nobody", "/v1/messages/count_tokens", plain("messages", "m-messages"), answer(b"{}", status=404), dialect="messages", at=at)  # fmt: skip
        yield case("a count", "/v1/messages/count_tokens", plain("messages", "m-messages"), answer({"input_tokens": 7}), dialect="messages", at=at)  # fmt: skip
        yield case("a token", "/v1/chat/completions", body, said, f"authorization: Bearer {TOKEN}", at=at)
        yield case("another token", "/v1/chat/completions", body, said, "authorization: Bearer x", at=at)
        yield case("an alias", "/v1/chat/completions", plain("chat", "fast"), said, at=at)
        for number, trace in enumerate(TRACES):
            yield case(f"trace {number}", "/v1/chat/completions", body, said, *trace, at=at)
            yield case(f"trace {number} of an agent", "/v1/chat/completions", body, said, *trace, f"authorization: Bearer {TOKEN}", at=at)  # fmt: skip
        yield case("spaces", "/v1/chat/completions", json.dumps(body | {"user": "u", "top_p": 0.5}).encode(), said, at=at)  # fmt: skip
        yield case("a provider's name", "/v1/chat/completions", plain("chat", "chat/m-chat"), said, at=at)
        yield case("two providers", "/v1/chat/completions", plain("chat", "both"), said, at=at)
        yield case("an unknown model", "/v1/chat/completions", plain("chat", "none"), said, at=at)
        yield case("no model", "/v1/chat/completions", {"messages": []}, said, at=at)
        yield case("no JSON", "/v1/chat/completions", b'{"model": "m-chat"', said, at=at)
        yield case("a deep body", "/v1/chat/completions", DEEP, said, at=at)
        yield case("no body", "/v1/chat/completions", b"", said, at=at)
        yield case("large", "/v1/chat/completions", plain("chat", "m-chat", user="u" * 90_000), said, at=at)
        yield case("too large", "/v1/chat/completions", plain("chat", "m-chat", user="u" * 300_000), said, at=at)  # fmt: skip
        image = {"type": "image_url", "image_url": {"url": "https://evil.example/a.png"}}
        messages = [{"role": "user", "content": [image]}]
        yield case("a policy", "/v1/chat/completions", {"model": "m-chat", "messages": messages}, said, at=at)
        yield case("metadata", "/v1/chat/completions", plain("chat", "m-chat", metadata={"a": "b"}), said, at=at)  # fmt: skip
        yield case("no path", "/v1/nothing", body, said, at=at, is_call=False)
        for path in ("/v1/models", "/v1/models/m-chat", "/health", "/v1/chat/completions", "/v1beta/models"):
            yield Case(f"GET {path} at {at}", get(path), at=at, is_call=False)
        yield case("two hosts", "/v1/chat/completions", body, said, "host: localhost", at=at, is_call=False)
        yield case(
            "an encoding", "/v1/chat/completions", body, said, "content-encoding: gzip", at=at, is_call=False
        )


def faults() -> Iterator[Case]:
    """Errors of the provider: instead of a response, and in the middle of one."""
    events = chat_stream("Hello", " world")
    error = {"error": {"message": "Bad sk-ours", "type": "t", "code": "c", "param": None}}
    in_stream = b"data: " + json.dumps(error).encode() + b"\n\n"
    deep = b'data: {"choices": ' + b"[" * 900 + b"\n\n"
    nested = b'data: {"choices": ' + b"[" * 950 + b"]" * 950 + b"}\n\n"
    for at in LISTENERS:
        for streamed in (False, True):
            asked = plain("chat", "m-chat", stream=streamed)
            name = " of a stream" * streamed
            for status in (400, 401, 403, 404, 413, 429, 500, 503, 529, 799):
                act = answer(error, status=status, retry_after="0", x_ratelimit_limit_requests="9")
                yield case(f"{status}{name}", "/v1/chat/completions", asked, act, at=at)
            yield case(f"a page{name}", "/v1/chat/completions", asked, answer(b"<html>", label="text/html"), at=at)  # fmt: skip
            yield case(f"no HTTP{name}", "/v1/chat/completions", asked, raw(b"SSH-2.0-x\r\n\r\n"), at=at)
            yield case(f"a reset{name}", "/v1/chat/completions", asked, hang_up, at=at)
        asked = plain("chat", "m-chat", stream=True)
        for fault, act in (
            ("a cut", stream(*events[:2], end=False)),
            ("an end too early", stream(*events[:2])),
            ("an error", stream(*events[:2], in_stream)),
            ("an error at first", stream(in_stream)),
            ("JSON that ends", stream(*events[:2], deep, DONE)),
            ("nesting", stream(*events[:2], nested, *events[2:])),
            ("no usage", stream(*chat_stream("Hi", usage=False))),
            ("a large event", stream(*events[:2], chunk({"content": "x" * 30_000}), *events[2:])),
        ):
            yield case(f"{fault} in a stream", "/v1/chat/completions", asked, act, at=at)
            translated = plain("messages", "m-chat", stream=True)
            yield case(f"{fault} in a translated stream", "/v1/messages", translated, act, at=at)


@dataclass(frozen=True)
class Outcome:
    """What the provider got, what the client got, and the Record."""

    sent: tuple[bytes, ...]
    got: Response
    record: str | None


@dataclass
class World:
    """A gateway, with providers that other gateways share."""

    gw: Running
    providers: Mapping[str, Scripted]
    addresses: dict[str, Address]

    async def run(self, case: Case, client: Kept) -> Outcome:
        for up in self.providers.values():
            up.seen.clear()
            up.scripts[:] = [case.act]
        before = len(self.gw.records)
        got = neutral(await client.send(case.data))
        sent = tuple(
            neutral_head(seen.head) + seen.body for up in self.providers.values() for seen in up.seen
        )
        record = None
        if case.is_call:
            await self.gw.record(before + 1)
        if len(self.gw.records) > before:
            record = neutral_record(self.gw.records[before])
        assert len(self.gw.records) <= before + 1
        return Outcome(sent, got, record)

    async def counters(self) -> list[str]:
        """The lines of the metrics that depend on no time."""
        async with Kept(self.addresses["http"]) as client:
            got = await client.send(get("/_internal/metrics"))
        lines = got.body.decode().splitlines()
        return sorted(line for line in lines if re.match(r"modelplex_(requests|attempts|errors|agent|budget|in_fl)", line))  # fmt: skip


@asynccontextmanager
async def serving(folder: Path, providers: Mapping[str, Scripted]) -> AsyncGenerator[World]:
    config = "[server]\nmax_request_size = 200000\n" + "".join(
        row(
            name,
            up.url,
            models=f'["m-{name}"]' if name != "chat" else '["m-chat", "both"]',
            trace_context=True,
        )
        for name, up in providers.items()
    )
    config = config.replace('models = ["m-responses"]', 'models = ["m-responses", "both"]')
    sockets = {at: folder / f"{at}.sock" for at in ("open", "strict")}
    config += f'{NO_RETRIES}\n[aliases]\nfast = ["chat/m-chat", "responses/m-responses"]\n'
    config += f'[[agents]]\nname = "open"\nsocket = "{sockets["open"]}"\npolicy = "open"\n'
    config += '[[teams]]\nname = "all"\nbudget = { usd = 9000.0, tokens = 9000000, per = "total" }\n'
    config += f'[[agents]]\nname = "strict"\nteam = "all"\nsocket = "{sockets["strict"]}"\nbudget = {{ usd = 1000.0, per = "total" }}\n'
    config += f'[[agents]]\nname = "reader"\ntoken = "{TOKEN}"\nteam = "all"\nmodels = ["m-*"]\n'
    async with gateway(config, folder=folder) as gw:
        host, _, port = gw.base.removeprefix("http://").partition(":")
        addresses: dict[str, Address] = {at: str(path) for at, path in sockets.items()}
        yield World(gw, providers, {"http": (host, int(port)), "sealed": gw.socket, **addresses})


PLANNED = {"conversations": 16, "others": 20, "faults": 0}
"""So many of the calls were answered by a plan, at least."""
CASES = {"conversations": conversations, "others": others, "faults": faults}


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("ways", ["reused", "as tasks"])
async def test_a_request_is_served_alike_with_and_without_what_earlier_ones_left(
    kind: str, ways: str, tmp_path: Path
) -> None:
    cases = list(CASES[kind]())
    async with AsyncExitStack() as stack:
        providers = {name: await stack.enter_async_context(provider()) for name in DIALECTS}
        wanted, counted = await general(cases, providers, tmp_path / "general")
        with pytest.MonkeyPatch.context() as patch:
            learn_nothing(patch)
            planned = count_planned(patch)
            if ways == "as tasks":
                run_as_tasks(patch)
            (tmp_path / "warm").mkdir()
            async with serving(tmp_path / "warm", providers) as world, AsyncExitStack() as kept:
                clients = {
                    at: await kept.enter_async_context(Kept(address))
                    for at, address in world.addresses.items()
                }
                for times in (2, 2):  # at once, and again after all the others
                    for each in cases:
                        for _ in range(times):
                            got = await world.run(each, clients[each.at])
                            assert got == wanted[each.name], each
                assert await world.counters() == counted
            assert len(planned) >= PLANNED[kind]


async def general(
    cases: list[Case], providers: Mapping[str, Scripted], folder: Path
) -> tuple[dict[str, Outcome], list[str]]:
    """The outcomes where nothing is reused and each request has a new connection, and the metrics
    after each request came four times.
    """
    folder.mkdir()
    outcomes: dict[str, Outcome] = {}
    with pytest.MonkeyPatch.context() as patch:
        reuse_nothing(patch)
        learn_nothing(patch)
        async with serving(folder, providers) as world:
            for each in cases:
                for _ in range(4):
                    async with Kept(world.addresses[each.at]) as client:
                        outcomes[each.name] = await world.run(each, client)
            assert len(outcomes) == len(cases)
            return outcomes, await world.counters()
